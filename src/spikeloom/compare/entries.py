"""The bookkeeping of a comparison: what each row has still to do, and what it has done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from spikeloom.base.errors import SpikeloomError
from spikeloom.compare.plan import Plan, Row
from spikeloom.compare.tuning import changed
from spikeloom.program.recipe import Recipe
from spikeloom.records.comparison import EntryRecord, FailureRecord, TrialRecord
from spikeloom.records.run import RunRecord, TrainedRecord, validation
from spikeloom.tasks.metric import Metric
from spikeloom.train import runs


@dataclass(frozen=True)
class Job:
    """One run: a tuning trial, or a row with one of the reported seeds.

    Args:
        row: of the comparison.
        number: of the trial, or the seed.
        final: whether it is reported; a trial never sees the test part.
        folder: of the run.
        recipe: of the run; of a final run before tuned values are put in.
        of: trials of the row, for the title.
    """

    row: Row
    number: int
    final: bool
    folder: Path
    recipe: Recipe
    of: int = 0

    @property
    def title(self) -> str:
        """What to call it in messages."""
        if self.final:
            return f"{self.row.label}, seed {self.number}"
        return f"{self.row.label}, trial {self.number + 1} of {self.of}"

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.recipe.stages)

    def with_values(self, recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
        """Return a recipe with tuned values put in."""
        return changed(recipe, values, f"'{self.row.label}'")


def jobs_of(plan: Plan, rows: Sequence[Row], out: Path) -> list[Job]:
    """List all runs: every row's trials, then seed after seed.

    Args:
        plan: with seeds and tuning.
        rows: those that can run.
        out: folder of the comparison.
    """
    jobs = []
    if plan.tune is not None:
        jobs = [
            Job(
                *(row, number, False, out / row.slug / "tune" / str(number)),
                plan.tune.trial(row.recipe, number),
                plan.trials,
            )
            for row, number in product(rows, range(plan.trials))
        ]
    return jobs + [
        Job(row, seed, True, out / row.slug / f"seed{seed}", row.recipe.with_seed(seed))
        for seed, row in product(plan.seeds, rows)
    ]


@dataclass
class EntryState:
    """What is known of one row so far."""

    plan: Plan
    row: Row
    refusal: str | None = None
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    runs: dict[int, RunRecord] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def has(self, job: Job) -> bool:
        """Whether a job ended, well or not."""
        if not job.final:
            return job.number in self.trials
        return job.number in self.runs or job.number in self.errors

    def keep(self, job: Job, record: TrainedRecord) -> None:
        """Store the record of a finished run."""
        if job.final:
            assert isinstance(record, RunRecord)
            self.runs[job.number] = record
        else:
            held = {validation(one.name): record.held(one) for one in record.metrics}
            self._note(job, val_loss=record.val_loss, **held)

    def fail(self, job: Job, error: str) -> None:
        """Store why a run failed."""
        if job.final:
            self.errors[job.number] = error
        else:
            self._note(job, error=error)

    def _note(self, job: Job, **outcome: Any) -> None:
        assert self.plan.tune is not None
        values = self.plan.tune.settings[job.number]
        self.trials[job.number] = TrialRecord(set=values, **outcome)

    @property
    def _metric(self) -> Metric:
        return self.row.recipe.build_task().first

    def recipe_of(self, job: Job) -> Recipe | None:
        """Return what a job trains, tuned values put in; None while these are not chosen."""
        if not job.final or self.plan.tune is None:
            return job.recipe
        chosen = self.plan.tune.record(self.trials, self._metric).chosen
        return None if chosen is None else job.with_values(job.recipe, chosen)

    def record(self) -> EntryRecord:
        """Return the row's entry of results.json."""
        errors = tuple(
            FailureRecord(seed=seed, error=self.errors[seed])
            for seed in self.plan.seeds
            if seed in self.errors
        )
        many = f"{len(errors)} of {len(self.plan.seeds)} runs failed"
        tune = self.plan.tune
        return EntryRecord(
            label=self.row.label,
            slug=self.row.slug,
            control=self.row.control,
            block=self.plan.block(self.row),
            differences=tuple(one.text for one in self.plan.differences(self.row)),
            refusal=self.refusal,
            error=f"{many}: {errors[0].error}" if errors else None,
            errors=errors,
            tuning=tune.record(self.trials, self._metric) if tune and self.trials else None,
            runs=tuple(self.runs[seed] for seed in self.plan.seeds if seed in self.runs),
        )


class Pace:
    """How long an epoch takes, by row, from the runs of this call."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, job: Job, seconds: float) -> None:
        """Add the time of a run."""
        self._seconds.setdefault(job.row.slug, []).append(seconds / job.epochs)

    def left(self, jobs: Sequence[Job]) -> float | None:
        """Return the seconds that jobs will take, None before anything was timed.

        A row that has not run yet is taken to be as fast as the others are in the mean.
        """
        if not self._seconds:
            return None
        rows = {slug: mean(seconds) for slug, seconds in self._seconds.items()}
        usual = mean(rows.values())
        return sum(rows.get(job.row.slug, usual) * job.epochs for job in jobs)


def stored_recipe(folder: Path) -> Recipe | None:
    """Return the recipe of a run folder; None where there is none that can be read."""
    try:
        return runs.stored_recipe(folder)
    except SpikeloomError:
        return None
