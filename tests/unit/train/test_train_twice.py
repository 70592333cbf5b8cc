"""Two processes and one folder: a finished run is never deleted, whoever comes when."""

import errno
import shutil
from pathlib import Path

import filelock
import pytest

from comparekit import loads, row, two  # noqa: F401
from spikeloom.base.errors import ConfigError
from spikeloom.compare import run as compare
from spikeloom.compare.folder import clear
from spikeloom.compare.plan import Plan
from spikeloom.compare.run import run_comparison
from spikeloom.records import names, storage
from spikeloom.train import loop, runs
from spikeloom.train.loop import train
from trainkit import recipe, tiny

CHANGES = {"stages.0.epochs": 1}


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder but the locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def run(out, changes=CHANGES, **options):
    return train(recipe(changes), out, splits=tiny(), **options)


def meanwhile(monkeypatch, work) -> None:
    """Do something between the first look at the folder and its lock, once."""
    real, todo = loop._launch, [work]

    def launch(fabric):
        if todo:
            todo.pop()()
        real(fabric)

    monkeypatch.setattr(loop, "_launch", launch)


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_another_run_begins_and_ends_first(options, tmp_path, monkeypatch):
    out = tmp_path / "run"
    seen = {}

    def other():
        run(out)
        seen.update(contents(out))

    meanwhile(monkeypatch, other)
    with pytest.raises(ConfigError, match=r"found recipe.json of a run that another process began"):
        run(out, **options)
    assert contents(out) == seen and names.RESULT in seen
    assert run(out, resume=True).bench is None


def test_another_run_is_under_way(tmp_path, monkeypatch):
    out = tmp_path / "run"
    held = runs.locked(out)
    meanwhile(monkeypatch, held.__enter__)
    try:
        with pytest.raises(ConfigError, match="found one in use"):
            run(out)
    finally:
        held.__exit__(None, None, None)
    assert not contents(out)
    run(out)


def test_a_run_that_ends_between_look_and_lock_is_read(tmp_path, monkeypatch):
    """Resumed twice: the second finds it unfinished, waits for the lock, and finds it finished."""
    out = tmp_path / "run"
    real, todo = runs.locked, [lambda: run(out)]

    def locked(path):
        if todo:
            todo.pop()()
        return real(path)

    out.mkdir()
    monkeypatch.setattr(runs, "locked", locked)
    outcome = run(out, resume=True)
    assert outcome.bench is None and outcome.record.table() == storage.read_json(out / names.RESULT)


def test_the_loser_leaves_the_winners_files(tmp_path):
    half = tmp_path / ".state.safetensors.1.tmp"
    with runs.locked(tmp_path):
        half.touch()
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(ConfigError, match="found one in use"):
                run(tmp_path, **options)
        assert half.exists()


def test_killed_between_lock_and_first_file(tmp_path):
    """What is left is an empty folder with a lock file, which stops nobody."""
    with runs.locked(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / ".lock").exists()
    assert run(tmp_path / "run").record.final


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")]
)
def test_a_file_system_that_cannot_lock(error, tmp_path, monkeypatch):
    def acquire(self):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with pytest.raises(ConfigError, match="lock.*choose another place"):
        run(tmp_path / "run")
    assert not contents(tmp_path)


class TestDeleted:
    """A folder that goes away while the run goes on: one line, and nothing is made anew."""

    def stopped(self, out, change, *, after: int) -> str:
        calls = iter(range(99))

        def stop() -> bool:
            if next(calls) == after:
                change()
            return False

        with pytest.raises(
            ConfigError, match="deleted or replaced while the run went on"
        ) as caught:
            run(out, {}, stop=stop)
        return str(caught.value)

    def test_by_somebody(self, tmp_path):
        out = tmp_path / "run"
        self.stopped(out, lambda: shutil.rmtree(out), after=2)
        assert not out.exists()

    def test_and_another_run_is_there_now(self, tmp_path):
        out = tmp_path / "run"
        seen = {}

        def replace():
            shutil.rmtree(out)
            run(out)
            seen.update(contents(out))

        self.stopped(out, replace, after=5)
        assert contents(out) == seen

    def test_the_folder_of_a_comparison(self, loads, tmp_path):  # noqa: F811
        out = tmp_path / "out"
        calls = iter(range(99))

        def stop() -> bool:
            if next(calls) == 2:
                shutil.rmtree(out)
            return False

        with pytest.raises(ConfigError, match="deleted or replaced while the run went on"):
            run_comparison(Plan("x", (row("BPTT"),), (0,)), out, stop=stop)


class TestCompare:
    def test_a_run_that_another_process_ends_is_kept(self, loads, tmp_path, monkeypatch):  # noqa: F811
        """Between the look at a folder and its clearing, `train --resume` ends the run there."""
        plan = Plan("x", (row("BPTT"),), (0,))
        folder = tmp_path / "bptt" / "seed0"
        seen = {}
        real = clear

        def late(place, **options):
            train(plan.rows[0].recipe, folder, resume=True)
            seen.update(contents(folder))
            real(place, **options)

        monkeypatch.setattr(compare, "clear", late)
        results = run_comparison(plan, tmp_path)
        assert contents(folder) == seen
        (record,) = results.entries[0].runs
        assert record.table() == storage.read_json(folder / names.RESULT)

    def test_force_clears_nothing_while_one_is_written(self, loads, tmp_path):  # noqa: F811
        run_comparison(two(seeds=(0,)), tmp_path)
        before = contents(tmp_path)
        with (
            runs.locked(tmp_path / "sltt" / "seed0"),
            pytest.raises(ConfigError, match="sltt/seed0: .*found one in use"),
        ):
            run_comparison(two(seeds=(0,)), tmp_path, overwrite=True)
        assert contents(tmp_path) == before
