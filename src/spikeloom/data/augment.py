"""Random changes of training pictures, a whole batch at once on the batch's device."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import SampleRng
from spikeloom.data.base import Scaling


@dataclass(frozen=True)
class Augment:
    """Crop, flip and cutout of stored pictures, in this order, before they are scaled.

    Every draw is a function of (seed, epoch, sample): it does not depend on the batch that a sample
    sits in, on the number of processes or on the device.

    Args:
        crop: pad each side with this many pixels of the stored value 0, then take a window of the
            old size, anywhere.
        flip: mirror left and right with probability 1/2.
        cutout: blank a square of this side whose centre lies anywhere in the picture, so that it
            may hang over the border; 0 for none.

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

    crop: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name, pixels in (("crop", self.crop), ("cutout", self.cutout)):
            if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 0:
                raise ConfigError(
                    f"augment.{name}: expected pixels from 0, got {pixels!r}; e.g. 4."
                )
        if not isinstance(self.flip, bool):
            raise ConfigError(f"augment.flip: expected true or false, got {self.flip!r}; set one.")

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse samples that cannot be changed so.

        Raises:
            ShapeError: samples are no pictures [C, H, W], or smaller than crop or cutout.
        """
        if len(shape) != 3:
            raise ShapeError(
                f"augment: expected pictures [C, H, W], got samples {list(shape)}; leave augment "
                "out for such data."
            )
        for name, pixels in (("crop", self.crop), ("cutout", self.cutout)):
            if pixels > min(shape[1:]):
                raise ShapeError(
                    f"augment.{name}: expected at most {min(shape[1:])} pixels for samples "
                    f"{list(shape)}, got {pixels}; make it smaller."
                )

    def apply(self, x: Tensor, rng: SampleRng, scaling: Scaling | None = None) -> Tensor:
        """Return changed copies of a batch.

        Args:
            x: stored pictures.
            rng: of their samples; the stream "augment" of it is used.
            scaling: of the samples, which says what the network will see as 0; None blanks to
                the stored value 0.

        Shape:
            x: [B, C, H, W], uint8 or float; result: as x.

        Raises:
            ShapeError: as at `check`.
        """
        self.check(tuple(x.shape[1:]))
        height, width = x.shape[2:]
        draws = rng.stream_for("augment").numbers(5).to(x.device)  # [B, 5], always all of them
        down, right, mirror, row, column = draws.unbind(1)
        if self.crop:
            span = 2 * self.crop + 1
            x = _crop(x, self.crop, (down * span).long(), (right * span).long())
        if self.flip:
            x = torch.where(_wide(mirror < 0.5), x.flip(3), x)
        if self.cutout:
            rows = _covered((row * height).long(), self.cutout, height)  # [B, H]
            columns = _covered((column * width).long(), self.cutout, width)  # [B, W]
            square = rows[:, None, :, None] & columns[:, None, None, :]
            x = torch.where(square, (scaling or Scaling()).stored_zero(x), x)
        return x


def _crop(x: Tensor, pad: int, down: Tensor, right: Tensor) -> Tensor:
    """Take a window of the old size out of the padded pictures, shifted per picture.

    Shape:
        x and result: [B, C, H, W]; down, right: [B], in 0..2 pad.
    """
    batch, channels, height, width = x.shape
    padded = F.pad(x, (pad, pad, pad, pad))
    rows = down[:, None] + torch.arange(height, device=x.device)  # [B, H]
    columns = right[:, None] + torch.arange(width, device=x.device)  # [B, W]
    flat = rows[:, :, None] * padded.shape[3] + columns[:, None, :]  # [B, H, W]
    index = flat.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view(x.shape)


def _covered(centre: Tensor, side: int, length: int) -> Tensor:
    """Mark the pixels that a square of `side` around each centre covers along one axis.

    Shape:
        centre: [B]; result: [B, length], bool.
    """
    offset = torch.arange(length, device=centre.device) - centre[:, None] + side // 2
    return (offset >= 0) & (offset < side)


def _wide(mask: Tensor) -> Tensor:
    """Bring a mask [B] to [B, 1, 1, 1]."""
    return mask.view(-1, 1, 1, 1)
