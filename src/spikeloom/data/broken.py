"""Pictures that cannot be read: all of them named at once, or left out where the user says so."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from spikeloom.base.errors import DataError

MOST_NAMED = 20
"""Broken pictures that are named in one message; the others are counted."""


@dataclass(frozen=True)
class Fault:
    """A picture that cannot be read.

    Args:
        row: its number in its part.
        place: file, or file and row.
        reason: the whole line about it alone.
    """

    row: int
    place: str
    reason: str


class BrokenPictures(DataError):
    """Some pictures of a part, or of several, cannot be read.

    Args:
        faults: at least one.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        first, todo = self.faults[0].reason.rstrip("."), "set data.skip_broken = true to go on"
        several = DataError.of(
            "data",
            "pictures that can be read",
            f"{len(self.faults)} that cannot: {named([fault.place for fault in self.faults])}",
            f"repair or remove them, or {todo} without them. The first: {first}",
        )
        changed = {"message": f"{first}, or {todo} without it."} if len(self.faults) == 1 else {}
        super().__init__(**(several.parts() | changed))


def named(places: Sequence[str]) -> str:
    """Name up to `MOST_NAMED` places, below the folder that all have in common.

    Example:
        >>> named(["/data/set/a/1.png", "/data/set/b/2.png"])
        'a/1.png, b/2.png (in /data/set)'
    """
    try:
        top = os.path.commonpath(places)
    except ValueError:  # relative ones beside absolute ones
        top = ""
    if len(places) == 1 or top in ("", os.sep):
        short, where = list(places), ""
    else:
        short, where = [os.path.relpath(place, top) for place in places], f" (in {top})"
    rest = len(places) - MOST_NAMED
    return ", ".join(short[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "") + where
