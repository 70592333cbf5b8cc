"""Damaged run folders: read, or refused in one line; nothing else in them is touched.

A reader of run folders is added to `READERS`; a file they hold is found by itself.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from damage import contents, damaged, put, refusal_without_a_trace
from fuzzing import cases, sweep
from hypothesis import strategies as st

from spikeloom.base.errors import Stopped
from spikeloom.report.table import entry_rows, to_text
from spikeloom.train import checkpoint, runs
from spikeloom.train.loop import train
from spikeloom.train.recipe import build_recipe

RECIPE = build_recipe(
    {
        "name": "tiny",
        "net": 'c2 P [c2{norm = "batch_step"}]x2 P f10',
        "data": {"name": "digits", "train_size": 30},
        "stages": [
            {"rule": "ann", "epochs": 1, "batch": 15},
            {"rule": "bptt", "steps": 2, "epochs": 2, "batch": 15, "select": "best"},
        ],
    },
    "fuzz",
)


def resume(folder: Path) -> None:
    """As `spikeloom train --resume folder`."""
    train(runs.stored_recipe(folder), folder, resume=True, final=False)


def resume_with_recipe(folder: Path) -> None:
    """As `spikeloom train recipe.toml --resume folder`."""
    train(RECIPE, folder, resume=True, final=False)


def begin(folder: Path) -> None:
    """As `spikeloom train recipe.toml --out folder`."""
    train(RECIPE, folder, final=False)


def table(folder: Path) -> None:
    """As the table at the end of `spikeloom train`."""
    record = checkpoint.read_json(folder / runs.RESULT)
    to_text(entry_rows([{"label": "x", "control": False, "runs": [record]}]))


READERS: Mapping[str, Callable[[Path], None]] = {
    "resume": resume,
    "resume with recipe": resume_with_recipe,
    "begin": begin,
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of a finished run, and of one that was stopped in its second stage."""
    finished = tmp_path_factory.mktemp("finished")
    train(RECIPE, finished)
    stopped = tmp_path_factory.mktemp("stopped")
    asked = iter([False] * 7 + [True])
    with pytest.raises(Stopped):
        train(RECIPE, stopped, stop=lambda: next(asked))
    assert runs.STATE in contents(stopped) and runs.RESULT in contents(finished)
    return {"finished": contents(finished), "stopped": contents(stopped)}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["finished", "stopped"])
@cases(few=12, many=900)
def test_run_files(stored, kind, reader, examples, tmp_path):
    files = stored[kind]
    folder = tmp_path / "run"

    @st.composite
    def broken(draw: st.DrawFn) -> tuple[str, bytes | None]:
        name = draw(st.sampled_from(sorted(files)))
        return name, draw(damaged(files[name], tuple(files.values())))

    def check(case: tuple[str, bytes | None]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        put(folder / case[0], case[1])
        refusal_without_a_trace(folder, lambda: READERS[reader](folder))

    sweep(broken(), check, examples)
