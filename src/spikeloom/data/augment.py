"""Random changes of training pictures and events, a whole batch at once on its device."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.checks import at_least, expect, within
from spikeloom.base.errors import ShapeError
from spikeloom.base.fields import Checked
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Values
from spikeloom.data.base import Scaling
from spikeloom.data.timed.disturbed import disturbed

Pixels = Annotated[int, at_least(0, "pixels")]


@dataclass(frozen=True)
class Augment(Checked):
    """Crop, flip and cutout of stored pictures, in this order, before they are scaled.

    Frames over time are changed alike at every step; then events are dropped and moved in time.

    Every draw is a function of (seed, epoch, sample): it does not depend on the batch that a sample
    sits in, on the number of processes or on the device.

    Args:
        crop: pad each side with this many pixels of the stored value 0, then take a window of the
            old size, anywhere.
        flip: mirror left and right with probability 1/2.
        cutout: blank a square of this side whose centre lies anywhere in the picture, so that it
            may hang over the border; 0 for none.
        drop: probability that an event is lost; for event data alone.
        jitter: steps by which an event may come early or late, for event data alone; events that
            leave the recording are lost.

    Raises:
        ConfigError: a number below 0, or another type.

    Source:
        DeVries and Taylor 2017 (cutout), sec. 3.2: the square takes the value 0 after
        normalisation. Here it takes the stored value nearest to that: exact for floats, within half
        a step of the 256 for bytes.

    Example:
        >>> augment = Augment(crop=1, flip=True)
        >>> rng = SampleRng(seed=0, epoch=0, index=torch.arange(2))
        >>> augment.apply(torch.ones(2, 3, 4, 4, dtype=torch.uint8), rng).shape
        torch.Size([2, 3, 4, 4])
    """

    crop: Pixels = 0
    flip: bool = False
    cutout: Pixels = 0
    drop: Annotated[float, within(0, 1, "[)", "a probability")] = 0.0
    jitter: Annotated[int, at_least(0, "steps")] = 0

    called: ClassVar[str] = "augment"

    def check(self, shape: tuple[int, ...], values: Values = "real") -> None:
        """Refuse samples that cannot be changed so.

        Args:
            shape: of a sample.
            values: what the samples are.

        Raises:
            ShapeError: samples are no pictures [C, H, W] or frames [T, C, H, W], or smaller than
                crop or cutout; or drop and jitter for what are no events over time.
        """
        for name in ("drop", "jitter"):
            expect(
                not getattr(self, name) or (values != "real" and len(shape) in (2, 4)),
                f"augment.{name}",
                f"none for samples {list(shape)} of {values} values",
                getattr(self, name),
                "drop it, or take event data without normalise",
                kind=ShapeError,
            )
        if not self._moves and len(shape) == 2 and values != "real":
            return
        if len(shape) not in (3, 4):
            raise ShapeError.of(
                "augment",
                "pictures [C, H, W] or frames [T, C, H, W]",
                f"samples {list(shape)}",
                "leave augment out for such data",
            )
        for name, pixels in (("crop", self.crop), ("cutout", self.cutout)):
            most = min(shape[-2:])
            expect(
                pixels <= most,
                f"augment.{name}",
                f"at most {most} pixels for samples {list(shape)}",
                pixels,
                "make it smaller",
                kind=ShapeError,
            )

    def apply(self, x: Tensor, rng: SampleRng, scaling: Scaling | None = None) -> Tensor:
        """Return changed copies of a batch.

        Args:
            x: stored pictures.
            rng: of their samples; the stream "augment" of it is used.
            scaling: of the samples, which says what the network will see as 0; None blanks to
                the stored value 0.

        Shape:
            x: [B, C, H, W], uint8 or float; [B, T, C, H, W] or [B, T, D] with time; result: as x.

        Raises:
            ShapeError: as at `check`; what the values are is checked there alone.
        """
        scaling = scaling or Scaling(time=x.ndim == 5)
        self.check(tuple(x.shape[1:]), "counts")
        if x.ndim == 4:
            return self._placed(x, rng, scaling.stored_zero(x))
        if self._moves:
            zero = scaling.stored_zero(x[:, 0]).repeat(x.shape[1], 1, 1)
            x = self._placed(x.flatten(1, 2), rng, zero).view(x.shape)
        if self.drop or self.jitter:
            x = disturbed(x, rng, drop=self.drop, jitter=self.jitter)
        return x

    @property
    def _moves(self) -> bool:
        """Whether pixels change."""
        return bool(self.crop or self.flip or self.cutout)

    def _placed(self, x: Tensor, rng: SampleRng, zero: Tensor) -> Tensor:
        """Crop, flip and blank [B, C, H, W]; `zero` [C, 1, 1] is what is stored for 0."""
        batch, channels, height, width = x.shape
        draws = rng.stream_for("augment").numbers(5).to(x.device)  # [B, 5], always all of them
        down, right, mirror, row, column = draws.unbind(1)
        span, wide = 2 * self.crop + 1, width + 2 * self.crop
        source = F.pad(x, (self.crop,) * 4).flatten(2)  # [B, C, padded H * W]
        # Every change is a choice of places in the source, so one gather makes them all.
        rows = _whole(down, span)[:, None] + torch.arange(height, device=x.device)  # [B, H]
        columns = torch.arange(width, device=x.device).expand(batch, -1)  # [B, W]
        if self.flip:
            columns = torch.where(mirror[:, None] < 0.5, columns.flip(1), columns)
        columns = columns + _whole(right, span)[:, None]
        place = (rows * wide)[:, :, None] + columns[:, None, :]  # [B, H, W]
        if self.cutout:
            zero = zero.expand(batch, channels, 1, 1)
            down_covered = _covered(_whole(row, height), self.cutout, height)  # [B, side]
            right_covered = _covered(_whole(column, width), self.cutout, width)
            square = down_covered[:, :, None] * width + right_covered[:, None, :]
            place.view(batch, -1).scatter_(1, square.flatten(1), source.shape[2])
            source = torch.cat([source, zero.flatten(2)], 2)
        index = place.view(batch, 1, -1).expand(-1, channels, -1)
        return source.gather(2, index).view(x.shape)


def _whole(draw: Tensor, count: int) -> Tensor:
    """Make whole numbers in 0..count - 1 of draws from U[0, 1)."""
    return (draw * count).long()


def _covered(centre: Tensor, side: int, length: int) -> Tensor:
    """Return what a square covers along one axis; what hangs over counts for the border.

    Shape:
        centre: [B], in 0..length - 1; result: [B, side], in 0..length - 1.
    """
    offset = torch.arange(side, device=centre.device) - side // 2
    return (centre[:, None] + offset).clamp(0, length - 1)
