"""The settings of a stored recipe, each with its dotted path."""

from collections.abc import Iterator, Mapping
from typing import Any

NO_SETTINGS = ("name", "seed", "paper", "published")
"""Parts of a recipe that change no result of an entry."""


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with its path; lists of plain values are one setting, None is none."""
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        parts = enumerate(value)
    else:
        if value is not None:
            yield path, value
        return
    for key, part in parts:
        yield from leaves(part, f"{path}.{key}" if path else str(key))
