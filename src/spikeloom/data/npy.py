"""Arrays of numpy, checked against their headers before memory is allocated for them."""

import zipfile
import zlib
from math import prod
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from spikeloom.base.memory import in_words, total_bytes

ARRAY_FAULTS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    TypeError,
    AttributeError,
    MemoryError,
    SyntaxError,
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy, zipfile and torch raise on damage, objects and types they do not know."""

MOST_PACKED = 1100
"""Largest ratio of bytes unpacked to bytes packed: deflate reaches 1032."""


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Read the .npy header at the position of a file; return the array's shape and type.

    Raises:
        ValueError: no header, one of a newer version, an array of objects or of a negative size.
    """
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"format {version} of .npy")
    shape, _, kind = read(file)
    if kind.hasobject:
        raise ValueError("objects, which would have to be unpickled")
    if min(shape, default=1) < 0:
        raise ValueError(f"an array of {list(shape)}")
    return shape, kind


def check_archive(archive: zipfile.ZipFile) -> None:
    """Check the arrays of a .npz against the sizes in the archive.

    Raises:
        ValueError: one is larger than it can be, or all together than the machine's memory.
    """
    room, total = total_bytes(), 0
    for member in archive.infolist():
        name = member.filename
        if member.file_size > MOST_PACKED * member.compress_size + 2**16:
            raise ValueError(
                f"{member.file_size} bytes of '{name}' in {member.compress_size} packed ones"
            )
        with archive.open(member) as file:
            shape, kind = read_header(file)  # pyright: ignore[reportArgumentType]
        needed = prod(shape) * kind.itemsize
        if needed > member.file_size:
            raise ValueError(f"{member.file_size} bytes of '{name}' for an array of {needed}")
        total += needed
        if room is not None and total > room:
            raise ValueError(f"arrays of {in_words(total)} for a memory of {in_words(room)}")
