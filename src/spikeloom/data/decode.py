"""One encoded picture to bytes in memory, with Pillow."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from spikeloom.base.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Encoded: TypeAlias = bytes | Path
"""A picture as its file's bytes, or the file."""


LARGEST_SIDE = 4096
"""Most pixels of a side that pictures are brought to: a run folder opens samples of 2^26 values."""


@dataclass(frozen=True)
class Decoder:
    """How encoded pictures become [C, H, W] bytes.

    Every mode that Pillow knows is converted, so grey pictures among colour ones get three equal
    channels; 16-bit values lose their low byte. The turn that a camera noted is applied.

    Args:
        size: scale the shorter side to this many pixels and keep the centre square; None leaves
            pictures as they are.
        grey: one channel in place of red, green and blue.

    Raises:
        ConfigError: a size below 1 or above 4096, or grey is no bool.
    """

    size: int | None = None
    grey: bool = False

    def __post_init__(self) -> None:
        size = self.size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ConfigError(f"data.size: expected pixels from 1, got {size!r}; e.g. size = 32.")
        if size is not None and size > LARGEST_SIDE:
            raise ConfigError(
                f"data.size: expected {LARGEST_SIDE} pixels at most, got {size}; e.g. size = 224."
            )
        if not isinstance(self.grey, bool):
            raise ConfigError(f"data.grey: expected true or false, got {self.grey!r}; set one.")

    def decode(self, encoded: Encoded, where: str) -> np.ndarray:
        """Return the pixels of a picture.

        Args:
            encoded: the picture.
            where: file and row, for messages.

        Shape:
            result: [1 or 3, H, W], uint8.

        Raises:
            DataError: no picture, a damaged or truncated one, or one of absurd size.
        """
        from PIL import Image, ImageOps

        try:
            with Image.open(_file(encoded)) as file:
                image = self._convert(ImageOps.exif_transpose(file))
            if file.format == "PNG":  # its checksums are skipped in decoding
                with Image.open(_file(encoded)) as file:
                    file.verify()
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DataError(
                f"{where}: expected a picture of at most {Image.MAX_IMAGE_PIXELS} pixels, got "
                f"'{error}'; make it smaller or remove it."
            ) from error
        except Exception as error:  # damaged bytes raise whatever the format's parser stumbles over
            raise DataError(
                f"{where}: expected a picture, got {_reason(error)}; fetch it again or remove it."
            ) from error
        pixels = np.asarray(image)
        return pixels[None] if self.grey else pixels.transpose(2, 0, 1)

    def _convert(self, image: "Image") -> "Image":
        """Bring a picture to the wanted mode and size."""
        from PIL import Image, ImageOps

        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        elif image.mode == "F":
            raise TypeError("pixels are floats, whose white is unknown")
        image = image.convert("L" if self.grey else "RGB")
        if self.size is not None:
            image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        return image


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Make errors of Pillow's warnings of absurd sizes; for all threads, so enter it once."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _file(encoded: Encoded) -> io.BytesIO | Path:
    return io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded


def _reason(error: Exception) -> str:
    """Return one short line; Pillow's words for unknown bytes name an object's address."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "bytes of no known format"
    return f"'{' '.join(str(error).split())[:120] or type(error).__name__}'"
