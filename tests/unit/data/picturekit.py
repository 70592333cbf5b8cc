"""Small sets of pictures on disk, whole and damaged."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image


def pixels(value: int, side: int = 8, seed: int = 0) -> np.ndarray:
    """Return a colour picture [H, W, 3] that says its own number in the first pixel."""
    x = np.random.default_rng([seed, value]).integers(0, 256, (side, side, 3), dtype=np.uint8)
    x[0, 0] = value % 256
    return x


def encode(x: np.ndarray, kind: str = "PNG", mode: str | None = None) -> bytes:
    """Encode pixels, in another of Pillow's modes if named."""
    image = Image.fromarray(x)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


def pictures(count: int, side: int = 8) -> list[bytes]:
    return [encode(pixels(row, side)) for row in range(count)]


def write_parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[object],
    *,
    names: Sequence[str] | None = None,
    columns: tuple[str, str] = ("img", "label"),
    typed: bool = True,
) -> Path:
    """Write a parquet file as `datasets` does, or without its types, as others do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, label = columns
    if typed:
        from datasets import ClassLabel, Dataset, Features, Value
        from datasets import Image as Picture

        kind = ClassLabel(names=list(names)) if names else Value("int64")
        features = Features({image: Picture(decode=False), label: kind})
        rows = [None if one is None else {"bytes": one, "path": None} for one in images]
        Dataset.from_dict({image: rows, label: list(labels)}, features).to_parquet(str(path))
    else:
        table = pyarrow.table({image: list(images), label: list(labels)})
        pyarrow.parquet.write_table(table, path)
    return path


def write_set(folder: Path, *, train: int = 40, test: int = 10, classes: int = 4) -> Path:
    """Write train.parquet and test.parquet, sorted by class."""
    names = [f"class {k}" for k in range(classes)]
    for part, count in (("train", train), ("test", test)):
        labels = sorted(row % classes for row in range(count))
        write_parquet(folder / f"{part}.parquet", pictures(count), labels, names=names)
    return folder


def png(side: int, depth: int, colour: int, body: bytes) -> bytes:
    """Put a PNG together by hand: a square of a bit depth and type of colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def write_folders(folder: Path, classes: Sequence[str], each: int = 5, side: int = 8) -> Path:
    """Write PNG files in a folder per class; the first pixel numbers them through."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for row in range(each):
            x = encode(pixels(number * each + row, side))
            (folder / name / f"{row}.png").write_bytes(x)
    return folder
