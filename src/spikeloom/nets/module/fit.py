"""Fits the output channels of a pass to the input channels of the next one (BackRes)."""

from typing import NamedTuple

import torch
from torch import Tensor

from spikeloom.nets.spec.net import Fit


class FitState(NamedTuple):
    """Channels that "topk" keeps for each sample.

    `chosen` is true once the sample was active; from then on its channels stay the same.

    Shape:
        channels: [B, C_in]; chosen: [B].
    """

    channels: Tensor
    chosen: Tensor


def fit_channels(
    y: Tensor, c_in: int, rule: Fit, kept: Tensor | None, state: FitState | None
) -> tuple[Tensor, FitState | None]:
    """Map the output of a pass to the number of channels of the next pass, at one step.

    "topk" chooses, for each sample, the channels with the highest mean over space. It chooses at
    the first step at which any of them is not zero; before, every choice gives zeros. The choice
    then holds for the rest of the sequence, so that the state of a channel never mixes two
    sources. Ties go to the lower index, and chosen channels keep their order. "drop" keeps the
    channels `kept`, "average" takes the mean of groups of channels. If there are too few channels,
    zeros are appended.

    Args:
        y: output of the pass.
        c_in: number of channels of the next pass.
        rule: "none", "drop", "topk" or "average".
        kept: channels that "drop" keeps.
        state: choice of "topk" at earlier steps; None at the first step.

    Returns:
        The fitted output, and the choice of "topk".

    Shape:
        y: [B, C_out, ...]; result: [B, c_in, ...].

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
