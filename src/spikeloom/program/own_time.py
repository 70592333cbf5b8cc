"""What a recipe leaves out about time, taken from its data: the encoder, and T."""

from collections.abc import Mapping
from typing import Any

from spikeloom.base.errors import ConfigError
from spikeloom.data import DATA
from spikeloom.encoders import ENCODERS, Encoder
from spikeloom.nets.spec.codec import from_table

FRAMES = "frames"
"""Encoder of samples that bring their own time axis."""


def with_own_time(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's table with encoder and steps where the data alone decide them.

    What a table states stays as it is; so does everything where the data leave it open.

    Args:
        table: of a recipe, not checked yet.
    """
    changed = dict(table)
    name, options = _choice(table.get("data"))
    if name not in DATA.names():
        return changed
    info = DATA.find(name)
    steps = info.length(options)
    if steps is not None:
        changed.setdefault("encoder", FRAMES)
    elif info.shape is not None:
        encoder = _encoder(table.get("encoder"))
        steps = None if encoder is None else encoder.length(info.shape)
    stages = table.get("stages")
    if steps is not None and isinstance(stages, list | tuple):
        changed["stages"] = [
            {"steps": steps} | dict(stage) if isinstance(stage, Mapping) else stage
            for stage in stages
        ]
    return changed


def _choice(value: object) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of something chosen by name."""
    options = dict(value) if isinstance(value, Mapping) else {"name": value}
    return str(options.pop("name", "")), options


def _encoder(value: object) -> Encoder | None:
    """Return an encoder; None for a wrong one, which the recipe refuses in its own words."""
    name, options = _choice(value)
    try:
        return from_table(ENCODERS.find(name), options, "encoder")
    except ConfigError:
        return None
