"""Comparisons: one base recipe, several entries that each change something, several seeds."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from spikeloom.base.errors import ConfigError
from spikeloom.data import Splits, load_data
from spikeloom.train import checkpoint
from spikeloom.train.loop import Progress, train
from spikeloom.train.recipe import (
    Recipe,
    Strict,
    build_model,
    build_recipe,
    override,
    read_toml,
)
from spikeloom.train.setup import with_seed


class Entry(Strict):
    """One row: a label and what it changes in the base recipe, by dotted path."""

    label: Annotated[str, Field(min_length=1)]
    set: dict[str, Any] = {}
    control: bool = False


class Comparison(Strict):
    """A comparison file.

    Args:
        name: of the folder.
        seeds: every entry runs with each.
        base: a recipe without its name.
        entries: rows; the first is the one the others are measured against.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (0, 1, 2)
    base: dict[str, Any]
    entries: Annotated[tuple[Entry, ...], Field(min_length=1, strict=False)]


@dataclass(frozen=True)
class Row:
    """One entry, ready to run."""

    label: str
    recipe: Recipe
    control: bool = False

    @property
    def slug(self) -> str:
        """The label as a folder name."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-") or "entry"


@dataclass(frozen=True)
class Plan:
    """All rows and seeds of a comparison, checked."""

    name: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]


def read_comparison(path: Path) -> Plan:
    """Read a comparison file, or a recipe as a comparison of one.

    Raises:
        ConfigError: with the path of the key.
    """
    table = read_toml(path)
    where = str(path)
    if "entries" not in table:
        recipe = build_recipe(table, where)
        return Plan(recipe.name, (Row(recipe.name, recipe),), (recipe.seed,))
    comparison = build_model(Comparison, table, where)
    rows = []
    for number, entry in enumerate(comparison.entries):
        place = f"{where}: entries.{number} ('{entry.label}')"
        changed: dict[str, Any] = {"name": comparison.name} | comparison.base
        for key, value in entry.set.items():
            changed = override(changed, key, value, place)
        rows.append(Row(entry.label, build_recipe(changed, place), entry.control))
    return _checked(Plan(comparison.name, tuple(rows), comparison.seeds), where)


def plan_rules(
    base: dict[str, Any], rules: list[str], seeds: tuple[int, ...], name: str
) -> Plan:
    """Plan one entry per rule; options follow a colon, as in ``sltt:k_steps=2``."""
    rows = []
    for text in rules:
        choice, label = _rule_choice(text)
        changed = override(base | {"name": name}, "stages.0.rule", choice, f"--rules {text}")
        rows.append(Row(label, build_recipe(changed, f"--rules {text}")))
    return _checked(Plan(name, tuple(rows), seeds), "--rules")


def run_comparison(
    plan: Plan,
    out: Path,
    *,
    started: Callable[[Row, int], Progress | None] | None = None,
) -> dict[str, Any]:
    """Run every row with every seed, seed by seed; results.json grows with each run.

    Args:
        plan: what to run.
        out: folder for results.json and the run folders.
        started: told of each run before it starts; what it returns receives the epochs' metrics.

    Returns:
        The content of results.json.
    """
    results: dict[str, Any] = {
        "format": checkpoint.FORMAT,
        "name": plan.name,
        "seeds": list(plan.seeds),
        "entries": [
            {"label": row.label, "control": row.control, "runs": []} for row in plan.rows
        ],
    }
    data: dict[str, Splits] = {}
    for seed, (number, row) in _seed_by_seed(plan):
        progress = started(row, seed) if started is not None else None
        key = row.recipe.data.model_dump_json()
        if key not in data:
            data[key] = load_data(row.recipe.data.name, **row.recipe.data.options)
        outcome = train(
            with_seed(row.recipe, seed),
            out / row.slug / f"seed{seed}",
            splits=data[key],
            progress=progress,
            overwrite=True,
        )
        results["entries"][number]["runs"].append(outcome.record)
        checkpoint.write_json(out / "results.json", results)
    return results


def _seed_by_seed(plan: Plan) -> Iterator[tuple[int, tuple[int, Row]]]:
    for seed in plan.seeds:
        for numbered in enumerate(plan.rows):
            yield seed, numbered


def _rule_choice(text: str) -> tuple[dict[str, Any], str]:
    name, _, options = text.partition(":")
    choice: dict[str, Any] = {"name": name}
    for option in filter(None, options.split(":")):
        key, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(
                f"--rules {text}: expected options as name:key=value, got '{option}'; fix it."
            )
        choice[key] = parse_value(value)
    return choice, text


def _checked(plan: Plan, where: str) -> Plan:
    seen: set[str] = set()
    for row in plan.rows:
        if row.slug in seen:
            raise ConfigError(
                f"{where}: expected labels that differ, got '{row.label}' twice; rename one."
            )
        seen.add(row.slug)
    if len(set(plan.seeds)) != len(plan.seeds):
        raise ConfigError(f"{where}: expected seeds that differ, got {plan.seeds}; fix them.")
    return plan
