"""Tuning: the same trials for every row of a comparison, judged on the validation part."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Annotated, Any

from pydantic import model_validator

from spikeloom.base.checks import Length, shown
from spikeloom.base.errors import ConfigError
from spikeloom.compare.differences import setting
from spikeloom.program.recipe import Recipe, Seed, build_recipe
from spikeloom.program.stage import Count
from spikeloom.program.tables import Strict, override
from spikeloom.records.comparison import TrialRecord, TuningRecord
from spikeloom.tasks.metric import ACCURACY, Metric

Values = Annotated[tuple[Any, ...], Length(1, "value")]


MOST_TRIALS = 1000
"""Most trials of a row: every one is checked before the first begins."""


class Tune(Strict):
    """The trials of every row before it runs with the reported seeds.

    Args:
        seed: of all trials; never one of the reported seeds.
        epochs: of the last stage in a trial; None as in the recipe.
        values: candidates by dotted path; their full product is tried.
    """

    seed: Seed = 1000
    epochs: Count | None = None
    values: Annotated[dict[str, Values], Length(1, "path")]

    @model_validator(mode="after")
    def _values_fit(self) -> "Tune":
        for path, values in self.values.items():
            if path in ("name", "seed"):
                raise ConfigError.of(f"values.{path}", "a setting", "a run's own", "drop it")
            if len(values) <= MOST_TRIALS and any(
                value in values[:row] for row, value in enumerate(values)
            ):
                came = shown(list(values))
                raise ConfigError.of(f"values.{path}", "values that differ", came, "drop one")
        count = prod(len(values) for values in self.values.values())
        if count > MOST_TRIALS:
            raise ConfigError.of("values", f"{MOST_TRIALS} trials at most", str(count), "drop some")
        return self

    @property
    def settings(self) -> list[dict[str, Any]]:
        """One table of path and value for every trial, the last path changing fastest."""
        return [dict(zip(self.values, row, strict=True)) for row in product(*self.values.values())]

    def trial(self, recipe: Recipe, number: int, where: str = "tune") -> Recipe:
        """Return the recipe of a trial.

        Raises:
            ConfigError: the recipe has no setting at a path, or trials have epochs of their own.
        """
        changes = dict(self.settings[number])
        if self.epochs is not None:
            last = f"stages.{len(recipe.stages) - 1}.epochs"
            if last in changes:
                raise ConfigError.of(
                    where, f"either tune.epochs or candidates for {last}", "both", "drop one"
                )
            changes[last] = self.epochs
        return changed(recipe, changes, where).with_seed(self.seed)

    def record(self, trials: Mapping[int, TrialRecord], metric: Metric = ACCURACY) -> TuningRecord:
        """Put together what is stored: every trial that ended, and the choice once all have.

        Args:
            trials: by number.
            metric: that decides.
        """
        settings = self.settings
        best = choose([trials.get(row) for row in range(len(settings))], metric)
        chosen = None if best is None else settings[best]
        return TuningRecord(
            seed=self.seed,
            epochs=self.epochs,
            trials=tuple(trials[row] for row in sorted(trials)),
            chosen=chosen,
            texts=tuple(setting(*one) for one in (chosen or {}).items()),
            edge=tuple(self.edge(chosen)) if chosen else (),
        )

    def edge(self, chosen: Mapping[str, Any]) -> list[str]:
        """Return the paths whose chosen number is the least or greatest of several candidates."""
        return [
            path
            for path, values in self.values.items()
            if len(values) > 1
            and all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
            and chosen[path] in (min(values), max(values))
        ]


def choose(trials: Sequence[TrialRecord | None], metric: Metric = ACCURACY) -> int | None:
    """Return the trial that is best on the validation part, None before the last one has ended.

    Ties go to the lower validation loss, then to the first; failed trials are never chosen.
    """
    good: list[tuple[float, float, int]] = []
    for row, trial in enumerate(trials):
        if trial is None:
            return None
        reached = trial.reached(metric)
        if reached is not None and trial.val_loss is not None:
            good.append((-metric.rank(reached), trial.val_loss, row))
    return min(good)[2] if good else None


def changed(recipe: Recipe, changes: Mapping[str, Any], where: str) -> Recipe:
    """Return a recipe with values replaced by dotted path.

    Raises:
        ConfigError: with the path of the key.
    """
    table = recipe.model_dump(mode="json")
    for path, value in changes.items():
        table = override(table, path, value, where)
    return build_recipe(table, where)
