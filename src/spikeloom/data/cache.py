"""Pictures decoded once, into one memory-mapped file of bytes, or of floats for more than 8 bits.

An entry is a folder: `pixels.npy` [N, C, H, W], `labels.npy` [N], `about.json`. It is written under
another name and renamed when whole, so that a killed process leaves no half entry; of two processes
that want the same one, the second waits.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.errors import DataError
from spikeloom.data._columns import no_bytes
from spikeloom.data._sources import Labels, Source
from spikeloom.data.broken import BrokenPictures, Fault
from spikeloom.data.decode import Decoder, Encoded, bombs_refused
from spikeloom.data.npy import ARRAY_FAULTS

FORMAT = 2
ABOUT, PIXELS, LABELS = "about.json", "pixels.npy", "labels.npy"
CHUNK = 64
PROBES = 64
LARGE = 160 * 160
"""Pixels of a picture from which decoding in threads pays; smaller ones wait for each other."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Decoded:
    """All pictures of one part, but for those `skipped`, which cannot be read.

    Shape:
        x: [N, C, H, W], uint8 levels or float32 shares of white, memory-mapped unless the cache
            could not be written; y: [N], int64.
    """

    x: Tensor
    y: Tensor
    names: tuple[str, ...]
    skipped: tuple[Fault, ...] = ()


def data_cache() -> Path:
    """Return the folder of decoded data: $SPIKELOOM_CACHE, else ~/.cache/spikeloom/decoded."""
    return Path(os.environ.get("SPIKELOOM_CACHE") or "~/.cache/spikeloom/decoded").expanduser()


def entry_folder(source: Source, decoder: Decoder) -> Path:
    """Return where a part is or will be kept; depends on the content of the source."""
    key = f"{FORMAT} {source.stamp()} {decoder!r}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:20]
    return data_cache() / f"{source.name}-{digest}"


def find_decoded(source: Source, decoder: Decoder) -> Decoded | None:
    """Return a part from the cache; None where it is not there, or is damaged."""
    return _open(entry_folder(source, decoder))


