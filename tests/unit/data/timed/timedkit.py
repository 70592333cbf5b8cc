"""Tiny sets of recordings, and roots of the real ones."""

import io
import tarfile
import wave
from pathlib import Path

import numpy as np

from spikeloom.data import data_root

SPEAKERS = ("ann", "bob", "cy", "dee")


def wav_bytes(samples: np.ndarray, *, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(samples.astype(f"<i{width}").tobytes())
    return out.getvalue()


def pack(archive: Path, files: dict[str, bytes]) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:xz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))


def real_root(folder: str) -> Path | None:
    """Return the first root that holds a folder: $SPIKELOOM_DATA or the project's share."""
    share = Path(__file__).parents[5] / "shared" / "data"
    return next((root for root in (data_root(), share) if (root / folder).is_dir()), None)


def nmnist_bytes(events: list[tuple[int, int, int, int]]) -> bytes:
    """Write (t, x, y, p) as N-MNIST does."""
    return b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, p in events)


def aedat2_bytes(events: list[tuple[int, int, int, int]], *, davis: bool = False) -> bytes:
    """Write (t, x, y, p) as AEDAT 2.0, addresses of a DVS128 or a DAVIS."""
    lines = [b"#!AER-DAT2.0", b"# AEChip: DAVIS240C" if davis else b"# AEChip: DVS128"]
    body = b""
    for t, x, y, p in events:
        address = y << 22 | x << 12 | p << 11 if davis else y << 8 | x << 1 | p
        body += address.to_bytes(4, "big") + t.to_bytes(4, "big")
    return b"\r\n".join([*lines, body])


def aedat3_packet(
    events: list[tuple[int, int, int, int]], *, overflow: int = 0, kind: int = 1, valid: int = 1
) -> bytes:
    """Write (t, x, y, p) as one packet of AEDAT 3.1."""
    fields = (8, 4, overflow, len(events), len(events), len(events))
    head = kind.to_bytes(2, "little") + bytes(2)
    head += b"".join(field.to_bytes(4, "little") for field in fields)
    return head + b"".join(
        (x << 17 | y << 2 | p << 1 | valid).to_bytes(4, "little") + t.to_bytes(4, "little")
        for t, x, y, p in events
    )


def aedat3_bytes(*packets: bytes) -> bytes:
    return b"\r\n".join([b"#!AER-DAT3.1", b"#Format: RAW", b"#!END-HEADER", b"".join(packets)])
