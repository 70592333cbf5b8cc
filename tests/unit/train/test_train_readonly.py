"""Folders that cannot be written, or cannot be one: one line, or nothing to do; no attempt."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from comparekit import loads, two  # noqa: F401
from spikeloom.base.errors import ConfigError
from spikeloom.compare.run import run_comparison
from spikeloom.records import names, storage
from spikeloom.train.loop import train
from trainkit import recipe, tiny


def run(out, changes=None, **options):
    return train(recipe({"stages.0.epochs": 1} | (changes or {})), out, splits=tiny(), **options)


@pytest.fixture
def read_only(monkeypatch):
    """Return a switch that lets every attempt to write fail, as a read-only mount does."""

    def fail(*_, **__):
        raise OSError(30, "Read-only file system")

    def switch():
        for place, name in ((Path, "mkdir"), (Path, "unlink"), (FileLock, "acquire")):
            monkeypatch.setattr(place, name, fail)
        monkeypatch.setattr(storage, "write_bytes", fail)
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)

    return switch


class TestNothingLeftToDo:
    def test_a_finished_run_is_returned(self, tmp_path, read_only):
        record = run(tmp_path).record
        read_only()
        outcome = run(tmp_path, resume=True)
        assert outcome.record == record and outcome.bench is None

    def test_a_finished_comparison_is_returned(self, loads, tmp_path, read_only):  # noqa: F811
        results = run_comparison(two(seeds=(0,)), tmp_path)
        read_only()
        assert run_comparison(two(seeds=(0,)), tmp_path) == results

    def test_one_with_something_left_is_refused(self, loads, tmp_path, read_only):  # noqa: F811
        run_comparison(two(seeds=(0,)), tmp_path)
        run(tmp_path / "x")
        read_only()
        with pytest.raises(ConfigError, match="got 'Read-only file system'; choose another place"):
            run_comparison(two(seeds=(0, 1)), tmp_path)
        for options in ({}, {"overwrite": True}):
            with pytest.raises(ConfigError, match="'Read-only file system'"):
                run(tmp_path / "x", **options)


@pytest.mark.parametrize(
    ("place", "came"),
    [
        ("/", "the root of the file system"),
        ("file", "a file"),
        ("file/x", "'Not a directory'"),
        ("x" * 5000, "'File name too long'"),
        (f"deep/{'x' * 300}/y", "'File name too long'"),
    ],
)
def test_what_is_no_folder(place, came, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / place
    with pytest.raises(ConfigError, match="expected a folder that can be written, got " + came):
        run(out)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "deep") == ["file"]
    assert not Path("/recipe.json").exists()


@pytest.mark.parametrize("name", [names.INPUTS, names.ENVIRONMENT, names.SAMPLES, names.METRICS])
def test_a_file_of_somebody_else_is_not_replaced(name, tmp_path):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match=rf"found .*{name}"):
        run(tmp_path)
    assert (tmp_path / name).read_text() == '{"mine": 1}'
    run(tmp_path, overwrite=True)


def test_a_name_with_a_line_break(tmp_path):
    run(tmp_path / "a\nb")
    with pytest.raises(ConfigError, match=r"a\\nb: expected a new run folder") as caught:
        run(tmp_path / "a\nb")
    assert "\n" not in str(caught.value)
