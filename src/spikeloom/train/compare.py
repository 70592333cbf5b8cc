"""Running a comparison: every row with every seed; what is finished is never trained again."""

import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spikeloom.base.errors import ConfigError, DataError, Stopped, UnsupportedNet, too_big
from spikeloom.data import Splits
from spikeloom.train import checkpoint
from spikeloom.train.entries import EntryState, Job, Pace, jobs_of, span
from spikeloom.train.failure import reason
from spikeloom.train.folder import (
    check_kept,
    check_unused,
    clear,
    finished,
    usable,
)
from spikeloom.train.inputs import stated
from spikeloom.train.loop import load, never, train
from spikeloom.train.plan import Plan, Row
from spikeloom.train.progress import SILENT, Progress
from spikeloom.train.recipe import Recipe
from spikeloom.train.runs import Lock, locked
from spikeloom.train.setup import prepare, set_up
from spikeloom.train.tables import placed

RESULTS_FORMAT = 3
"""Version of results.json; 1 had labels, runs and refusals only, 2 no checksum."""


def run_comparison(
    plan: Plan,
    out: Path,
    *,
    progress: Progress = SILENT,
    overwrite: bool = False,
    stop: Callable[[], bool] = never,
    command: str | None = None,
) -> dict[str, Any]:
    """Run every row with every seed, seed by seed; results.json is rewritten after each run.

    All rows are built before the first one runs, so that a row that does not fit costs nothing. A
    rule that cannot train its net is no error: its entry holds the refusal and no runs. A run that
    fails is noted in its entry, and the others go on. The same call on the same folder goes on
    where the last one ended: finished runs are read, unfinished ones continued, failed ones tried
    again. Runs of rows that are no longer in the plan stay on disk and count for nothing. A folder
    that cannot be written is read, where nothing is left to do.

    Args:
        plan: what to run.
        out: folder for results.json and the run folders.
        progress: told of each run, its phases and epochs.
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
    data = _Data(progress)
    refusals = {row.slug: _refusal(row, data) for row in plan.rows}
    jobs = jobs_of(plan, [row for row in plan.rows if refusals[row.slug] is None], out)
    runner = _Runner(plan, out, data, refusals, progress=progress, stop=stop)
    runner.command = command
    if not overwrite and out.is_dir() and not os.access(out, os.W_OK):
        check_kept(plan, jobs, out)
        if (results := runner.settled(jobs)) is not None:
            return results
    with locked(out) as lock:
        if overwrite:
            check_unused(job.folder for job in jobs)
            for job in jobs:
                clear(job.folder)
        else:
            check_kept(plan, jobs, out)
        return runner.run(jobs, lock)


class _Runner:
    """One pass over the jobs to read what is finished, one to do the rest."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        data: "_Data",
        refusals: dict[str, str | None],
        *,
        progress: Progress,
        stop: Callable[[], bool],
    ) -> None:
        self.plan = plan
        self.out = out
        self.data = data
        self.progress = progress
        self.stop = stop
        self.entries = {
            row.slug: EntryState(plan, row, refusal=refusals[row.slug]) for row in plan.rows
        }
        self.pace = Pace()
        self.command: str | None = None

    def settled(self, jobs: list[Job]) -> dict[str, Any] | None:
        """Return the results where every run is finished, None where something is left to do."""
        self._read(jobs)
        return self._results() if all(map(self._has, jobs)) else None

    def _read(self, jobs: list[Job]) -> None:
        for job in jobs:
            entry = self.entries[job.row.slug]
            recipe = entry.recipe_of(job)
            if recipe is not None and (record := finished(job.folder, recipe)) is not None:
                entry.keep(job, record)

    def run(self, jobs: list[Job], lock: Lock) -> dict[str, Any]:
        """Read what is finished, do the rest, and write the results after each run."""
        self._read(jobs)
        results = self._write(lock)
        for number, job in enumerate(jobs, 1):
            entry = self.entries[job.row.slug]
            if entry.has(job):
                continue
            recipe = entry.recipe_of(job)
            if recipe is None:
                entry.fail(job, f"tuning: no trial came to its end: {entry.first_trial_error()}")
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
                splits=self.data.of(job.row),
                progress=watched,
                resume=True,
                final=job.final,
                stop=self.stop,
            ).record
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001  one row's failure must not end the others
            entry.fail(job, reason(error, job.folder))
            self.progress.warn(f"{job.title} failed: {entry.error_of(job)}")
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        else:
            self.pace.add(job, time.perf_counter() - start)
            entry.keep(job, record)

    def _write(self, lock: Lock) -> dict[str, Any]:
        results = self._results()
        lock.check()
        checkpoint.write_record(self.out / "results.json", results)
        return results

    def _results(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "format": RESULTS_FORMAT,
            "name": plan.name,
            "command": self.command,
            "seeds": list(plan.seeds),
            "tune": plan.tune.model_dump(mode="json") if plan.tune is not None else None,
            "first": plan.first.label,
            "entries": [entry.record() for entry in self.entries.values()],
        }


class _Titled(Progress):
    """Passes news on with the run's title in front of each phase; notes of single runs stay out."""

    def __init__(self, inner: Progress, title: str) -> None:
        self.title = title
        self.advance = inner.advance
        self.epoch = inner.epoch
        self.plan = inner.plan
        self.inputs = inner.inputs
        self.warn = inner.warn
        self.close = inner.close
        self._phase = inner.phase

    def phase(self, name: str, total: int, unit: str = "images", *, done: int = 0) -> None:
        self._phase(f"{self.title}: {name}", total, unit, done=done)


class _Data:
    """Every data setting of a comparison, read once; all must have the same test part."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.loaded: dict[str, Splits] = {}

    def of(self, row: Row) -> Splits:
        """Return a row's data.

        Raises:
            DataError: its test samples are not those of the rows before.
        """
        name = row.recipe.data.name
        options = stated(row.recipe, name, row.recipe.data.options)  # encoders may read time or not
        key = json.dumps([name, options], sort_keys=True)
        if key not in self.loaded:
            splits = load(row.recipe, self.progress)
            for other in self.loaded.values():
                if not torch.equal(splits.test.y.cpu(), other.test.y.cpu()):
                    raise DataError(
                        f"data: expected the test part of the rows before ({len(other.test)} "
                        f"samples), got another of {len(splits.test)}; compare on one data set."
                    )
            self.loaded[key] = splits
        return self.loaded[key]


def _refusal(row: Row, data: _Data) -> str | None:
    """Build all stages of a row; return why a rule refuses its net, None where none does."""
    with placed(f"'{row.label}'"):
        try:
            for number in range(len(row.recipe.stages)):
                bench = set_up(row.recipe, data.of(row), stage=number, prepared=False)
                try:
                    prepare(bench)
                except UnsupportedNet as error:
                    return str(error)
        except (MemoryError, RuntimeError, TypeError) as error:
            message = too_big(error)
            if message is None:
                raise
            raise ConfigError(message) from None
    return None
