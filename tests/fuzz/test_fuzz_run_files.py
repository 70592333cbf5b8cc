"""Damaged run folders: read, or refused in one line; nothing else in them is touched.

A reader of run folders is added to `READERS`; a file they hold is found by itself.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from damage import contents, damaged, put, refusal_without_a_trace
from fuzzing import cases, refusal, sweep
from hypothesis import strategies as st

from spikeloom.base.errors import Stopped
from spikeloom.data import Samples
from spikeloom.inference.evaluate import evaluate
from spikeloom.inference.opening import open_inputs, open_run
from spikeloom.inference.over_time import predict_over_time
from spikeloom.program.recipe import build_recipe
from spikeloom.records import checkpoint, names
from spikeloom.records.files import open_record
from spikeloom.records.run import RunRecord
from spikeloom.report.page import render
from spikeloom.report.records import read_entries
from spikeloom.train import runs
from spikeloom.train.loop import train

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


def reopen(folder: Path) -> None:
    """As `spikeloom evaluate folder`."""
    bench = open_run(folder)
    evaluate(bench, bench.splits.test, "test")


def record(folder: Path) -> None:
    """As `spikeloom profile folder`."""
    open_record(folder / names.RESULT, RunRecord)


def report(folder: Path) -> None:
    """As `spikeloom report folder`, without the file."""
    render(read_entries([folder]))


READERS: Mapping[str, Callable[[Path], None]] = {
    "resume": resume,
    "resume with recipe": resume_with_recipe,
    "begin": begin,
    "open": reopen,
    "record": record,
    "report": report,
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
    assert names.STATE in contents(stopped) and names.RESULT in contents(finished)
    return {"finished": contents(finished), "stopped": contents(stopped)}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["finished", "stopped"])
@cases(few=5, many=400)
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


@pytest.mark.parametrize("reader", ["resume with recipe", "begin"])
def test_a_finished_run_without_its_recipe_is_not_replaced(stored, reader, tmp_path):
    files = {name: part for name, part in stored["finished"].items() if name != names.RECIPE}
    for name, content in files.items():
        put(tmp_path / name, content)
    line = refusal_without_a_trace(tmp_path, lambda: READERS[reader](tmp_path))
    assert line is not None and "of a run without its recipe.json" in line


def test_a_damaged_environment_stops_no_run(stored, tmp_path):
    for name, content in stored["stopped"].items():
        put(tmp_path / name, b"{" if name == names.ENVIRONMENT else content)
    outcome = train(RECIPE, tmp_path, resume=True, final=False)
    assert outcome.record.warnings[-1] == (
        "resumed with other versions perhaps (environment.json is damaged): results may not be "
        "bit-identical."
    )


@pytest.mark.parametrize("kind", ["finished", "stopped"])
@cases(few=8, many=1500)
def test_a_flip_changes_no_outcome(stored, kind, examples, tmp_path):
    """Any bit, or digit, of any file: a resumed run, an evaluation and a report say the same."""
    files = stored[kind]
    folder = tmp_path / "run"

    def put_all(name: str = "", content: bytes = b"") -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for one, whole in files.items():
            (folder / one).write_bytes(content if one == name else whole)

    @st.composite
    def flipped(draw: st.DrawFn) -> tuple[str, bytes]:
        name = draw(st.sampled_from(sorted(files)))
        content = bytearray(files[name])
        digits = [place for place, sign in enumerate(content) if chr(sign).isdigit()]
        if digits and draw(st.booleans()):
            place = draw(st.sampled_from(digits))
            content[place] = ord(draw(st.sampled_from("0123456789")))
        else:
            place = draw(st.integers(0, len(content) - 1) | st.integers(0, 3000))
            content[place % len(content)] ^= 1 << draw(st.integers(0, 7))
        return name, bytes(content)

    expected = {}
    for name, outcome in OUTCOMES.items():
        put_all()
        expected[name] = outcome(folder)

    def check(case: tuple[str, bytes]) -> None:
        for name, outcome in OUTCOMES.items():
            put_all(*case)
            seen = []
            if refusal(lambda outcome=outcome, seen=seen: seen.append(outcome(folder))) is None:
                assert seen[0] == expected[name], f"{name}: another outcome"

    sweep(flipped(), check, examples)


def end_of_a_resumed_run(folder: Path) -> object:
    record = train(runs.stored_recipe(folder), folder, resume=True, final=False).record
    tensors = checkpoint.read_tensors(folder / names.WEIGHTS)[0]
    keys = ("recipe", "epochs", "val_accuracy", "val_loss", "test_accuracy", "test_loss", "steps")
    return [getattr(record, key, None) for key in keys], {
        name: one.tolist() for name, one in tensors.items()
    }


def answers(folder: Path) -> object:
    bench = open_run(folder, data=False)
    inputs = open_inputs(folder, bench.recipe)
    x = torch.linspace(0, inputs.scaling.peak, 64).view(1, *inputs.in_shape)
    samples = Samples(x, torch.zeros(1, dtype=torch.int64), inputs.build_scaling())
    return predict_over_time(bench, samples)[0].tolist(), inputs.labels, inputs.classes


def scores(folder: Path) -> object:
    bench = open_run(folder)
    score = evaluate(bench, bench.splits.validation, "validation")
    return score.loss, score.accuracy


def page(folder: Path) -> object:
    return render(read_entries([folder])).count("<svg"), [
        (entry.label, entry.runs, entry.unfinished, entry.samples)
        for entry in read_entries([folder])
    ]


OUTCOMES: Mapping[str, Callable[[Path], object]] = {
    "resume": end_of_a_resumed_run,
    "predict": answers,
    "evaluate": scores,
    "report": page,
}
