"""Comparisons: one base recipe, several entries that each change something, several seeds."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.data import Splits, load_data
from spikeloom.train import checkpoint
from spikeloom.train.loop import train
from spikeloom.train.progress import SILENT, Progress
from spikeloom.train.recipe import Name, Recipe, Seed, build_recipe
from spikeloom.train.setup import prepare, set_up
from spikeloom.train.tables import Strict, build_model, override, parse_value, placed, read_toml


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

    name: Name
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False)] = (0, 1, 2)
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
    """All rows and seeds of a comparison.

    Raises:
        ConfigError: labels that would share a folder, or a seed twice.
    """

    name: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for row in self.rows:
            if row.slug in seen:
                raise ConfigError(
                    f"{self.name}: expected labels that differ in letters or digits, got "
                    f"'{seen[row.slug]}' and '{row.label}'; rename one."
                )
            seen[row.slug] = row.label
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(
                f"{self.name}: expected seeds that differ, got {list(self.seeds)}; drop one."
            )


def read_comparison(path: Path) -> Plan:
    """Read a comparison file, or a recipe as a comparison of one.

    Raises:
        ConfigError: with the path of the key.
    """
    table = read_toml(path)
    where = str(path)
    if not table.keys() & {"entries", "base"}:
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
    with placed(where):
        return Plan(comparison.name, tuple(rows), comparison.seeds)


def plan_rules(base: dict[str, Any], rules: str, seeds: tuple[int, ...], name: str) -> Plan:
    """Plan one entry per rule.

    Args:
        base: a recipe without its name.
        rules: by comma; options follow a colon, as in ``ann,sltt:k_steps=2``.
        seeds: every rule runs with each.
        name: of the comparison.

    Raises:
        ConfigError: a rule or option that does not exist, or a rule twice.
    """
    texts = [text.strip() for text in re.split(r",(?![^\[]*\])", rules)]
    if not all(texts):
        raise ConfigError(
            f"--rules: expected names by comma, got '{rules}' with an empty one; drop a comma."
        )
    rows = []
    for text in texts:
        where = f"--rules {text}"
        changed = override(base | {"name": name}, "stages.0.rule", _rule_choice(text), where)
        rows.append(Row(text, build_recipe(changed, where)))
    return Plan(name, tuple(rows), seeds)


def run_comparison(
    plan: Plan,
    out: Path,
    *,
    started: Callable[[Row, int], Progress | None] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Run every row with every seed, seed by seed; results.json grows with each run.

    All rows are built before the first one runs, so that a row that does not fit costs nothing. A
    rule that cannot train its net is no error: its entry holds the refusal and no runs.

    Args:
        plan: what to run.
        out: folder for results.json and the run folders.
        started: told of each run before it starts; what it returns receives the epochs' metrics.
        overwrite: whether results that are already there may be replaced.

    Returns:
        The content of results.json.

    Raises:
        ConfigError: the folder holds results.
        SpikeloomError: as `train`, with the row's label.
    """
    if (out / "results.json").exists() and not overwrite:
        raise ConfigError(
            f"{out}: expected a new folder, found results of a comparison; choose another with "
            "--out or pass --force to replace them."
        )
    data: dict[str, Splits] = {}
    refusals = {row.slug: _refusal(row, data) for row in plan.rows}
    results: dict[str, Any] = {
        "format": checkpoint.FORMAT,
        "name": plan.name,
        "seeds": list(plan.seeds),
        "entries": [
            {
                "label": row.label,
                "control": row.control,
                "refusal": refusals[row.slug],
                "runs": [],
            }
            for row in plan.rows
        ],
    }
    for seed, (number, row) in product(plan.seeds, enumerate(plan.rows)):
        if refusals[row.slug] is not None:
            continue
        progress = started(row, seed) if started is not None else None
        with placed(f"'{row.label}', seed {seed}"):
            outcome = train(
                row.recipe.with_seed(seed),
                out / row.slug / f"seed{seed}",
                splits=_load(row, data),
                progress=progress or SILENT,
                overwrite=True,
            )
        results["entries"][number]["runs"].append(outcome.record)
        checkpoint.write_json(out / "results.json", results)
    return results


def _refusal(row: Row, data: dict[str, Splits]) -> str | None:
    """Build a row; return why its rule refuses its net, None where it does not."""
    with placed(f"'{row.label}'"):
        bench = set_up(row.recipe, _load(row, data), prepared=False)
        try:
            prepare(bench)
        except UnsupportedNet as error:
            return str(error)
    return None


def _load(row: Row, loaded: dict[str, Splits]) -> Splits:
    """Return a row's data, each set read once."""
    choice = row.recipe.data
    key = choice.model_dump_json()
    if key not in loaded:
        loaded[key] = load_data(choice.name, **choice.options)
    return loaded[key]


def _rule_choice(text: str) -> dict[str, Any]:
    name, _, options = text.partition(":")
    choice: dict[str, Any] = {"name": name}
    for option in filter(None, options.split(":")):
        key, _, value = option.partition("=")
        if not key or not value:
            raise ConfigError(
                f"--rules {text}: expected options as name:key=value, got '{option}'; fix it."
            )
        choice[key] = parse_value(value)
    return choice
