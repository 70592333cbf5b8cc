"""The one reader of pictures, for training, evaluation and prediction, with Pillow."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ConfigError, DataError, wrong_choice
from spikeloom.base.fields import conform

if TYPE_CHECKING:
    from PIL.Image import Image

Encoded: TypeAlias = bytes | Path
"""A picture as its file's bytes, or the file."""

Fit: TypeAlias = Literal["crop", "pad", "squash"]

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Kinds of pictures that are read; others (EPS) would start further programs."""

LARGEST_PICTURE = 2**26
"""Most pixels of a picture that is read."""

LARGEST_16_BITS = 65535

COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey value (ITU-R 601), as in Pillow's conversion to L."""

_FITTED = {"crop": "cropped", "pad": "padded", "squash": "squashed"}
"""How a picture takes another size, in words."""


@dataclass(frozen=True)
class Reading:
    """What a net is shown of a picture; stored in a run, so that `predict` reads as training did.

    Args:
        fit: how a picture takes another size. "crop" scales until the frame is filled and keeps
            the centre, "pad" scales until the picture is inside and fills up with the ground
            colour, "squash" changes the aspect.
        ground: colour behind transparent parts: "white", "black" or "#rrggbb"; "none" drops the
            transparency and shows whatever colour is stored there.
        range: stored values that become black and white; None for 0 and 255 of 8 bits, 0 and 65535
            of 16. Pictures of floats need it.

    Raises:
        ConfigError: another word, a ground that is no colour, padding without a ground, or a range
            that is not two rising numbers.
    """

    fit: Fit = "crop"
    ground: str = "white"
    range: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.fit not in _FITTED:
            raise wrong_choice("data.fit", self.fit, _FITTED)
        ground = self.ground
        if not isinstance(ground, str) or not (
            ground in COLOURS or ground == "none" or re.fullmatch(r"#[0-9a-fA-F]{6}", ground)
        ):
            raise ConfigError.of(
                "data.ground",
                "white, black, #rrggbb or none",
                f"{ground!r}",
                "e.g. ground = 'white'",
            )
        if ground == "none" and self.fit == "pad":
            raise ConfigError.of(
                "data.ground", "a colour to pad with", "none", "e.g. ground = 'black'"
            )
        if self.range is None:
            return
        try:
            span = tuple(map(float, self.range))  # a recipe's list becomes comparable
        except (TypeError, ValueError):
            span = ()
        if len(span) != 2 or not -np.inf < span[0] < span[1] < np.inf:
            raise ConfigError.of(
                "data.range",
                "the stored values of black and white, rising",
                f"{self.range!r}",
                "e.g. range = [0, 4095]",
            )
        object.__setattr__(self, "range", span)

    @property
    def colour(self) -> tuple[int, int, int] | None:
        """Red, green and blue of the ground; None where transparency is dropped."""
        if self.ground.startswith("#"):
            red, green, blue = bytes.fromhex(self.ground[1:])
            return red, green, blue
        return COLOURS.get(self.ground)

    def __str__(self) -> str:
        behind = "dropped" if self.ground == "none" else f"on {self.ground}"
        levels = "" if self.range is None else ", {:g} to {:g} as 0 to 1".format(*self.range)
        return f"{_FITTED[self.fit]} to size, transparency {behind}{levels}"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as read.

    Args:
        pixels: grey levels 0..255 of 8-bit pictures; of all others the share of white, 0 to 1.
        notes: what was done to it, for whoever asked for this one picture.

    Shape:
        pixels: [1 or 3, H, W], uint8 or float32.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


LARGEST_SIDE = 4096
"""Most pixels of a side that pictures are brought to: a run folder opens samples of 2^26 values."""

Side = Annotated[int, at_least(1, "pixel", most=LARGEST_SIDE)]
"""Side of a picture, as a recipe states it."""


