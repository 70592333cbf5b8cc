"""Where a path that is not absolute is looked for."""

from collections.abc import Sequence
from pathlib import Path

from spikeloom.data.base import data_root


def places_of(
    path: str | Path, *, beside: Path | None = None, root: Path | None = None
) -> list[Path]:
    """Return where a path is looked for, in this order.

    Args:
        path: as a user gave it; an absolute one is looked for nowhere else.
        beside: folder of the file that names it.
        root: given in the place of the current folder and of `data_root()`.
    """
    own = Path(path).expanduser()
    if own.is_absolute():
        return [own]
    others = [Path.cwd(), data_root()] if root is None else [root]
    bases = [*([] if beside is None else [beside]), *others]
    return list(dict.fromkeys((base / own).absolute() for base in bases))


def first_there(places: Sequence[Path]) -> Path | None:
    """Return the first place where something is; None where nothing is at any."""
    return next((place for place in places if place.exists()), None)


def in_words(places: Sequence[Path]) -> str:
    """Name places for a message."""
    return " or ".join(map(str, places))
