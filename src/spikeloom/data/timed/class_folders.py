"""Recordings of a user: a folder per class, in folders of parts or without."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spikeloom.base.errors import DataError
from spikeloom.data.timed.archive import Stored, read_file
from spikeloom.data.timed.binning import Recordings
from spikeloom.data.timed.event_files import READERS
from spikeloom.data.timed.events import Events

PARTS = ("train", "test")


@dataclass(frozen=True)
class Listed:
    """What lies in a folder.

    Args:
        parts: files of each part, with the number of their class.
        names: of the classes.
    """

    parts: dict[str, tuple[tuple[int, Path], ...]]
    names: tuple[str, ...]


def list_classes(folder: Path) -> Listed:
    """List recordings by part and class; numbered classes are in the order of their numbers.

    Raises:
        DataError: there are no classes, one has no recordings, or parts have other classes.
    """
    inside = {path.name.lower(): path for path in _folders(folder)}
    tops = {part: inside[part] for part in PARTS if part in inside}
    if "train" not in tops:
        tops = {"train": folder}
    classes = {part: _folders(top) for part, top in tops.items()}
    names = tuple(path.name for path in classes["train"])
    parts = {}
    for part, paths in classes.items():
        found = tuple(path.name for path in paths)
        if not found or found != names:
            came, todo = ", ".join(found[:20]) or "none", "sort the recordings into them"
            expected = f"the classes {', '.join(names[:20])}" if names else "a folder per class"
            raise DataError.of(tops[part], expected, came, todo)
        parts[part] = tuple(
            (number, file) for number, path in enumerate(paths) for file in _recordings(path)
        )
    return Listed(parts, names)


def read_classes(listed: Listed, read: Callable[[Stored], Events]) -> Recordings:
    """Yield part, label, place and events of every recording.

    Raises:
        DataError: one cannot be read; it is named.
    """
    for part, files in listed.parts.items():
        for label, file in files:
            stored = read_file(file)
            yield part, label, stored.where, read(stored)


def _folders(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    numbers = all(path.name.isdecimal() for path in found)
    return sorted(found, key=lambda path: (int(path.name), "") if numbers else (0, path.name))


def _recordings(folder: Path) -> list[Path]:
    """Return the recordings of a class."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in READERS)
    if not found:
        expected = f"recordings in {', '.join(READERS)}"
        raise DataError.of(folder, expected, "none", "add some, or remove the folder")
    return found
