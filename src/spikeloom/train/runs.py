"""The folder of a run: who may write it, what lies in it, what is left of an earlier one."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.program.recipe import Recipe, build_recipe, fingerprint
from spikeloom.records import checkpoint, storage
from spikeloom.records.files import open_run, save_epochs, save_record
from spikeloom.records.names import (
    ENVIRONMENT,
    INPUTS,
    METRICS,
    RECIPE,
    RESULT,
    SAMPLES,
    STATE,
    WEIGHTS,
)
from spikeloom.records.part import Part
from spikeloom.records.run import EpochRecord, TrainedRecord

WORTH = (METRICS, STATE, WEIGHTS, RESULT, SAMPLES)
"""What nobody would want to lose, also where the recipe beside it is gone."""

MARKS = {INPUTS: "in_shape", ENVIRONMENT: "packages"}
"""A key of the files that a run killed at its beginning leaves without a recipe."""


class RunFolder(AbstractContextManager["RunFolder"]):
    """Where a run writes; without a path, and in all processes but the first, nowhere.

    Nothing is decided about a folder that another process could change meanwhile: one that is there
    is locked before it is looked at, and one that is not is made, locked and looked at again by
    `occupy`, when it is sure that the run can begin.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._open = ExitStack()
        self._lock: Lock | None = None

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def claim(self, recipe: Recipe, *, overwrite: bool, resume: bool) -> None:
        """Keep others out of a folder that is there, and make sure that `recipe` may have it.

        Raises:
            ConfigError: another process writes there, it cannot be written, or it holds a run, or
                to resume, one of another recipe.
        """
        if self.path is None:
            return
        with storage.writing(self.path):
            there = self.path.exists()
        if there:
            self._lock = self._open.enter_context(locked(self.path))
            claim(self.path, recipe, overwrite=overwrite, resume=resume)

    def occupy(self) -> None:
        """Make the folder and keep others out of it.

        Raises:
            ConfigError: another process began a run there since `claim` found no folder, or it
                cannot be written.
        """
        if self.path is None or self._lock is not None:
            return
        self._lock = self._open.enter_context(locked(self.path))
        begun = [name for name in (RECIPE, *WORTH) if (self.path / name).exists()]
        if begun:
            raise ConfigError(
                f"{self.path}: expected a new run folder, found {begun[0]} of a run that another "
                "process began meanwhile; choose another with --out, or go on with --resume."
            )

    def __truediv__(self, name: str) -> Path:
        """Return where a file of the run lies.

        Raises:
            ConfigError: the folder was deleted or replaced while the run went on.
        """
        assert self.path is not None and self._lock is not None
        self._lock.check()
        return self.path / name

    def has(self, name: str) -> bool:
        """Return whether the file is there."""
        return self.path is not None and (self.path / name).exists()

    def write(self, name: str, record: Part) -> None:
        """Write a record."""
        if self.path is not None:
            save_record(self / name, record)

    def write_table(self, name: str, table: Mapping[str, Any]) -> None:
        """Write a table that is no record: recipe and inputs have types of their own."""
        if self.path is not None:
            storage.write_record(self / name, table)

    def write_epochs(self, curve: list[EpochRecord]) -> None:
        """Write the metrics of all epochs done."""
        if self.path is not None:
            save_epochs(self / METRICS, curve)

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors."""
        if self.path is not None:
            checkpoint.write_weights(self / name, tensors)

    def remove(self, *names: str) -> None:
        """Remove files that may be there."""
        if self.path is not None:
            for name in names:
                storage.remove(self / name)


def stored_recipe(path: Path) -> Recipe:
    """Read the recipe of a run folder.

    Raises:
        ConfigError: there is no run in it.
        DataError: the file is damaged or of a newer library.
    """
    file = path / RECIPE
    if not file.exists():
        raise ConfigError(
            f"{path}: expected the folder of a run, found no {RECIPE} in it; name the folder that "
            "`spikeloom train` printed."
        )
    return build_recipe(storage.read_json(file), str(file))


def stored_result(path: Path, recipe: Recipe) -> TrainedRecord | None:
    """Return the record of a finished run of this very recipe, None where there is none.

    Raises:
        DataError: the record is damaged.
    """
    if not (path / RESULT).exists() or not (path / RECIPE).exists():
        return None
    same = fingerprint(stored_recipe(path)) == fingerprint(recipe)
    return open_run(path / RESULT) if same else None


def claim(path: Path, recipe: Recipe, *, overwrite: bool, resume: bool) -> None:
    """Make sure that a folder may be used for a run of `recipe`.

    Raises:
        ConfigError: it holds a run, or to resume, one of another recipe.
    """
    if not (path / RECIPE).exists():
        left = [name for name in WORTH if (path / name).exists()]
        if left and not overwrite and not (resume and STATE in left):
            raise ConfigError(
                f"{path}: expected a new run folder, found {', '.join(left)} of a run without its "
                f"{RECIPE}; choose another with --out or pass --force to replace it."
            )
        foreign = [name for name, key in MARKS.items() if _foreign(path / name, key)]
        if foreign and not overwrite:
            raise ConfigError(
                f"{path}: expected a new run folder, found a {foreign[0]} that no run wrote; "
                "choose another with --out or pass --force to replace it."
            )
        return
    if resume:
        stored = stored_recipe(path)
        if fingerprint(stored) != fingerprint(recipe):
            raise ConfigError(
                f"{path}: expected a run of this recipe, found one that differs in "
                f"{_difference(stored, recipe)}; choose another folder with --out or pass "
                "--force to replace it."
            )
    elif not overwrite:
        finished = (path / RESULT).exists()
        what = "a finished run" if finished else "an unfinished run"
        todo = "" if finished else "go on with --resume, "
        raise ConfigError(
            f"{path}: expected a new run folder, found {what}; {todo}choose another with --out or "
            "pass --force to replace it."
        )


def _foreign(file: Path, key: str) -> bool:
    """Return whether a file is there that a run would replace, though no run wrote it."""
    try:
        return file.exists() and key not in storage.read_json(file)
    except DataError:
        return True


class Lock:
    """The lock on a folder, as long as it is held.

    Args:
        folder: that is locked.
        file: whose lock it is.
    """

    def __init__(self, folder: Path, file: Path) -> None:
        self.folder = folder
        self.file = file
        self._identity = self._seen()

    def check(self) -> None:
        """Make sure that the folder is still the one that was locked.

        Raises:
            ConfigError: it was deleted or replaced; another process may write there by now.
        """
        if self._seen() != self._identity:
            raise ConfigError(
                f"{self.folder}: expected the folder that this run writes, found it deleted or "
                "replaced while the run went on; what was in it is lost, start the run again."
            )

    def _seen(self) -> tuple[int, int] | None:
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


@contextmanager
def locked(path: Path) -> Iterator[Lock]:
    """Keep other processes out of a folder; the lock ends with the process, however it ends.

    The folder is made where it is missing. What killed writers left in it is removed.

    Raises:
        ConfigError: another process writes there, or the folder cannot be written or locked.
    """
    from filelock import FileLock, Timeout

    with storage.writing(path):
        kind = "a file" if path.is_file() else "the root of the file system"
        if path.is_file() or path.resolve() == Path(path.anchor or path.resolve().anchor):
            raise ConfigError(
                f"{path}: expected a folder that can be written, got {kind}; choose another place "
                "with --out."
            )
        path.mkdir(parents=True, exist_ok=True)
    file = path / ".lock"
    lock = FileLock(file, timeout=0)
    with storage.writing(path):
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"{path}: expected a folder that no other run writes, found one in use; wait for "
                "it or choose another with --out."
            ) from None
        except NotImplementedError as error:
            raise ConfigError(
                f"{path}: expected a file system that can lock files, got '{error}'; choose "
                "another place with --out."
            ) from None
    try:
        with storage.writing(path):
            for left in path.glob(".*.tmp"):  # of writers that were killed; nobody else is here now
                left.unlink(missing_ok=True)
        yield Lock(path, file)
    finally:
        lock.release()


def _difference(one: Recipe, other: Recipe) -> str:
    """Name the first key in which two recipes differ."""
    ours, theirs = one.model_dump(mode="json"), other.model_dump(mode="json")

    def first(a: Any, b: Any, path: str) -> str:
        if isinstance(a, dict) and isinstance(b, dict):
            for key in sorted(a.keys() | b.keys()):
                if a.get(key) != b.get(key):
                    return first(a.get(key), b.get(key), f"{path}.{key}" if path else key)
        if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            for row, (x, y) in enumerate(zip(a, b, strict=True)):
                if x != y:
                    return first(x, y, f"{path}.{row}")
        return f"{path} ({a!r} there, {b!r} here)"

    return first(ours, theirs, "")
