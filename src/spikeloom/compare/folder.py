"""The folder of a comparison: which plan made it, and what of it may be used again."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from spikeloom.base.errors import ConfigError, DataError, SpikeloomError
from spikeloom.compare.differences import differences
from spikeloom.compare.entries import Job, stored_recipe
from spikeloom.compare.plan import Plan
from spikeloom.program.recipe import Recipe
from spikeloom.records import names, storage
from spikeloom.records.comparison import ComparisonRecord
from spikeloom.records.files import ForeignRecord, open_record
from spikeloom.records.run import TrainedRecord
from spikeloom.train import runs
from spikeloom.train.state import Stored


def finished(folder: Path, recipe: Recipe) -> TrainedRecord | None:
    """Return the record of a finished run of this recipe, None where there is none.

    A damaged record is ignored, so that the run is trained again.

    Raises:
        NewerFormat: a newer library wrote it.
        ForeignRecord: it is whole, and no record of a run.
    """
    try:
        record = runs.stored_result(folder, recipe)
    except (storage.NewerFormat, ForeignRecord):
        raise
    except SpikeloomError:
        return None
    selected = record is not None and None not in (record.held(record.first), record.val_loss)
    return record if selected else None


def usable(folder: Path, recipe: Recipe) -> bool:
    """Return whether a run of `recipe` is finished in a folder, or can begin or go on in it.

    Not so where a file is damaged, or where another recipe was run: a tuning trial that failed
    before may count now and lead to other values.

    Raises:
        NewerFormat: a newer library wrote it.
    """
    if finished(folder, recipe) is not None:
        return True
    if (folder / names.RESULT).exists() or stored_recipe(folder) not in (None, recipe):
        return False
    try:
        if (folder / names.STATE).exists():
            Stored(folder / names.STATE, recipe)
    except storage.NewerFormat:
        raise
    except SpikeloomError:
        return False
    return True


def check_unchanged(plan: Plan, job: Job) -> None:
    """Refuse a folder trained with another recipe; tuned values of a final run may be any.

    Raises:
        ConfigError: naming the entry and what changed.
    """
    if not (job.folder / names.RECIPE).exists():
        return
    stored, expected = stored_recipe(job.folder), job.recipe
    if stored is not None and job.final and plan.tune is not None:
        values = plan.tune.settings[0]
        stored, expected = job.with_values(stored, values), job.with_values(expected, values)
    if stored == expected:
        return
    came = "one that cannot be read"
    if stored is not None:
        found = ", ".join(one.text for one in differences(job.recipe, stored))
        came = found or "one with another name or source"
    raise ConfigError.of(
        f"'{job.row.label}'",
        f"the recipe that {job.folder} was trained with",
        came,
        "change it back, choose another folder with --out or pass --force to train every entry "
        "anew",
    )


def check_tuning(plan: Plan, out: Path) -> None:
    """Refuse results made with another tuning budget, and files that are not ours.

    Raises:
        ConfigError: saying which.
    """
    path = out / names.RESULTS
    if not path.exists():
        return
    try:
        results = open_record(path, ComparisonRecord)
    except DataError:
        raise ConfigError.of(
            path,
            "results of a comparison",
            "found something else",
            "choose another folder with --out or pass --force to replace it",
        ) from None
    tune = plan.tune.model_dump(mode="json") if plan.tune is not None else None
    if results.tune != tune:
        raise ConfigError.of(
            plan.name,
            f"the [tune] table that {out} was made with",
            "another",
            "change it back, choose another folder with --out or pass --force to train every "
            "entry anew",
        )


def check_kept(plan: Plan, jobs: Iterable[Job], out: Path) -> None:
    """Refuse a folder whose runs another plan made.

    Raises:
        ConfigError: naming what changed, as `check_tuning` and `check_unchanged`.
    """
    check_tuning(plan, out)
    for job in jobs:
        check_unchanged(plan, job)


def clear(folder: Path, *, keep: Callable[[], bool] = lambda: False) -> None:
    """Remove a run's files and nothing else, while no other process writes there.

    Args:
        folder: of the run; where there is none, nothing is done.
        keep: asked once the folder is locked; true leaves everything as it is.

    Raises:
        ConfigError: another process writes there, or the folder cannot be written.
    """
    if not folder.exists():
        return
    with runs.locked(folder):
        if keep():
            return
        for name in (*names.RUN, names.TRACEBACK):
            if (folder / name).exists():
                storage.remove(folder / name)


def check_unused(folders: Iterable[Path]) -> None:
    """Make sure that some run folders can be written, and that no other process writes there.

    Raises:
        ConfigError: one cannot, or another process does.
    """
    for folder in folders:
        if folder.exists():
            with runs.locked(folder):
                pass
            continue
        above = next(one for one in folder.parents if one.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            came = "one without the right to write" if above.is_dir() else "a file"
            raise ConfigError.of(
                above, "a folder that can be written", came, "choose another place with --out"
            )
