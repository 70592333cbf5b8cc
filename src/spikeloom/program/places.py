"""Paths of data in a recipe: relative to its file, else to the current folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikeloom.base.errors import DataError
from spikeloom.data import DATA
from spikeloom.data.base import data_root
from spikeloom.data.places import first_there, in_words, places_of

HUB_OPTION = "revision"
"""Sets with this option read the hub too, where names are `owner/name`; their loader finds out."""


def data_path(table: Mapping[str, Any]) -> str | None:
    """Return the path of the data in a recipe's table, if it has one."""
    data = table.get("data")
    path = data.get("path") if isinstance(data, Mapping) else None
    return path if isinstance(path, str) else None


def located(table: Mapping[str, Any], beside: Path | None) -> dict[str, Any]:
    """Return a recipe's table with the absolute path of its data, so that a run opens elsewhere.

    Only the option `path` of a set that has one is looked at. What lies below the root of the data
    sets alone keeps its relative path, since the root may move; so does what may be a name of the
    hub.

    Args:
        table: of a recipe.
        beside: folder of its file; None for what the command line says.

    Raises:
        DataError: nothing is there; the message names the places.
    """
    changed = dict(table)
    path = data_path(table)
    if not path or "://" in path:
        return changed
    data = table["data"]
    name = data.get("name")
    options = DATA.find(str(name)).options if name in DATA.names() else ()
    if "path" not in options:
        return changed
    places = places_of(path, beside=beside)
    place = first_there(places)
    if place is None and not (HUB_OPTION in options and path.count("/") == 1):
        raise DataError(
            f"data.path: expected a file or folder, found none at {in_words(places)}; correct the "
            "path: it is relative to the recipe, else to the current folder, else to "
            "$SPIKELOOM_DATA."
        )
    if place is not None and place != (data_root() / Path(path).expanduser()).absolute():
        changed["data"] = {**data, "path": str(place)}
    return changed
