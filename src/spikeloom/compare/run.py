"""Running a comparison: every row with every seed; what is finished is never trained again."""

import gc
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from spikeloom.base.errors import DataError, Stopped
from spikeloom.compare.entries import EntryState, Job, Pace, jobs_of
from spikeloom.compare.folder import (
    check_kept,
    check_unused,
    clear,
    finished,
    usable,
)
from spikeloom.compare.plan import Plan, Row
from spikeloom.data import Splits
from spikeloom.measure.rehearsal import essence, refusal
from spikeloom.program.inputs import stated
from spikeloom.program.recipe import Recipe
from spikeloom.program.tables import placed
from spikeloom.records import names
from spikeloom.records.comparison import ComparisonRecord
from spikeloom.records.files import save_record
from spikeloom.records.progress import SILENT, Progress, expect_progress
from spikeloom.records.storage import FORMAT
from spikeloom.records.units import span
from spikeloom.train.failure import reason
from spikeloom.train.loop import load, never, train
from spikeloom.train.runs import Lock, locked


def run_comparison(
    plan: Plan,
    out: Path,
    *,
    progress: Progress = SILENT,
    overwrite: bool = False,
    stop: Callable[[], bool] = never,
    command: str | None = None,
) -> ComparisonRecord:
    """Run every row with every seed, seed by seed; results.json is rewritten after each run.

    All rows are built before the first one runs, so that an error in a row appears at once. A
    rule that cannot train its net is no error: its entry holds the refusal and no runs. A run that
    fails is noted in its entry, and the others go on. The same call on the same folder goes on
    where the last one ended: finished runs are read, unfinished ones continued, failed ones tried
    again. Runs of rows that are no longer in the plan stay on disk and count for nothing. A folder
    that cannot be written is read, where nothing is left to do.

    Args:
        plan: what to run.
        out: folder for results.json and the run folders.
        progress: receives each run, its phases and epochs.
        overwrite: train every row of the plan anew.
        stop: asked between batches; true saves the run at hand and stops.
        command: what runs the same comparison again, for the record.

    Returns:
        The content of results.json.

    Raises:
        ConfigError: the folder is in use, or holds runs of other recipes under the same labels.
        SpikeloomError: a row does not fit its data, with the row's label.
        Stopped: as asked; what is finished is on disk.
    """
    expect_progress(progress)
    data = _Data(progress)
    refusals = _Refusals(plan, data)
    jobs = jobs_of(plan, [row for row in plan.rows if refusals.of(row) is None], out)
    runner = _Runner(plan, out, data, refusals, progress, stop, command)
    if not overwrite and out.is_dir() and not os.access(out, os.W_OK):
        check_kept(plan, jobs, out)
        if not runner.unfinished(jobs):
            return runner.results()
    with locked(out) as lock:
        if overwrite:
            check_unused(job.folder for job in jobs)
            for job in jobs:
                clear(job.folder)
        else:
            check_kept(plan, jobs, out)
            check_unused(job.folder for job in runner.unfinished(jobs))
        return runner.run(jobs, lock)


