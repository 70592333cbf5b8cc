"""evaluate, from the command line: what it prints is what the net does."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clikit import command
from runkit import make_run

from spikeloom.records import storage

DIGITS = (1, 8, 8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "snn", stages__0__steps=3)
    make_run(folder / "ann", stages__0__rule="ann")
    make_run(folder / "latency", encoder="latency", stages__0__steps=3)
    return folder


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, runs):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
    for one in runs.iterdir():
        (tmp_path / one.name).symlink_to(one)
    return lambda *words: command(monkeypatch, capsys, *words)


def arrays(path, shape=DIGITS, classes=10):
    generator = np.random.default_rng(0)
    np.savez(
        path,
        x_train=generator.integers(0, 256, (60, *shape)).astype(np.uint8),
        y_train=np.arange(60) % classes,
        x_test=generator.integers(0, 256, (30, *shape)).astype(np.uint8),
        y_test=np.arange(30) % classes,
    )


class TestPrinted:
    def test_accuracy_over_time_and_by_class(self, call):
        done = call("evaluate", "snn", "--json", "e.json")
        assert done.code == 0, done.err
        record = storage.read_json(Path("e.json"))
        result = storage.read_json(Path("snn/result.json"))
        assert record["steps"] == [1, 2, 3] and record["at"] == record["trained_steps"] == 3
        assert record["accuracy"][-1] == result["test_accuracy"]
        assert record["loss"][-1] == pytest.approx(result["test_loss"], rel=1e-6)
        assert record["spikes"][-1] == pytest.approx(result["costs"]["spikes"]["mean"])
        confusion = torch.tensor(record["confusion"])
        assert confusion.sum() == record["samples"] == 350
        assert int(confusion.diagonal().sum()) / 350 == record["accuracy"][-1]
        lines = done.out.splitlines()
        assert lines[:2] == ["snn: bptt, T = 3, digits", "net c4 P f10"]
        assert lines[2] == "test part of digits, 350 samples, one pass"
        row = lines[8]
        assert row.split()[:2] == ["3", f"{100 * record['accuracy'][2]:.2f}"]
        assert row.endswith("the run's T") and "the run's T" not in lines[7]
        assert "answers after 3 steps, one row per label, one column per answer" in lines
        assert lines[-1] == "written: e.json"
        assert max(map(len, lines)) <= 100

    def test_steps_of_choice(self, call):
        done = call("evaluate", "snn", "--steps", "6,1", "--samples", "20", "--json", "e.json")
        assert done.code == 0, done.err
        record = storage.read_json(Path("e.json"))
        assert record["steps"] == [1, 6] and record["samples"] == 20 and record["at"] == 1
        assert "20 of 350 samples" in done.out and "answers after 1 step," in done.out

    @pytest.mark.parametrize(("part", "count"), [("validation", 250), ("train", 40)])
    def test_other_parts(self, call, part, count):
        done = call("evaluate", "snn", "--part", part)
        assert done.code == 0 and f"{part} part of digits, {count} samples" in done.out, done.out

    def test_a_net_without_time(self, call):
        done = call("evaluate", "ann")
        assert done.code == 0, done.err
        assert "answers, one row per label" in done.out
        assert done.out.splitlines()[6].split()[3] == "-"
        call("evaluate", "ann", "--steps", "1,2").refused("none for a net without time")

    def test_a_code_that_depends_on_the_length(self, call):
        done = call("evaluate", "latency")
        assert done.code == 0 and "which is not the same as a run with T = t" in " ".join(
            done.out.split()
        )
        call("evaluate", "latency", "--steps", "4").refused("'latency' changes with T, got 4")

    def test_an_unfinished_run(self, call, runs, tmp_path):
        shutil.copytree(runs / "snn", tmp_path / "cut")
        (tmp_path / "cut" / "result.json").unlink()
        done = call("evaluate", "cut", "--samples", "5")
        assert done.code == 0 and "unfinished" in done.out.splitlines()[0]

    def test_many_classes(self, call, tmp_path):
        arrays(tmp_path / "t.npz", classes=20)
        make_run(
            tmp_path / "many",
            net="f20",
            data={"name": "tensors", "path": str(tmp_path / "t.npz")},
        )
        done = call("evaluate", "many")
        assert done.code == 0, done.err
        assert "the 16 worst of 20" in done.out and "taken for" in done.out


class TestOtherData:
    def test_of_the_same_kind(self, call, tmp_path):
        arrays(tmp_path / "t.npz")
        done = call("evaluate", "snn", "--data", "tensors", "--set", "data.path=t.npz")
        assert done.code == 0 and "test part of tensors, 30 samples" in done.out, done.err

    def test_own_data_changed(self, call):
        done = call("evaluate", "snn", "--set", "data.train_size=50", "--part", "train")
        assert done.code == 0 and "train part of digits, 50 samples" in done.out

    @pytest.mark.parametrize(("shape", "classes"), [((1, 6, 6), 10), (DIGITS, 4)])
    def test_of_another_kind(self, call, tmp_path, shape, classes):
        arrays(tmp_path / "t.npz", shape, classes)
        call("evaluate", "snn", "--data", "tensors", "--set", "data.path=t.npz").refused(
            f"expected samples [1, 8, 8] of 10 classes, as the net was trained on ('digits'), got "
            f"{list(shape)} of {classes}; choose other data."
        )


WRONG = [
    (["no"], "no: expected a run folder, got none"),
    (["file"], "file: expected a run folder, got a file"),
    (["snn", "--steps", "a"], "--steps: expected different whole numbers, separated"),
    (["snn", "--steps", "0,1"], "--steps: expected 1 step or more, got 0"),
    (["snn", "--steps", "1,,2"], "--steps: expected different whole numbers, separated"),
    (["snn", "--steps", "2,2"], "--steps: expected different whole numbers, separated"),
    (["snn", "--part", "tests"], "--part: expected one of test, validation, train, got 'tests'"),
    (["snn", "--samples", "0"], "--samples: expected 1 or more, got 0"),
    (["snn", "--data", "mnst"], "data: unknown data set 'mnst'; did you mean 'mnist'?"),
    (["snn", "--data", "mnist"], "data.mnist: expected"),
    (["snn", "--data", "tensors"], "path"),
    (["snn", "--set", "stages.0.steps=9"], "--set: expected a change of the data"),
    (["snn", "--set", "data.pth=9"], "unknown option 'pth'"),
    (["snn", "--set", "data.train_size"], "--set: expected path=value"),
    (["snn", "--device", "gpu"], "--device: expected one of auto, cpu, cuda, got 'gpu'"),
    (["snn", "--samples", "3", "--json", "/proc/x"], "--json /proc/x: expected a file that can be"),
    (["snn", "--samples", "3", "--json", "."], "--json .: expected a file that can be written"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_mistakes(call, tmp_path, words, message):
    (tmp_path / "file").touch()
    call("evaluate", *words).refused(message)
