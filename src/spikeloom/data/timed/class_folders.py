"""A user's recordings in one folder per class, optionally below `train/` and `test/`."""

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
    """The recordings found in a folder.

    Args:
        parts: files of each part ("train", "test"), each with the number of its class.
        names: names of the classes, in the order of their numbers.
    """

    parts: dict[str, tuple[tuple[int, Path], ...]]
    names: tuple[str, ...]


def list_classes(folder: Path) -> Listed:
    """List the recordings by part and class.

    Classes are sorted by name, or by number if all names are numbers.

    Raises:
        DataError: there are no classes, a class has no recordings, or the parts differ in classes.
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
    """Yield part, label, path and events of every recording.

    Raises:
        DataError: a recording cannot be read; the message names it.
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
    """Return the files of a class with a known ending, sorted by name."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in READERS)
    if not found:
        expected = f"recordings in {', '.join(READERS)}"
        raise DataError.of(folder, expected, "none", "add some, or remove the folder")
    return found
