"""How a pass's output channels re-enter a block when their number differs (BackRes)."""

from typing import NamedTuple

import torch
from torch import Tensor

from spikeloom.nets.spec.net import Fit


class FitState(NamedTuple):
    """Channels that "topk" lets through, per sample; `chosen` once the sample was first active.

    Shape:
        channels: [B, C_in]; chosen: [B].
    """

    channels: Tensor
    chosen: Tensor


def fit_channels(
    y: Tensor, c_in: int, rule: Fit, kept: Tensor | None, state: FitState | None
) -> tuple[Tensor, FitState | None]:
    """Map [B, C_out, ...] to [B, c_in, ...] for the next pass, at one step.

    "topk" takes, per sample, the channels with the highest mean over space at the first step at
    which any of them is non-zero (before that all choices give zeros), and keeps them for the
    rest of the sequence, so that a channel's state never mixes two sources. Ties go to the lower
    index; kept channels stay in order. Too few channels are padded with zeros.

    Source:
        Panda et al. 2020, sec. 4 (64 -> 128 example); zero padding and fixed choice are ours.
    """
    c_out = y.shape[1]
    if c_out == c_in:
        return y, state
    if c_out < c_in:
        pad = y.new_zeros((y.shape[0], c_in - c_out, *y.shape[2:]))
        return torch.cat([y, pad], dim=1), state
    if rule == "drop":
        assert kept is not None
        return y.index_select(1, kept), state
    if rule == "average":
        groups = y.reshape(y.shape[0], c_out // c_in, c_in, *y.shape[2:])
        return groups.mean(1), state
    assert rule == "topk"
    activity = y.detach().flatten(2).mean(2) if y.dim() > 2 else y.detach()
    order = activity.argsort(dim=1, descending=True, stable=True)[:, :c_in].sort(1).values
    active = (activity != 0).any(1)
    if state is None:
        state = FitState(order, active)
    else:
        fresh = active & ~state.chosen
        state = FitState(
            torch.where(fresh.unsqueeze(1), order, state.channels), state.chosen | active
        )
    index = state.channels.reshape(*state.channels.shape, *[1] * (y.dim() - 2))
    return y.gather(1, index.expand(-1, -1, *y.shape[2:])), state
