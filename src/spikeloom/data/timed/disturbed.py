"""Augmentation of event data: random loss of events, and random shifts in time."""

import torch
from torch import Tensor

from spikeloom.base.seeding import SampleRng


def disturbed(x: Tensor, rng: SampleRng, *, drop: float, jitter: int) -> Tensor:
    """Drop events at random and shift the others in time, each event independently.

    An event is lost with probability `drop`. Otherwise it is shifted by a whole number of steps,
    uniform in -jitter .. jitter. Events shifted before the first or after the last step are lost.
    Event k of a sample (counted in memory order: time, then position) uses numbers 2 k and 2 k + 1
    of the sample's random stream, so the result does not depend on the batch.

    Args:
        x: booleans, or numbers of events; a negative number counts events of value -1.
        rng: random streams of the samples; the stream "events" is used.
        drop: probability of losing an event, in [0, 1).
        jitter: largest shift in steps, 0 or more.

    Shape:
        x: [B, T, ...]; result: shape and type of x.
    """
    batch, steps = x.shape[:2]
    flat = x.flatten(1).long()  # [B, T * S]
    total = flat.abs().sum(1)
    most = int(total.max()) if batch else 0
    sample, place = flat.nonzero().unbind(1)
    value = flat[sample, place]
    copies = value.abs()
    sample, place, sign = (one.repeat_interleave(copies) for one in (sample, place, value.sign()))
    number = torch.arange(len(sample), device=x.device) - (total.cumsum(0) - total)[sample]
    draws = rng.stream_for("events").numbers(2 * most).to(x.device)  # [B, 2 * most]
    lost, late = draws[sample, 2 * number] < drop, draws[sample, 2 * number + 1]
    size = flat.shape[1] // max(steps, 1)
    step = place // size + (late * (2 * jitter + 1)).long() - jitter
    stays = ~lost & (step >= 0) & (step < steps)
    target = sample * flat.shape[1] + step * size + place % size
    out = torch.zeros_like(flat).view(-1).index_add_(0, target[stays], sign[stays])
    if x.dtype == torch.bool:
        return (out != 0).view(x.shape)
    if not x.is_floating_point():
        limits = torch.iinfo(x.dtype)
        out = out.clamp(limits.min, limits.max)
    return out.to(x.dtype).view(x.shape)
