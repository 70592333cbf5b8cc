"""A user's own files as samples of a trained net: images and arrays, read without running code."""

import io
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.errors import DataError
from spikeloom.data import Samples
from spikeloom.train.opening import Inputs

LARGEST_FILE = 2**30
"""Bytes of a file, and of an array unpacked, that are still read."""

LARGEST_IMAGE = 2**26
"""Pixels of an image that is still read."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Kinds of images that are read; others (EPS) would start further programs."""

ARRAYS = (".npy", ".npz")

_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@dataclass(frozen=True)
class Given:
    """A file's samples, ready for `Workbench.batch`.

    Args:
        path: as the user wrote it.
        samples: in the stored units of the training data; labels are zeros without a meaning.
        single: whether the file is one sample, not a batch of them.
        notes: what was done to it.
    """

    path: Path
    samples: Samples
    single: bool
    notes: tuple[str, ...] = ()


def read_file(path: Path, inputs: Inputs, *, invert: bool = False) -> Given:
    """Read one file as samples for a net that was trained on `inputs`.

    Images are brought to the training data's channels and size, and their grey levels 0..255 to
    its 0..peak, rounded where it stores whole numbers. Arrays (.npy, .npz) keep their shape: whole
    numbers are taken as stored; floats likewise, but where the data store bytes they run from 0
    to 1.

    Args:
        path: of the file.
        inputs: what the net was trained on.
        invert: turn light into dark.

    Raises:
        DataError: the file is missing, damaged, unsafe, or holds something else; it is named.
    """
    if path.is_dir():
        raise DataError(f"{path}: expected a file, got a folder; name the files in it.")
    if not path.exists():
        raise DataError(f"{path}: expected a file, found none; check the path.")
    if not path.is_file():
        raise DataError(f"{path}: expected a plain file, got something else; save it as a file.")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError(
            f"{path}: expected {LARGEST_FILE} bytes at most, got {size}; predict in parts."
        )
    notes: list[str] = []
    if path.suffix.lower() in ARRAYS:
        x = _stored(path, _read_array(path, inputs), inputs)
        single = x.dim() == len(inputs.in_shape)
        x = x.unsqueeze(0) if single else x
    else:
        x, single = _read_image(path, inputs, notes).unsqueeze(0), True
    if invert:
        x = inputs.scaling.peak - x
        notes.append("inverted")
    samples = Samples(x, torch.zeros(len(x), dtype=torch.int64), inputs.build_scaling())
    return Given(path, samples, single, tuple(notes))


def _stored(path: Path, array: np.ndarray, inputs: Inputs) -> Tensor:
    """Return an array's values in the units of the training data.

    Raises:
        DataError: no numbers, or values out of range.
    """
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: expected numbers, got {array.dtype}; save a numeric array.")
    whole = array.dtype.kind != "f"
    values = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        place = tuple(int(one[0]) for one in (~finite).nonzero())
        raise DataError(
            f"{path}: expected finite values, got {values[place]} at {list(place)}; mend the file."
        )
    x = torch.from_numpy(values)
    if inputs.stored == "float":
        return x
    top = inputs.scaling.peak if whole else 1.0
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > top:
        came = f"{low:g} to {high:g}"
        raise DataError(
            f"{path}: expected whole numbers from 0 to {inputs.scaling.peak:g} or floats from 0 to "
            f"1, as data '{inputs.data}' has, got {came} in {array.dtype}; scale the array."
        )
    return x if whole else x * inputs.scaling.peak


