"""What a comparison is to run: files and options of the command line, read into a plan."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from spikeloom.base.checks import FILLED, Length
from spikeloom.base.errors import ConfigError
from spikeloom.base.toml import LARGEST_WHOLE
from spikeloom.compare.differences import Block, Difference, block_of, differences
from spikeloom.compare.tuning import Tune
from spikeloom.nets.spec.codec import to_table
from spikeloom.program.places import located
from spikeloom.program.recipe import Name, Recipe, Seed, build_recipe, read_recipe
from spikeloom.program.shipped import recipe_file
from spikeloom.program.stage import Choice
from spikeloom.program.tables import Strict, build_model, override, parse_value, placed, read_toml
from spikeloom.records import names
from spikeloom.rules.base import LearningRule, rules_within

LONGEST_NAME = 80
"""Characters of a name made of what is compared; file systems take 255."""


class Entry(Strict):
    """One row: a label, and what it changes in the base, by dotted path.

    Args:
        label: name of the row.
        recipe: a recipe file in the place of the base, relative to the comparison's file.
        set: values by dotted path.
        control: whether it stands below as a control.
    """

    label: Annotated[str, FILLED]
    recipe: Annotated[str, FILLED] | None = None
    set: dict[str, Any] = {}
    control: bool = False


class Comparison(Strict):
    """A comparison file.

    Args:
        name: of the folder.
        seeds: every entry runs with each.
        base: a recipe without its name; needed by entries that name no recipe.
        entries: rows; the first is the one the others are measured against.
        tune: trials every row may make beforehand.
    """

    name: Name
    seeds: Annotated[tuple[Seed, ...], Length(1, "seed", 1000)] = (0, 1, 2)
    base: dict[str, Any] | None = None
    entries: Annotated[tuple[Entry, ...], Length(1, "entry", 1000)]
    tune: Tune | None = None


@dataclass(frozen=True)
class Row:
    """One entry, ready to run."""

    label: str
    recipe: Recipe
    control: bool = False

    @property
    def slug(self) -> str:
        """The label as a folder name."""
        return names.entry_folder(self.label)


@dataclass(frozen=True)
class Plan:
    """All rows and seeds of a comparison.

    Args:
        name: of the comparison.
        rows: at least one.
        seeds: every row runs with each.
        tune: trials of every row; None tunes nothing.
        alone: whether it stands for one recipe file, which follows others in seeds and tuning.

    Raises:
        ConfigError: labels that would share a folder, a seed twice, several data sets or
            processes, or a tuning seed among those reported.
    """

    name: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    tune: Tune | None = None
    alone: bool = False

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for row in self.rows:
            if row.slug in seen:
                raise ConfigError.of(
                    self.name,
                    "labels that differ in letters or digits",
                    f"'{seen[row.slug]}' and '{row.label}'",
                    "rename one",
                )
            seen[row.slug] = row.label
            if row.recipe.data.name != self.rows[0].recipe.data.name:
                raise ConfigError.of(
                    self.name,
                    f"data '{self.rows[0].recipe.data.name}' in every row",
                    f"'{row.recipe.data.name}' in '{row.label}'",
                    "compare on one data set",
                )
            if row.recipe.devices > 1:
                raise ConfigError.of(
                    self.name,
                    "devices = 1 in every row, since a comparison is one process",
                    f"{row.recipe.devices} in '{row.label}'",
                    "leave it out, or train that recipe by itself",
                )
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError.of(self.name, "seeds that differ", list(self.seeds), "drop one")
        if self.seeds and not 0 <= min(self.seeds) <= max(self.seeds) <= LARGEST_WHOLE:
            raise ConfigError.of(
                self.name, f"seeds from 0 to {LARGEST_WHOLE}", list(self.seeds), "change them"
            )
        if self.tune is not None and self.tune.seed in self.seeds:
            raise ConfigError.of(
                f"{self.name}: tune.seed",
                "a seed that is not reported",
                f"{self.tune.seed} with seeds {list(self.seeds)}",
                "change it",
            )
        for row, number in ((row, number) for row in self.rows for number in range(self.trials)):
            assert self.tune is not None
            self.tune.trial(row.recipe, number, f"{self.name}: tune, '{row.label}'")

    @property
    def trials(self) -> int:
        """Tuning trials of each row."""
        return len(self.tune.settings) if self.tune is not None else 0

    @property
    def first(self) -> Row:
        """The row the others are measured against: the first that is no control."""
        return next((row for row in self.rows if not row.control), self.rows[0])

    def differences(self, row: Row) -> list[Difference]:
        """Return in what a row differs from the first, tuned values left out."""
        tuned = self.tune.values if self.tune is not None else ()
        return differences(row.recipe, self.first.recipe, tuned)

    def block(self, row: Row) -> Block:
        """Return where a row stands; "common" is earned by differing in the rule alone."""
        return "control" if row.control else block_of(self.differences(row))


def read_comparison(path: Path) -> Plan:
    """Read a comparison file, a shipped one by its name, or a recipe as a comparison of one.

    Raises:
        ConfigError: with the path of the key.
    """
    where, path = str(path), recipe_file(path)
    table = read_toml(path)
    if not table.keys() & {"entries", "base"}:
        recipe = read_recipe(path)
        return Plan(recipe.name, (Row(recipe.name, recipe),), (recipe.seed,), alone=True)
    comparison = build_model(Comparison, table, where)
    rows = tuple(
        _read_row(comparison, entry, path, f"{where}: entries.{number} ('{entry.label}')")
        for number, entry in enumerate(comparison.entries)
    )
    with placed(where):
        return Plan(comparison.name, rows, comparison.seeds, comparison.tune)


def _read_row(comparison: Comparison, entry: Entry, path: Path, place: str) -> Row:
    if entry.recipe is not None:
        with placed(f"{place}: recipe"):
            base = located(
                read_toml(path.parent / entry.recipe), (path.parent / entry.recipe).parent
            )
    elif comparison.base is not None:
        base = comparison.base
    else:
        raise ConfigError.of(
            place, "a recipe file or a base", "neither", "add recipe = '...' or [base]"
        )
    changed: dict[str, Any] = base | {"name": comparison.name}
    for key, value in entry.set.items():
        if key == "seed":
            raise ConfigError.of(
                place, "settings of the row", "a seed", "set seeds for all of them"
            )
        changed = override(changed, key, value, place)
    with placed(place):
        changed = located(changed, path.parent)
    return Row(entry.label, build_recipe(changed, place), entry.control)


def merge(plans: Sequence[Plan], seeds: tuple[int, ...] | None = None) -> Plan:
    """Put several plans into one; the first row of the first is the one all are measured against.

    A row that stands in several files with the same label and recipe counts once. Single recipes
    take the seeds and the tuning of the comparisons beside them.

    Args:
        plans: one or more.
        seeds: in the place of the files' seeds.

    Raises:
        ConfigError: files that differ in seeds or tuning, or that do not fit into one plan.
    """
    leading = [plan for plan in plans if not plan.alone] or list(plans)
    if seeds is None and len({plan.seeds for plan in leading}) > 1:
        came = ", ".join(str(list(plan.seeds)) for plan in leading)
        raise ConfigError.of("compare", "files with the same seeds", came, "pass --seeds")
    if any(plan.tune != leading[0].tune for plan in leading):
        raise ConfigError.of(
            "compare",
            "files with the same [tune], since every row has the same budget",
            "different ones",
            "make them equal",
        )
    rows: list[Row] = []
    for row in (row for plan in plans for row in plan.rows):
        twin = next((one for one in rows if one.label == row.label), None)
        if twin is None or differences(row.recipe, twin.recipe):
            rows.append(row)
    return replace(
        leading[0], name=plans[0].name, rows=tuple(rows), seeds=seeds or leading[0].seeds
    )


def plan_rules(base: dict[str, Any], rules: str, seeds: tuple[int, ...], name: str) -> Plan:
    """Plan one entry per rule.

    Args:
        base: a recipe without its name.
        rules: by comma; options follow a colon, as in ``ann,sltt:k_steps=2``; those of a rule
            within a rule have its path before them, ``outer:inner=sltt:inner.k_steps=2``, or
            stand in a table, ``outer:inner={name="sltt",k_steps=2}``.
        seeds: every rule runs with each.
        name: of the comparison.

    Raises:
        ConfigError: a rule or option that does not exist, or a rule twice.
    """
    texts = [text.strip() for text in _outside_brackets(rules)]
    if not all(texts):
        raise ConfigError.of(
            "--rules", "names separated by commas", f"'{rules}' with an empty name", "drop a comma"
        )
    rows = []
    for text in texts:
        where = f"--rules {text}"
        changed = override(base | {"name": name}, "stages.0.rule", _rule_choice(text), where)
        changed = located(changed, None)
        rows.append(Row(text, build_recipe(changed, where)))
    return Plan(name, tuple(_one_place_of_loss(rows)), seeds)


def _one_place_of_loss(rows: Sequence[Row]) -> list[Row]:
    """Let rules that can choose where their loss stands follow those that cannot.

    Most rules have a loss at every step. Beside one of those, a rule with an option `loss` that
    was not given takes "step" too, so that the rows differ in the rule alone; so does a rule
    within a rule. A rule for the ReLU net has no steps to choose between; a net whose last blocks
    read the time mean has features at the end only.
    """
    if rows[0].recipe.net.spec().tail is not None:
        return [*rows]
    rules = [row.recipe.last.learning_rule() for row in rows]
    fixed = {rule.loss_at for rule in rules if rule.facts.spiking and not _choosing(rule)}
    if "step" not in fixed:
        return [*rows]
    return [
        replace(row, recipe=_with_loss(row.recipe, rule, "step"))
        for row, rule in zip(rows, rules, strict=True)
    ]


def _choosing(rule: LearningRule) -> list[tuple[LearningRule, str]]:
    """Return those of a rule and of the rules within it that have an option `loss`, with paths."""
    return [
        (one, path.removeprefix("."))
        for one, path in rules_within(rule, "")
        if "loss" in {field.name for field in fields(one)}  # pyright: ignore[reportArgumentType]
    ]


def _with_loss(recipe: Recipe, rule: LearningRule, place: str) -> Recipe:
    """Return a recipe with the option `loss` set wherever it is not given."""
    table = {"name": recipe.last.rule.name} | recipe.last.rule.options
    for one, path in _choosing(rule):
        given: Any = table
        for key in filter(None, path.split(".")):
            given = given.get(key) if isinstance(given, dict) else None
        if given is None:  # the default of an option, which has no table yet
            table = override(table, path, given := to_table(one), "compare")
        if isinstance(given, str) or "loss" not in given:
            table = override(table, f"{path}.loss".removeprefix("."), place, "compare")
    choice = Choice.model_validate(table)
    return recipe.model_copy(
        update={"stages": (*recipe.stages[:-1], recipe.last.model_copy(update={"rule": choice}))}
    )


def name_of(data: str, net: str, rules: str, changes: Sequence[str] = ()) -> str:
    """Return the name of a comparison of rules, from what it compares: the same for the same.

    Args:
        data: name of the data set.
        net: text or preset.
        rules: as for `plan_rules`.
        changes: as ``path=value``, in their order.

    Returns:
        Letters, digits and ``. _ -``. Where a sign other than a separator had no place, or the name
        would be longer than `LONGEST_NAME`, it ends with 8 digits of a checksum of the whole.

    Example:
        >>> name_of("digits", "c16 P f10", "ann,sltt:k_steps=2")
        'digits_c16-P-f10_ann-sltt.k_steps-2'
    """
    texts = [part.strip() for part in _outside_brackets(rules)]
    words = [data.strip(), " ".join(net.split()), ",".join(texts), *map(str.strip, changes)]
    marked = [re.sub(r"[ ,=]", "-", word.replace(":", ".")) for word in words]
    plain = [re.sub(r"[^A-Za-z0-9._-]", "", word) for word in marked]
    name = "_".join(word for word in plain if word)
    whole = plain == marked and len(name) <= LONGEST_NAME and name[:1].isalnum()
    if whole:
        return name
    digits = hashlib.sha256("\x1f".join(words).encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9].strip('._-') or 'compare'}-{digits}"


def _outside_brackets(text: str) -> list[str]:
    """Split a text at the commas that stand in no [list] and no {table}."""
    parts, inside = [""], 0
    for piece in re.split(r"([\[\]{},])", text):
        if piece == "," and inside <= 0:
            parts.append("")
            continue
        inside += {"[": 1, "{": 1, "]": -1, "}": -1}.get(piece, 0)
        parts[-1] += piece
    return parts


def _rule_choice(text: str) -> dict[str, Any]:
    name, _, options = text.partition(":")
    choice: dict[str, Any] = {"name": name}
    where = f"--rules {text}"
    for option in filter(None, options.split(":")):
        key, _, value = option.partition("=")
        if not key or not value:
            raise ConfigError.of(where, "options as name:key=value", f"'{option}'", "fix it")
        choice = override(choice, key, parse_value(value, where), where)
    return choice
