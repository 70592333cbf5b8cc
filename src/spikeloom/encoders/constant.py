"""Constant code: the sample itself, at every step."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeloom.base.fields import Checked
from spikeloom.base.seeding import Rng
from spikeloom.base.types import InputKind, Values
from spikeloom.encoders.base import ENCODERS, Encoder, check_call


@ENCODERS.register("constant")
@dataclass(frozen=True)
class Constant(Checked, Encoder):
    """Direct code: every step gets the same real-valued sample, x[t] = x.

    The first layer makes the spikes, so its products are real-valued (MAC, not AC). The result is
    an expanded view: T steps take the memory of one. Writing into it would write into every step.

    Source:
        Panda et al. 2020 (rate-fed layers of a hybrid net); usual in conversion and recent BPTT.

    Example:
        >>> import torch
        >>> xs = Constant().encode(torch.rand(2, 3), 4, torch.Generator())
        >>> xs.shape, xs.stride(0)
        (torch.Size([4, 2, 3]), 0)
    """

    about: ClassVar[str] = "the same real values at every step; the first layer makes the spikes"
    called: ClassVar[str] = "encoders.constant"

    def encode(self, x: Tensor, steps: int, rng: Rng) -> Tensor:
        """Repeat `x` over time without copying it.

        Shape:
            x: [B, ...]; result: [T, B, ...], stride 0 in time.

        Raises:
            ConfigError: steps below 1.
            ShapeError: x has no batch dimension or is no float tensor.
        """
        check_call("encoders.constant", x, steps)
        return x.unsqueeze(0).expand(steps, *x.shape)  # [T, B, ...]

    def gives(self, values: Values) -> InputKind:
        """Return "constant": real values, whatever they are."""
        return "constant"
