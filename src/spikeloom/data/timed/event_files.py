"""Readers of event files: N-MNIST, AEDAT 2.0 and 3.1, and HDF5 in the layout of SHD and SSC."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spikeloom.base.errors import DataError
from spikeloom.base.extras import need
from spikeloom.data.timed.archive import Stored
from spikeloom.data.timed.events import Events

POLARITY = 1
"""Type of polarity events in AEDAT 3.1."""

_COMMENTS = re.compile(rb"(?:#[\t\x20-\x7e]*(?:\r\n|\Z))+|(?:#[\t\x20-\x7e]*(?:\n|\Z))*")
"""Header: lines of text that begin with # and all have the same line ending.

The check is strict, since the first event after the header may begin with the byte of # too.
"""

_PACKET = np.dtype(
    [("type", "<i2"), ("source", "<i2")]
    + [(name, "<i4") for name in ("size", "offset", "overflow", "capacity", "number", "valid")]
)
"""Header of a packet in AEDAT 3.1, 28 bytes."""


def read_events(stored: Stored) -> Events:
    """Read the events of a recording; the ending of the file name says in which format.

    Raises:
        DataError: an unknown ending, or the recording is damaged, empty or in another format.
    """
    ending = Path(stored.name).suffix.lower()
    if ending not in READERS:
        expected = f"a file in {', '.join(READERS)}"
        raise DataError.of(stored.where, expected, f"'{ending}'", "convert it")
    return READERS[ending](stored)


def read_nmnist(stored: Stored) -> Events:
    """Read N-MNIST: 5 bytes per event: x, y, then 1 bit of polarity and 23 bits of time.

    The time is big endian, in microseconds.

    Source:
        Orchard et al. 2015, garrickorchard.com/datasets/n-mnist.

    Raises:
        DataError: there are no events, or the bytes are not a multiple of 5.
    """
    content = stored.content
    if len(content) % 5:
        came = f"{len(content)}, which 5 does not divide"
        raise DataError.of(stored.where, "bytes of whole events", came, "fetch it again")
    x, y, high, middle, low = np.frombuffer(content, np.uint8).reshape(-1, 5).T.astype(np.int64)
    t = (high & 0x7F) << 16 | middle << 8 | low
    return Events.of(stored.where, t, x, y, high >> 7)


def read_aedat(stored: Stored) -> Events:
    """Read AEDAT 2.0 or 3.1; the first line says which.

    Raises:
        DataError: the file has another version or is damaged.
    """
    first = stored.content[:40].split(b"\n")[0].strip()
    for start, read in _VERSIONS.items():
        if first.startswith(start):
            return read(stored)
    came = f"'{first.decode('latin1')}'" if first else "an empty file"
    expected = f"a first line {' or '.join(start.decode() for start in _VERSIONS)}"
    raise DataError.of(stored.where, expected, came, "convert it")


def _read_aedat2(stored: Stored) -> Events:
    """Read AEDAT 2.0: lines that begin with #, then for each event an address and a time.

    Both have 32 bits, big endian; the time is in microseconds. If the header names a DAVIS camera,
    y is in bits 22 to 30 of the address, x in 12 to 21 and the polarity in 11; only addresses with
    bits 31 and 10 equal to 0 are events. Otherwise the camera is a DVS128: y is in bits 8 to 14, x
    in 1 to 7 and the polarity in 0. Coordinates are returned as stored; the viewer jAER mirrors x.

    Source:
        inivation.github.io/inivation-docs, "AEDAT file formats", AEDAT-2.0.
    """
    content = stored.content
    header = _COMMENTS.match(content)
    assert header is not None, "it matches nothing too"
    start = header.end()
    if (len(content) - start) % 8:
        came = f"{len(content) - start}, which 8 does not divide"
        raise DataError.of(stored.where, "bytes of whole events", came, "fetch it again")
    address, t = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2).T.astype(np.int64)
    if b"davis" in content[:start].lower():
        wanted = (address & 0x8000_0400) == 0
        address, t = address[wanted], t[wanted]
        x, y, p = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
    else:
        x, y, p = address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1
    return Events.of(stored.where, t, x, y, p)


def _read_aedat3(stored: Stored) -> Events:
    r"""Read AEDAT 3.1: lines up to #!END-HEADER, then packets, all little endian.

    A polarity event is 32 bits of data (bit 0 valid, bit 1 polarity, y in bits 2 to 16, x in 17 to
    31) and 32 bits of time, :math:`t = overflow \cdot 2^{31} + time` in microseconds. Packets of
    other types and invalid events are skipped.

    Source:
        inivation.github.io/inivation-docs, "AEDAT file formats", AEDAT-3.1.
    """
    content, end = stored.content, b"#!END-HEADER"
    start = content.find(end)
    if start < 0:
        raise DataError.of(stored.where, f"a line {end.decode()}", "none", "fetch it again")
    start = content.find(b"\n", start) + 1 or len(content)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    while start < len(content):
        head = content[start : start + _PACKET.itemsize]
        packet = np.frombuffer(head, _PACKET)[0] if len(head) == _PACKET.itemsize else None
        start += _PACKET.itemsize
        size = -1 if packet is None else int(packet["size"]) * int(packet["number"])
        if packet is None or size < 0 or start + size > len(content):
            came = f"a packet that is cut at byte {len(content)}"
            raise DataError.of(stored.where, "whole packets", came, "fetch it again")
        if packet["type"] == POLARITY and packet["size"] == 8:
            data, time = np.frombuffer(content, "<u4", size // 4, start).reshape(-1, 2).T
            found.append((data, time.astype(np.int64) + (int(packet["overflow"]) << 31)))
        start += size
    data = np.concatenate([data for data, _ in found] or [np.empty(0)]).astype(np.int64)
    t = np.concatenate([time for _, time in found] or [np.empty(0)]).astype(np.int64)
    valid = (data & 1) == 1
    data, t = data[valid], t[valid]
    return Events.of(stored.where, t, data >> 17 & 0x7FFF, data >> 2 & 0x7FFF, data >> 1 & 1)


def read_hdf5(file: Path) -> Iterator[tuple[int, str, Events]]:
    """Yield label, path and events of every recording of an HDF5 file in the format of SHD and SSC.

    `spikes/times` (in seconds) and `spikes/units` hold one array per recording, `labels` the
    classes. The unit becomes x, y is 0, and every event has polarity 1.

    Source:
        Cramer et al. 2020, zenkelab.org/resources/spiking-heidelberg-datasets-shd.

    Raises:
        ConfigError: the library h5py is not installed.
        DataError: the file is damaged, lacks a dataset, or its datasets differ in length.
    """
    need("h5py", str(file), "HDF5 files")
    import h5py  # pyright: ignore[reportMissingImports]

    try:
        with h5py.File(file) as stored:
            names = ("labels", "spikes/times", "spikes/units")
            lacking = [name for name in names if name not in stored]
            if lacking:
                came = f"no {', '.join(lacking)}"
                raise DataError.of(file, f"datasets {', '.join(names)}", came, "convert it")
            parts: list[Any] = [stored[name] for name in names]
            labels = np.asarray(parts[0])
            if len({len(part) for part in parts}) > 1:
                came = ", ".join(str(len(part)) for part in parts)
                raise DataError.of(file, "as many labels, times and units", came, "fetch it again")
            for row, label in enumerate(labels.tolist()):
                where = f"{file}: recording {row}"
                times, units = (np.asarray(part[row]) for part in parts[1:])
                if times.shape != units.shape:
                    came = f"{len(times)} and {len(units)}"
                    raise DataError.of(where, "as many times as units", came, "fetch it again")
                t = np.round(times.astype(np.float64) * 1e6)
                if not np.isfinite(t).all():
                    raise DataError.of(where, "finite times", "others", "fetch it again")
                zero = np.zeros(len(t))
                yield int(label), where, Events.of(where, t, units, zero, zero + 1)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise DataError.caused(file, "a readable HDF5 file", error, "fetch it again") from error


_VERSIONS: dict[bytes, Callable[[Stored], Events]] = {
    b"#!AER-DAT2.0": _read_aedat2,
    b"#!AER-DAT3.1": _read_aedat3,
}
READERS: dict[str, Callable[[Stored], Events]] = {
    ".bin": read_nmnist,
    ".bs2": read_nmnist,
    ".aedat": read_aedat,
}
"""Readers by the ending of the file name."""
