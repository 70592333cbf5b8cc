"""A small finished run for the commands that open one."""

import tomllib
from pathlib import Path
from typing import Any

from clikit import RECIPE

from spikeloom.inference.opening import describe_inputs
from spikeloom.program.recipe import build_recipe
from spikeloom.program.tables import override
from spikeloom.records import storage
from spikeloom.train.loop import train


def table(**changes: Any) -> dict[str, Any]:
    """The recipe of clikit with changes by path, dots written as double underscores."""
    recipe = tomllib.loads(RECIPE)
    for path, value in changes.items():
        recipe = override(recipe, path.replace("__", "."), value, "test")
    return recipe


def make_run(folder: Path, **changes: Any) -> None:
    """Train a recipe into a folder."""
    outcome = train(build_recipe(table(**changes), "test"), folder)
    storage.write_record(folder / "inputs.json", describe_inputs(outcome.bench.splits))
