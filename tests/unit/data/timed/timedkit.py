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
