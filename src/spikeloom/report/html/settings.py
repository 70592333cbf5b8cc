"""Settings of the entries: what all share, and where they differ."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spikeloom.records.settings import NO_SETTINGS, leaves
from spikeloom.report.entries import Entry


@dataclass(frozen=True)
class Settings:
    """Settings by dotted path, as text.

    Args:
        shared: equal in every entry whose recipe is known.
        differing: paths that are not equal everywhere.
        rows: per entry, its value at each differing path; None without a recipe.
    """

    shared: dict[str, str]
    differing: tuple[str, ...]
    rows: tuple[tuple[str, ...] | None, ...]


def compare_settings(entries: Sequence[Entry]) -> Settings:
    """Split the settings of all entries into shared and differing ones."""
    tables = [None if one.recipe is None else flatten(one.recipe) for one in entries]
    known = [table for table in tables if table is not None]
    paths = list(dict.fromkeys(path for table in known for path in table))
    differing = tuple(path for path in paths if len({table.get(path) for table in known}) > 1)
    return Settings(
        {path: known[0][path] for path in paths if path not in differing},
        differing,
        tuple(
            None if table is None else tuple(table.get(path, "") for path in differing)
            for table in tables
        ),
    )


def flatten(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return a recipe's settings by dotted path; what is not set is left out."""
    settings = {key: part for key, part in recipe.items() if key not in NO_SETTINGS}
    return {
        path: value if isinstance(value, str) else json.dumps(value)
        for path, value in leaves(settings)
    }


def environments(entries: Sequence[Entry]) -> dict[str, Counter[str]]:
    """Return, per key of the runs' environments, its values and how many runs have each."""
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        for run in entry.runs:
            table = flatten({} if run.environment is None else run.environment.table())
            if table and run.processes > 1:
                table["processes"] = str(run.processes)
            for key, value in table.items():
                counts.setdefault(key, Counter())[value] += 1
    return counts