def decode_part(
    source: Source,
    decoder: Decoder,
    labels: Labels,
    *,
    frame: Sequence[int] | None = None,
    dtype: np.dtype | None = None,
    skip: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Decoded:
    """Decode a part into the cache; into memory, with a warning, where that cannot be written.

    Args:
        source: of the pictures.
        decoder: how each is decoded.
        labels: of the source.
        frame: height and width that all must have; None for those of the first picture.
        dtype: of the pixels of every picture; None for that of the first.
        skip: leave out pictures that cannot be used, in the place of refusing them.
        advance: called with the number of pictures decoded since the last call.

    Raises:
        BrokenPictures: pictures are damaged or have another size or depth; all are named.
        DataError: their number is not that of the labels, or none can be read.
    """
    from filelock import FileLock

    def frames(faults: list[Fault]) -> Iterator[np.ndarray]:
        """Decode all; raise what is not to be skipped only when all are known."""
        yield from _frames(source, decoder, (frame, dtype), faults, advance)
        if faults and not skip:
            raise BrokenPictures(faults)
        if faults and len(faults) == len(labels.y):
            raise DataError.of(
                source.name,
                "pictures that can be read",
                f"none among {len(faults)}",
                f"the first: {faults[0].reason}",
            )

    folder = entry_folder(source, decoder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            ready = _open(folder)
            if ready is None:  # no other process has been quicker
                with bombs_refused():
                    faults: list[Fault] = []
                    _write(folder, frames(faults), labels, faults)
                ready = _open(folder)
        if ready is not None:
            return ready
        reason = "it does not read back what was written"
    except (OSError, NotImplementedError) as error:  # no room, no right, no locks
        reason = str(error)
    LOG.warning(
        "%s: expected a folder for decoded pictures, got '%s'; they stay in memory for this run. "
        "Let $SPIKELOOM_CACHE name a folder with room.",
        folder.parent,
        reason,
    )
    with bombs_refused():
        faults = []
        x = np.concatenate(list(frames(faults)))
    y = _without(labels.y, faults)
    _check_count(source.name, len(x), len(y))
    return Decoded(torch.from_numpy(x), torch.from_numpy(y), labels.names, tuple(faults))


def _frames(
    source: Source,
    decoder: Decoder,
    like: tuple[Sequence[int] | None, np.dtype | None],
    faults: list[Fault],
    advance: Callable[[int], None],
) -> Iterator[np.ndarray]:
    """Decode in order and yield stacks [n, C, H, W] of one frame and type; faults are added."""
    pictures = enumerate(source.pictures())
    frame, dtype = like
    head = []
    for picture in pictures:  # the first that can be read says what the others must be
        head.append(picture)
        if frame is not None and dtype is not None:
            break
        with suppress(DataError):
            pixels = _decode(decoder, *picture[1])
            frame, dtype = frame or pixels.shape[1:], dtype or pixels.dtype
    if not head:
        raise DataError.of(source.name, "pictures", "none", "add some")
    height, width = frame or (0, 0)

    def decode(numbered: tuple[int, tuple[str, Encoded | None]]) -> np.ndarray | Fault:
        row, (where, encoded) = numbered
        try:
            pixels = _decode(decoder, where, encoded)
            _check_alike(where, pixels, (height, width), dtype)
        except DataError as error:
            return Fault(row, where, str(error))
        return pixels

    pictures = chain(head, pictures)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        spread = pool.map if height * width >= LARGE else map
        while chunk := list(islice(pictures, CHUNK)):
            done = list(spread(decode, chunk))
            faults += [one for one in done if isinstance(one, Fault)]
            whole = [one for one in done if not isinstance(one, Fault)]
            if whole:
                yield np.stack(whole)
            advance(len(chunk))


def _decode(decoder: Decoder, where: str, encoded: Encoded | None) -> np.ndarray:
    if encoded is None:
        raise no_bytes(where)
    return decoder.decode(encoded, where)


def _check_alike(
    where: str, pixels: np.ndarray, frame: tuple[int, int], dtype: np.dtype | None
) -> None:
    """Refuse a picture of another size or depth than the others.

    Raises:
        DataError: it is.
    """
    (height, width), (_, h, w) = frame, pixels.shape
    if (h, w) != (height, width):
        raise DataError.of(
            where,
            f"a picture of {width} x {height} pixels as the others",
            f"{w} x {h}",
            "remove it, or scale all: data = { name = 'images', size = ... }",
        )
    if pixels.dtype != dtype:
        named = {True: "of 8 bits a channel", False: "of 16 bits or floats"}
        raise DataError.of(
            where,
            f"a picture {named[dtype == np.uint8]} as the others",
            f"one {named[pixels.dtype == np.uint8]}",
            "save all with one number of bits",
        )


def _without(y: np.ndarray, faults: Sequence[Fault]) -> np.ndarray:
    return np.delete(y, [fault.row for fault in faults])


def _write(folder: Path, frames: Iterator[np.ndarray], labels: Labels, faults: list[Fault]) -> None:
    """Write an entry beside its place, then rename it; the caller holds the lock.

    Faults are known when the last frame is; what they stand for is in no frame.
    """
    draft = folder.with_name(f"{folder.name}.draft")
    for stale in (draft, folder):  # left by a kill, or damaged
        if stale.exists():
            shutil.rmtree(stale)
    draft.mkdir()
    try:
        first = next(frames)
        count = 0
        # written as a stream: a full disk is an error here, but kills a process that maps the file
        with (draft / PIXELS).open("wb") as file:
            _write_header(file, first, len(labels.y))
            for stack in chain([first], frames):
                file.write(np.ascontiguousarray(stack).data)
                count += len(stack)
            y = _without(labels.y, faults)
            _check_count(folder.name, count, len(y))
            file.seek(0)
            _write_header(file, first, count)  # fewer where some were left out, in the same room
        shape = (count, *first.shape[1:])
        np.save(draft / LABELS, y, allow_pickle=False)
        about = {
            "format": FORMAT,
            "shape": shape,
            "dtype": first.dtype.name,
            "names": labels.names,
            "pixels": _probe(np.load(draft / PIXELS, mmap_mode="r", allow_pickle=False)),
            "labels": zlib.crc32(y.tobytes()),
            "skipped": [[fault.row, fault.place, fault.reason] for fault in faults],
        }
        (draft / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write_header(file: BinaryIO, like: np.ndarray, count: int) -> None:
    """Write the header of a file of `count` arrays like one; it is as long for any count."""
    fields = np.lib.format.header_data_from_array_1_0(like)
    fields["shape"] = (count, *like.shape[1:])
    np.lib.format.write_array_header_1_0(file, fields)


def _open(folder: Path) -> Decoded | None:
    """Map an entry that is whole: sizes, all labels and some pictures are checked."""
    if not folder.is_dir():
        return None
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        shape = tuple(about["shape"])
        # copy on write, since torch knows no tensors that cannot be written
        x = np.load(folder / PIXELS, mmap_mode="c", allow_pickle=False)
        y = np.load(folder / LABELS, allow_pickle=False)
        whole = (
            x.dtype.name == about["dtype"]
            and x.dtype in (np.uint8, np.float32)
            and x.shape == shape
            and (folder / PIXELS).stat().st_size == x.offset + x.nbytes
            and y.shape == shape[:1]
            and _probe(x) == about["pixels"]
            and zlib.crc32(y.tobytes()) == about["labels"]
        )
        if whole:
            skipped = tuple(Fault(*one) for one in about.get("skipped", ()))
            tensors = torch.from_numpy(x), torch.from_numpy(y)
            return Decoded(*tensors, tuple(about["names"]), skipped)
        reason = "other content than was written"
    except (*ARRAY_FAULTS, KeyError) as error:
        reason = str(error)
    LOG.warning("%s: expected decoded pictures, got '%s'; decoding again.", folder, reason)
    return None


def _probe(x: np.ndarray) -> int:
    """Return a checksum of some pictures, first and last included."""
    rows = np.linspace(0, len(x) - 1, PROBES).astype(np.int64)
    return zlib.crc32(np.ascontiguousarray(x[rows]).tobytes())


def _check_count(name: str, count: int, expected: int) -> None:
    if count != expected:
        raise DataError.of(
            name, f"{expected} pictures as there are labels", count, "fetch the file again"
        )
