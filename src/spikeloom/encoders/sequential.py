"""Pictures read piece by piece: one row, or one pixel, at every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ShapeError
from spikeloom.base.fields import Checked
from spikeloom.base.seeding import Rng, derive_seed
from spikeloom.base.types import InputKind, Values
from spikeloom.encoders.base import ENCODERS, Encoder, check_call


@ENCODERS.register("sequential")
@dataclass(frozen=True)
class Sequential(Checked, Encoder):
    r"""A picture as a sequence: its rows from top to bottom, or its pixels row by row.

    .. math::
        \text{row:}\quad s[t]_{c W + w} = x_{c, t, w}, \quad T = H \qquad
        \text{pixel:}\quad s[t]_c = x_{c, \lfloor t / W \rfloor, t \bmod W}, \quad T = H W

    With `permute`, the pixels change places before they are read, all channels and all pictures
    alike: place k takes the pixel of place :math:`\pi(k)`, where :math:`\pi` sorts the hashes of
    (seed, place). It is the same on every machine. The values stay real, at every step others.

    Args:
        by: "row" or "pixel".
        permute: seed of the permutation; None leaves the pixels where they are.

    Raises:
        ConfigError: a field out of range.

    Source:
        Le, Jaitly and Hinton 2015, sec. 4.2 (pixel by pixel, and with one fixed permutation).

    Example:
        >>> x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> Sequential().encode(x, 2, torch.Generator()).tolist()
        [[[1.0, 2.0]], [[3.0, 4.0]]]
        >>> Sequential("pixel").encode(x, 4, torch.Generator()).flatten().tolist()
        [1.0, 2.0, 3.0, 4.0]
    """

    by: Literal["row", "pixel"] = "row"
    permute: Annotated[int, at_least(0)] | None = None
    about: ClassVar[str] = "pictures row by row or pixel by pixel, in order or permuted"
    called: ClassVar[str] = "encoders.sequential"

    def length(self, shape: Sequence[int]) -> int | None:
        """Return the number of rows or pixels; None for what is no picture."""
        if len(shape) != 3:
            return None
        return shape[1] if self.by == "row" else shape[1] * shape[2]

    def encode(self, x: Tensor, steps: int, rng: Rng) -> Tensor:
        """Put rows or pixels one after the other.

        Shape:
            x: [B, C, H, W]; result: [H, B, C * W] by row, [H * W, B, C] by pixel.

        Raises:
            ConfigError: steps below 1.
            ShapeError: x is no batch of pictures or no float tensor, or `steps` is not T.
        """
        check_call("encoders.sequential", x, steps)
        sequence = self._sequence(x)
        if len(sequence) != steps:
            raise ShapeError.of(
                "encoders.sequential",
                f"{steps} {self.by}s, one for each of T = {steps} steps",
                f"{len(sequence)} in pictures {list(x.shape[1:])}",
                f"set steps = {len(sequence)}, or leave steps out",
            )
        return sequence

    def gives(self, values: Values) -> InputKind:
        """Return what the samples are."""
        return values

    def still(self, x: Tensor) -> Tensor:
        """Return the mean row, or the mean pixel.

        Shape:
            x: [B, C, H, W]; result: [B, C * W] by row, [B, C] by pixel.
        """
        return self._sequence(x).mean(0)

    def _sequence(self, x: Tensor) -> Tensor:
        """Return the pieces in order, [T, B, ...]."""
        if x.ndim != 4:
            todo = 'for other data take another encoder, e.g. "constant" or "frames"'
            raise ShapeError.of("encoders.sequential", "pictures [B, C, H, W]", list(x.shape), todo)
        batch, channels, height, width = x.shape
        if self.permute is not None:
            order = torch.tensor(_permutation(self.permute, height * width), device=x.device)
            x = x.flatten(2)[:, :, order].view(x.shape)
        if self.by == "pixel":
            return x.flatten(2).permute(2, 0, 1)
        return x.permute(2, 0, 1, 3).reshape(height, batch, channels * width)


@cache
def _permutation(seed: int, count: int) -> tuple[int, ...]:
    """Return the places 0..count - 1 in the order of their hashes."""
    keys = [derive_seed("sequential", seed, place) for place in range(count)]
    return tuple(sorted(range(count), key=keys.__getitem__))
