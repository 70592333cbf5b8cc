"""Random changes of event data: events that are lost, and events that come early or late."""

import torch
from torch import Tensor

from spikeloom.base.seeding import SampleRng


def disturbed(x: Tensor, rng: SampleRng, *, drop: float, jitter: int) -> Tensor:
    """Drop events and move the others in time, each by a draw of its own.

    Event k of a sample, counted along time and place, takes the numbers 2 k and 2 k + 1 of the
    sample's stream: it is lost with probability `drop`, else moved by -jitter .. jitter steps,
    all equally likely. What leaves the recording is lost.

    Args:
        x: booleans, or numbers of events; negative ones count events of the value -1.
        rng: of the samples; the stream "events" of it is used.
        drop: probability, in [0, 1).
        jitter: steps, 0 or more.

    Shape:
        x: [B, T, ...]; result: as x, of its type.
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