@dataclass
class _Runner:
    """One pass over the jobs to read what is finished, one to do the rest."""

    plan: Plan
    out: Path
    data: "_Data"
    refusals: "_Refusals"
    progress: Progress
    stop: Callable[[], bool]
    command: str | None

    def __post_init__(self) -> None:
        self.pace = Pace()
        self.entries = {
            row.slug: EntryState(self.plan, row, refusal=self.refusals.of(row))
            for row in self.plan.rows
        }

    def unfinished(self, jobs: list[Job]) -> list[Job]:
        """Read what is finished; return what is left to do."""
        self._read(jobs)
        return [job for job in jobs if not self._has(job)]

    def _read(self, jobs: list[Job]) -> None:
        for job in jobs:
            entry = self.entries[job.row.slug]
            if (why := self.refusals.of_trial(job)) is not None:
                entry.fail(job, why)
                continue
            recipe = entry.recipe_of(job)
            if recipe is not None and (record := finished(job.folder, recipe)) is not None:
                entry.keep(job, record)

    def run(self, jobs: list[Job], lock: Lock) -> ComparisonRecord:
        """Read what is finished, do the rest, and write the results after each run."""
        self._read(jobs)
        if not all(map(self._has, jobs)):
            self._tell_refusals(jobs)
        results = self._write(lock)
        for number, job in enumerate(jobs, 1):
            entry = self.entries[job.row.slug]
            if entry.has(job):
                continue
            recipe = entry.recipe_of(job)
            if recipe is None:
                first = next((one.error for one in entry.trials.values() if one.error), "none ran")
                entry.fail(job, f"tuning: no trial came to its end: {first}")
            elif (record := finished(job.folder, recipe)) is not None:
                entry.keep(job, record)  # the row's last missing trial decided which recipe it is
            else:
                left = self.pace.left([one for one in jobs[number - 1 :] if not self._has(one)])
                title = f"[{number}/{len(jobs)}] {job.title}"
                self.progress.note(title + (f" (about {span(left)} left)" if left else ""))
                self._train(entry, job, recipe, title)
            results = self._write(lock)
        self.progress.close()
        return results

    def _tell_refusals(self, jobs: list[Job]) -> None:
        for entry in self.entries.values():
            if entry.refusal is not None:
                self.progress.warn(f"{entry.row.label} is refused: {entry.refusal}")
        for job in jobs:
            if (why := self.refusals.of_trial(job)) is not None:
                self.progress.warn(f"{job.title} is refused and counts as failed: {why}")

    def _has(self, job: Job) -> bool:
        return self.entries[job.row.slug].has(job)

    def _train(self, entry: EntryState, job: Job, recipe: Recipe, title: str) -> None:
        watched = _Titled(self.progress, title)
        start = time.perf_counter()
        try:
            clear(job.folder, keep=lambda: usable(job.folder, recipe))
            record = train(
                recipe,
                job.folder,
                splits=self.data.of(recipe),
                progress=watched,
                resume=True,
                final=job.final,
                stop=self.stop,
            ).record
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001  one row's failure must not end the others
            why = reason(error, job.folder)
            entry.fail(job, why)
            self.progress.warn(f"{job.title} failed: {why}")
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        else:
            self.pace.add(job, time.perf_counter() - start)
            entry.keep(job, record)

    def _write(self, lock: Lock) -> ComparisonRecord:
        results = self.results()
        lock.check()
        save_record(self.out / names.RESULTS, results)
        return results

    def results(self) -> ComparisonRecord:
        """Return the content of results.json as it is now."""
        plan = self.plan
        return ComparisonRecord(
            format=FORMAT,
            name=plan.name,
            command=self.command,
            seeds=plan.seeds,
            tune=plan.tune.model_dump(mode="json") if plan.tune is not None else None,
            first=plan.first.label,
            entries=tuple(entry.record() for entry in self.entries.values()),
        )


class _Titled(Progress):
    """Passes progress on with the run's title before each phase; drops notes of single runs."""

    def __init__(self, inner: Progress, title: str) -> None:
        self.title = title
        self._phase = inner.phase
        for name in ("plan", "advance", "epoch", "inputs", "warn", "close"):
            setattr(self, name, getattr(inner, name))

    def phase(self, name: str, total: int, unit: str = "images", *, done: int = 0) -> None:
        self._phase(f"{self.title}: {name}", total, unit, done=done)


class _Data:
    """Every data setting of a comparison, read once; all must have the same test part."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.loaded: dict[str, Splits] = {}

    def of(self, recipe: Recipe) -> Splits:
        """Return a recipe's data.

        Raises:
            DataError: its test samples are not those of the recipes before.
        """
        name = recipe.data.name
        options = stated(recipe, name, recipe.data.options)  # encoders may read time or not
        key = json.dumps([name, options], sort_keys=True)
        if key not in self.loaded:
            splits = load(recipe, self.progress)
            for other in self.loaded.values():
                if not torch.equal(splits.test.y.cpu(), other.test.y.cpu()):
                    raise DataError.of(
                        "data",
                        f"the test part of the rows before ({len(other.test)} samples)",
                        f"another of {len(splits.test)}",
                        "compare on one data set",
                    )
            self.loaded[key] = splits
        return self.loaded[key]


class _Refusals:
    """What is refused of a comparison, found before its first run; alike recipes are tried once."""

    def __init__(self, plan: Plan, data: _Data) -> None:
        self._data = data
        self._tried: dict[str, str | None] = {}
        self._rows: dict[str, str | None] = {}
        self._trials: dict[tuple[str, int], str | None] = {}
        for row in plan.rows:
            why = self._try(row.recipe, f"'{row.label}'")
            if why is None and plan.tune is not None:
                numbers = range(plan.trials)
                for number in numbers:
                    place = f"'{row.label}', trial {number + 1} of {plan.trials}"
                    trial = plan.tune.trial(row.recipe, number)
                    self._trials[row.slug, number] = self._try(trial, place)
                whys = [self._trials[row.slug, number] for number in numbers]
                why = whys[0] if all(whys) else None
            self._rows[row.slug] = why

    def of(self, row: Row) -> str | None:
        """Return why a rule refuses a row's net, or that of all its trials."""
        return self._rows[row.slug]

    def of_trial(self, job: Job) -> str | None:
        """Return why a rule refuses the net of a tuning trial."""
        return None if job.final else self._trials[job.row.slug, job.number]

    def _try(self, recipe: Recipe, place: str) -> str | None:
        key = json.dumps(essence(recipe), sort_keys=True)
        if key not in self._tried:
            with placed(place):
                self._tried[key] = refusal(recipe, self._data.of(recipe))
        return self._tried[key]