@dataclass(frozen=True)
class Decoder:
    """How encoded pictures become [C, H, W].

    The orientation in the EXIF data is applied, transparent parts are laid on the ground colour,
    the channels are made grey or colour, and the frame is filled, in this order. Every mode that
    Pillow knows is converted, so grey pictures among colour ones get three equal channels; of an
    animation the first frame is read. Pictures of 8 bits stay bytes. Those of 16 bits or floats,
    and all where a range is stated, become shares of white in float32, so that no level is lost.

    Args:
        size: height and width, one number for both; None leaves pictures as they are.
        grey: one channel in place of red, green and blue.
        reading: everything else.

    Raises:
        ConfigError: a size below 1 or above 4096, or grey is no bool.
    """

    size: int | tuple[int, int] | None = None
    grey: bool = False
    reading: Reading = Reading()

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        for side in sides if self.size is not None else ():
            conform(Side, side, "data.size")
        if not isinstance(self.grey, bool):
            raise ConfigError.of("data.grey", "true or false", f"{self.grey!r}", "set one")

    def decode(self, encoded: Encoded, where: str) -> np.ndarray:
        """Return the pixels of a picture; as `read`."""
        return self.read(encoded, where).pixels

    def read(self, encoded: Encoded, where: str) -> Picture:
        """Read a picture.

        Args:
            encoded: the picture.
            where: file and row, for messages.

        Raises:
            DataError: no picture, a damaged or truncated one, one of too many pixels, or values
                outside the stated range.
        """
        from PIL import Image, ImageOps

        notes: list[str] = []
        try:
            with Image.open(_file(encoded), formats=FORMATS) as file:
                if file.width * file.height > LARGEST_PICTURE:
                    raise _too_large(where, f"{file.width} x {file.height}")
                if _deep_colour(file):
                    raise DataError.of(
                        where,
                        "8 bits per channel for a colour picture",
                        "16 (the library Pillow keeps only 8)",
                        "save 8 bits, or grey with 16",
                    )
                if getattr(file, "is_animated", False):
                    notes.append("first frame")
                pixels = self._pixels(ImageOps.exif_transpose(file), where, notes)
            if file.format == "PNG":  # its checksums are skipped in decoding
                with Image.open(_file(encoded), formats=FORMATS) as file:
                    file.verify()
        except DataError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(where, f"'{error}'") from error
        except Exception as error:  # damaged bytes raise whatever the format's parser stumbles over
            raise DataError.of(
                where, "a picture", _reason(error), "fetch it again or remove it"
            ) from error
        return Picture(pixels, tuple(notes))

    def _pixels(self, image: "Image", where: str, notes: list[str]) -> np.ndarray:
        """Bring a picture to its channels and size, [C, H, W]."""
        from PIL import Image

        wide = image.mode == "F" or image.mode.startswith("I")
        if wide:
            notes.append("floats" if image.mode == "F" else "16 bits")
        if wide or self.reading.range is not None:
            shares = self._shares(image, where, notes)  # [C, H, W]
            first = 0 if self.grey else 1
            planes = (
                self._fitted(Image.fromarray(plane), row) for row, plane in enumerate(shares, first)
            )
            pixels = np.stack([np.asarray(plane) for plane in planes])
        else:
            image = self._opaque(image, notes).convert("L" if self.grey else "RGB")
            fitted = self._fitted(image)
            pixels = np.asarray(fitted)
            pixels = pixels[None] if self.grey else pixels.transpose(2, 0, 1)
        _, height, width = pixels.shape
        if image.size != (width, height):
            kept = "" if image.width * height == image.height * width else self.reading.fit
            notes.append(
                f"resized from {image.width}x{image.height} to {width}x{height}"
                + (f", {_FITTED[kept]}" if kept else "")
            )
        return pixels

    def _opaque(self, image: "Image", notes: list[str]) -> "Image":
        from PIL import Image

        if image.mode == "LAB":  # Pillow's own conversion knows no way
            from PIL import ImageCms

            lab, srgb = (ImageCms.createProfile(name) for name in ("LAB", "sRGB"))
            image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
        if self.reading.colour is None or not _transparent(image):
            return image
        image = _with_alpha(image)
        if _opaque_everywhere(image):
            return image.convert("RGB")
        notes.append(f"transparent parts laid on {self.reading.ground}")
        ground = Image.new("RGBA", image.size, (*self.reading.colour, 255))
        return Image.alpha_composite(ground, image).convert("RGB")

    def _shares(self, image: "Image", where: str, notes: list[str]) -> np.ndarray:
        """Return the share of white of every value, [C, H, W], on the ground colour.

        Raises:
            DataError: floats without a range, or a value outside it.
        """
        span = self.reading.range
        if span is None and image.mode == "F":
            raise DataError.of(
                where,
                "data.range = [black, white] to read a picture of floats",
                "none",
                "train with it, e.g. range = [0, 1], or save 8 or 16 bits",
            )
        low, high = span or (0, LARGEST_16_BITS)
        alpha = None  # [H, W, 1]
        key = image.info.get("transparency")
        if image.mode == "F" or image.mode.startswith("I"):
            values = np.asarray(image, dtype=np.float64)[..., None]
            if isinstance(key, int) and self.reading.colour is not None:
                alpha = (values != key).astype(np.float64)
        elif self.reading.colour is not None and _transparent(image):
            layers = np.asarray(_with_alpha(image), dtype=np.float64)
            values, alpha = layers[..., :3], layers[..., 3:] / 255
        else:
            grey = image.mode in ("1", "L", "LA")
            image = self._opaque(image, notes).convert("L" if grey else "RGB")
            values = np.asarray(image, dtype=np.float64).reshape(*image.size[::-1], -1)
        least, most = float(values.min()), float(values.max())
        if not (low <= least and most <= high):  # false for NaN too
            raise DataError.of(
                where,
                f"pixels from {low:g} to {high:g}",
                f"{least:g} to {most:g}",
                "state their range, e.g. data.range = [0, 4095]",
            )
        shares = (values - low) / (high - low)  # [H, W, 1 or 3]
        if alpha is not None and bool((alpha < 1).any()):
            notes.append(f"transparent parts laid on {self.reading.ground}")
            shares = shares * alpha + np.array(self.reading.colour) / 255 * (1 - alpha)
        if self.grey and shares.shape[-1] == 3:
            shares = (shares @ LUMA)[..., None]
        shares = np.broadcast_to(shares, (*shares.shape[:2], 1 if self.grey else 3))
        return np.ascontiguousarray(shares.transpose(2, 0, 1), dtype=np.float32)

    def _fitted(self, image: "Image", channel: int = 0) -> "Image":
        """Return a picture of the frame's size.

        Args:
            image: 8 bits, or one channel of shares of white.
            channel: which: 0 grey, 1 red, 2 green, 3 blue.
        """
        from PIL import Image, ImageOps

        if self.size is None:
            return image
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if image.size == (width, height):
            return image
        method = Image.Resampling.BILINEAR
        if self.reading.fit == "crop":
            return ImageOps.fit(image, (width, height), method)
        if self.reading.fit == "squash":
            return image.resize((width, height), method)
        scale = min(width / image.width, height / image.height)
        inside = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        colour = self.reading.colour or COLOURS["black"]
        if image.mode == "F":
            level = np.array(colour) / 255
            frame = Image.new("F", (width, height), float((level @ LUMA, *level)[channel]))
        else:
            frame = Image.new("RGB", (width, height), colour).convert(image.mode)
        corner = (width - inside[0]) // 2, (height - inside[1]) // 2
        frame.paste(image.resize(inside, method), corner)
        return frame


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Turn Pillow's warnings of huge pictures into errors, in all threads: enter it once."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _transparent(image: "Image") -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _with_alpha(image: "Image") -> "Image":
    """Return red, green, blue and opacity of a picture with transparent parts."""
    plain = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)  # colours stored times their opacity
    return (image.convert(plain) if plain else image).convert("RGBA")


def _opaque_everywhere(image: "Image") -> bool:
    """Whether a picture in RGBA shows nothing of what lies behind it."""
    return image.getchannel("A").getextrema() == (255, 255)


def _deep_colour(file: "Image") -> bool:
    """Whether a file stores 16 bits for each of several channels, which Pillow cuts to 8."""
    if file.mode.startswith("I"):
        return False
    return any(";16" in str(tile.args) for tile in getattr(file, "tile", ()))


def _file(encoded: Encoded) -> io.BytesIO | Path:
    return io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded


def _too_large(where: str, came: str) -> DataError:
    return DataError.of(
        where,
        f"a picture of at most {LARGEST_PICTURE} pixels",
        came,
        "make it smaller or remove it",
    )


def _reason(error: Exception) -> str:
    """Return one short line; Pillow's words for unknown bytes name an object's address."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"bytes of no known format ({', '.join(FORMATS)})"
    return f"'{' '.join(str(error).split())[:120] or type(error).__name__}'"
