"""In what two recipes differ, computed from the recipes as resolved."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from spikeloom.program.recipe import Recipe
from spikeloom.records.settings import NO_SETTINGS, leaves

Block = Literal["common", "native", "control"]

_RULE = re.compile(r"stages\.\d+\.rule(\.|$)")


@dataclass(frozen=True)
class Difference:
    """One setting that is not as in another recipe.

    Args:
        path: dotted, e.g. stages.0.rule.k_steps.
        value: here; None where the setting is absent.
        other: there; None where it is absent.
    """

    path: str
    value: Any
    other: Any

    @property
    def text(self) -> str:
        """The setting as one would write it: ``stages.0.rule.k_steps = 2``."""
        if self.value is None:
            return f"{self.path} not set (there {shown(self.other)})"
        return setting(self.path, self.value)


def differences(recipe: Recipe, other: Recipe, beside: Collection[str] = ()) -> list[Difference]:
    """Compare two recipes setting by setting; name, seed and provenance are no settings.

    Two ways of writing one net or one encoder do not differ.

    Args:
        recipe: the one described.
        other: the one it is measured against.
        beside: paths to leave out with all below them, such as tuned ones.
    """
    here, there = (dict(leaves(one.model_dump(mode="json"))) for one in (recipe, other))
    left_out = [*NO_SETTINGS, *beside]
    if recipe.net.spec() == other.net.spec():
        left_out.append("net")
    if recipe.build_encoder() == other.build_encoder():
        left_out.append("encoder")
    return [
        Difference(path, here.get(path), there.get(path))
        for path in [*here, *(path for path in there if path not in here)]
        if here.get(path) != there.get(path)
        and not any(path == one or path.startswith(f"{one}.") for one in left_out)
    ]


def block_of(found: Collection[Difference]) -> Block:
    """Return "common" where nothing but the rule and its options differs, else "native"."""
    return "common" if all(_RULE.match(one.path) for one in found) else "native"


def setting(path: str, value: Any) -> str:
    """Write a setting: ``stages.0.rule = bptt``, a table's name standing for the table."""
    return f"{path.removesuffix('.name')} = {shown(value)}"


def shown(value: Any) -> str:
    """Write a value as short as it can be read."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
