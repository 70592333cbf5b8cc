"""Frames: samples that already have a time axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeloom.base.errors import ShapeError
from spikeloom.base.fields import Checked
from spikeloom.base.seeding import Rng
from spikeloom.base.types import InputKind, Values
from spikeloom.encoders.base import ENCODERS, Encoder, check_call


@ENCODERS.register("frames")
@dataclass(frozen=True)
class Frames(Checked, Encoder):
    """Samples with their own time, x[b, t], put time first: the result is a view of x.

    Nothing is cut, padded or repeated: a train of another length than the run's is an error.

    Source:
        ours.

    Example:
        >>> import torch
        >>> Frames().encode(torch.zeros(8, 5, 2, 4, 4), 5, torch.Generator()).shape
        torch.Size([5, 8, 2, 4, 4])
    """

    reads_time: ClassVar[bool] = True
    about: ClassVar[str] = "data with its own time axis, [B, T, ...] turned time first"
    called: ClassVar[str] = "encoders.frames"

    def length(self, shape: Sequence[int]) -> int | None:
        """Return T, the first size; None for a sample without one."""
        return shape[0] if shape else None

    def encode(self, x: Tensor, steps: int, rng: Rng) -> Tensor:
        """Exchange batch and time.

        Shape:
            x: [B, T, ...]; result: [T, B, ...].

        Raises:
            ConfigError: steps below 1.
            ShapeError: x has no time axis, is no float tensor, or its T is not `steps`.
        """
        check_call("encoders.frames", x, steps)
        if x.ndim < 2:
            todo = 'for data without time use another encoder, e.g. "constant"'
            raise ShapeError.of("encoders.frames", "x [B, T, ...]", list(x.shape), todo)
        if x.shape[1] != steps:
            raise ShapeError.of(
                "encoders.frames",
                f"x [B, T, ...] with T = {steps}",
                list(x.shape),
                f"set steps = {x.shape[1]}, or bring time to dimension 1 where that holds channels",
            )
        return x.transpose(0, 1)

    def gives(self, values: Values) -> InputKind:
        """Return what the samples are."""
        return values

    def still(self, x: Tensor) -> Tensor:
        """Return the mean frame.

        Shape:
            x: [B, T, ...]; result: [B, ...].
        """
        return x.mean(1)
