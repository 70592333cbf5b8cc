"""MNIST and Fashion-MNIST from their original IDX files."""

import gzip
import math
import struct
import zlib
from dataclasses import replace
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from spikeloom.base.errors import DataError
from spikeloom.data._split import Count, part_samples
from spikeloom.data.base import DATA, DataInfo, Samples, Scaling, Splits, check_samples, data_root

SHAPE = (1, 28, 28)
CLASSES = 10
CHUNK = 1 << 20
STEMS = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
CLOTHES = "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
LABELS = {"mnist": tuple("0123456789"), "fashion_mnist": tuple(CLOTHES.split(","))}

File: TypeAlias = gzip.GzipFile | BufferedReader


def load_idx(
    name: str,
    root: Path | None = None,
    *,
    train_size: Count | None = None,
    validation: Count = 5000,
    normalise: bool = False,
) -> Splits:
    """Load a set of four IDX files, gzipped or plain, from their folder under the root.

    Args:
        name: of the set; its folder has hyphens for underscores.
        root: folder of the data sets; None for `data_root()`.
        train_size: how many training images to keep; None for all.
        validation: how many images to take from the training file.
        normalise: use mean and deviation of the training part.

    Shape:
        x: [N, 1, 28, 28], uint8.

    Raises:
        ConfigError: sizes that the training file cannot fill.
        DataError: a file is missing, damaged or holds something else than promised.
    """
    folder = (root or data_root()) / name.replace("_", "-")
    train = _read_part(name, folder, "train")
    test = _read_part(name, folder, "t10k")
    splits = part_samples(
        name,
        train,
        test,
        classes=CLASSES,
        validation=validation,
        train_size=train_size,
        normalise=normalise,
    )
    return replace(splits, labels=LABELS[name])


def read_idx(path: Path) -> Tensor:
    r"""Read one IDX file of unsigned bytes.

    Layout: two zero bytes, type 8, number of dimensions d in 1..4, d big-endian 32-bit sizes, then
    exactly :math:`\prod_i size_i` bytes. Names in .gz are decompressed, checksum included.

    Shape:
        result: the sizes in the file, uint8.

    Raises:
        DataError: the file is missing, unreadable, truncated, too long or of another format.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(path, file)
    except FileNotFoundError:
        raise DataError.of(path, "a data file", "found none", "put it there") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError.caused(path, "a readable file", error, "fetch it again") from error


def _parse(path: Path, file: File) -> Tensor:
    magic = _read(file, 4)
    if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or not 1 <= magic[3] <= 4:
        raise DataError.of(
            path,
            "an IDX file of bytes (00 00 08 01..04)",
            magic.hex(" ") or "an empty file",
            "fetch it again",
        )
    header = _read(file, 4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise DataError.of(path, f"{magic[3]} sizes", "a cut header", "fetch it again")
    sizes = struct.unpack(f">{magic[3]}I", header)
    count = math.prod(sizes)
    if count == 0:
        raise DataError.of(path, "samples", f"sizes {list(sizes)}", "fetch it again")
    body = _read(file, count + 1)  # one more, so that a file that goes on is noticed
    if len(body) != count:
        came = "more" if len(body) > count else len(body)
        raise DataError.of(path, f"{count} bytes for sizes {list(sizes)}", came, "fetch it again")
    return torch.frombuffer(body, dtype=torch.uint8).view(sizes)


def _read(file: File, size: int) -> bytearray:
    """Read up to `size` bytes in chunks, so that a false size in a header reserves no memory."""
    body = bytearray()
    while len(body) < size and (chunk := file.read(min(CHUNK, size - len(body)))):
        body += chunk
    return body


def _read_part(name: str, folder: Path, part: str) -> Samples:
    image_file = _needed(name, folder, f"{part}-images-idx3-ubyte")
    label_file = _needed(name, folder, f"{part}-labels-idx1-ubyte")
    x, y = read_idx(image_file), read_idx(label_file)
    if x.ndim != 3 or x.shape[1:] != SHAPE[1:]:
        raise DataError.of(image_file, "images [N, 28, 28]", list(x.shape), "fetch it again")
    if y.shape != x.shape[:1]:
        raise DataError.of(
            label_file,
            f"{len(x)} labels as {image_file.name} has images",
            list(y.shape),
            "fetch both again",
        )
    samples = Samples(x.unsqueeze(1), y.long(), Scaling(peak=255.0))
    check_samples(str(label_file), samples, CLASSES)
    return samples


def _find(folder: Path, stem: str) -> Path | None:
    """Return the path of a file that is there, gzipped or plain."""
    return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.exists()), None)


def _needed(name: str, folder: Path, stem: str) -> Path:
    path = _find(folder, stem)
    if path is None:
        raise DataError.of(
            f"data.{name}",
            f"{folder / stem}.gz (or without .gz)",
            "found none",
            "put the four original files there, or let $SPIKELOOM_DATA name the folder above",
        )
    return path


def _state(name: str, root: Path) -> str:
    folder = root / name.replace("_", "-")
    missing = [f"{stem}.gz" for stem in STEMS if _find(folder, stem) is None]
    return f"missing: {', '.join(missing)} in {folder.name}/" if missing else "ready"


def _publish(name: str, about: str, source: str) -> None:
    load, state = partial(load_idx, name), partial(_state, name)
    DATA.register(name)(DataInfo(about, SHAPE, CLASSES, load, source=source, state=state))


_publish(
    "mnist",
    "handwritten digits 28x28, grey",
    "put the four .gz files of ossci-datasets.s3.amazonaws.com/mnist there",
)
_publish(
    "fashion_mnist",
    "pictures of clothes 28x28, grey",
    "put the four .gz files of github.com/zalandoresearch/fashion-mnist there",
)