def _read_array(path: Path, inputs: Inputs) -> np.ndarray:
    """Read the array of a .npy or .npz file, its header first.

    Raises:
        DataError: the file is damaged, too large, of another shape, or holds several arrays.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                _check_header(path, file, path.stat().st_size, inputs)
            return np.load(path, allow_pickle=False)
        with zipfile.ZipFile(path) as archive:
            names = [one.removesuffix(".npy") for one in archive.namelist()]
            name = "x" if "x" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise DataError(
                    f"{path}: expected one array, or one named 'x', got "
                    f"{', '.join(names[:6]) or 'none'}; save it alone."
                )
            member = archive.getinfo(archive.namelist()[names.index(name)])
            with archive.open(member) as file:
                _check_header(path, file, member.file_size, inputs)
            with archive.open(member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
    except DataError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        MemoryError,
        SyntaxError,
        RecursionError,
        TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise _damaged(path, "a plain array", error) from None


def _check_header(path: Path, file: Any, size: int, inputs: Inputs) -> None:
    """Refuse an array by its header, before memory is taken for it."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"format {version} of .npy")
    shape, _, dtype = read(file)
    wanted = inputs.in_shape
    if shape != wanted and (len(shape) != 1 + len(wanted) or shape[1:] != wanted or not shape[0]):
        sizes = ", ".join(map(str, wanted))
        raise DataError(
            f"{path}: expected an array [{sizes}] or [N, {sizes}], got {list(shape)}; reshape it."
        )
    if dtype.hasobject:
        raise ValueError("objects, which would have to be unpickled")
    needed = prod(shape) * dtype.itemsize
    if needed > LARGEST_FILE:
        raise DataError(
            f"{path}: expected {LARGEST_FILE} bytes at most, got {needed}; predict in parts."
        )
    if needed > size:
        raise ValueError(f"{size} bytes for an array of {needed}")


def _read_image(path: Path, inputs: Inputs, notes: list[str]) -> Tensor:
    """Read an image as the training data would store it, [C, H, W].

    Raises:
        DataError: the file is no image, or the data are none.
    """
    shape = inputs.in_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(
            f"{path}: expected an array (.npy or .npz) of shape {list(shape)}, since data "
            f"'{inputs.data}' are no grey or colour images, got an image file; save an array."
        )
    pixels = _pixels(path, shape, notes)  # [H, W] or [H, W, C], 0..255
    x = torch.from_numpy(pixels).view(*pixels.shape[:2], -1).permute(2, 0, 1)
    x = x.contiguous() * (inputs.scaling.peak / 255)
    return x.round() if inputs.stored == "uint8" else x


def _pixels(path: Path, shape: tuple[int, ...], notes: list[str]) -> np.ndarray:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise DataError(
            f"{path}: expected Pillow for an image file, found none; pip install pillow."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            content = path.read_bytes()
            with Image.open(_stream(content), formats=FORMATS) as image:
                if image.width * image.height > LARGEST_IMAGE:
                    raise ValueError(f"{image.width}x{image.height} pixels, too many")
                if getattr(image, "n_frames", 1) > 1:
                    notes.append("first frame")
                image.load()
                turned = ImageOps.exif_transpose(image)
                return _fitted(turned, shape, notes)
    except UnidentifiedImageError:
        came = "an empty file" if not path.stat().st_size else "a file of another kind"
        raise _damaged(
            path, "an image (PNG, JPEG, GIF, BMP, TIFF, WebP, PPM), .npy or .npz", came
        ) from None
    except DataError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        TypeError,
        MemoryError,
        RuntimeError,
        KeyError,
        IndexError,
        zlib.error,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise _damaged(path, "an image", error) from None


def _fitted(image: Any, shape: tuple[int, ...], notes: list[str]) -> np.ndarray:
    """Return the values 0..255 of an image in the channels and the size of `shape`."""
    from PIL import Image

    channels, height, width = shape
    if image.mode in _GREY_16:
        values = np.asarray(image, dtype=np.float32)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"values from {values.min():g} to {values.max():g}, not 16 bits")
        image = Image.fromarray(values * (255 / 65535), mode="F")
        notes.append("16 bits")
    elif image.mode == "F":
        raise ValueError("an image of floats; save it as .npy")
    else:
        image = _opaque(image, notes)
        image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        notes.append(f"resized from {image.width}x{image.height} to {width}x{height}")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(image, dtype=np.float32)
    if channels == 3 and values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    return np.array(values, order="C")


def _opaque(image: Any, notes: list[str]) -> Any:
    """Lay an image with transparent parts on white, as viewers show it."""
    from PIL import Image

    if not (image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info):
        return image
    image = image.convert("RGBA")
    if image.getextrema()[3][0] == 255:
        return image.convert("RGB")
    notes.append("transparent parts laid on white")
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def _stream(content: bytes) -> BinaryIO:
    return io.BytesIO(content)


def _damaged(path: Path, expected: str, came: object) -> DataError:
    text = " ".join(str(came).split())[:160] or type(came).__name__
    return DataError(f"{path}: expected {expected}, got '{text}'; save it again.")
