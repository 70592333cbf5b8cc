"""Data in time on the command line: a run from one line, and a stranger's mistakes."""

import numpy as np
import pytest
from clikit import command

RECIPE = """
name = "tiny"
net = "f8 f4"
[data]
name = "delayed_recall"
classes = 4
delay = 4
train_size = 40
validation = 8
test = 8
[[stages]]
rule = "sltt"
epochs = 1
"""


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path / "root"))
    (tmp_path / "r.toml").write_text(RECIPE)
    return lambda *words: command(monkeypatch, capsys, *words)


def test_train_evaluate_and_predict(call, tmp_path):
    done = call("train", "r.toml")
    assert done.code == 0, done.err
    said = done.out + done.err
    assert "delayed_recall: 40 training, 8 validation, 8 test samples, 4 classes, 6x5" in said
    assert "[T, D] = [6, 5], bool as events" in said and "T = 6" in said
    done = call("evaluate", "runs/tiny/seed0")
    assert done.code == 0 and "test part of delayed_recall, 8 samples" in done.out
    call("evaluate", "runs/tiny/seed0", "--set", "data.delay=5").refused(
        "expected samples [6, 5] of 4 classes"
    )
    x = np.zeros((3, 6, 5), bool)
    x[:, 0, 1] = x[:, 5, 4] = True
    np.save(tmp_path / "good.npy", x)
    np.save(tmp_path / "short.npy", x[:, :4])
    done = call("predict", "runs/tiny/seed0", "good.npy")
    assert done.code == 0 and done.out.count("good.npy[") == 3
    call("predict", "runs/tiny/seed0", "short.npy").refused("expected an array [6, 5] or [N, 6, 5]")


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ("delayed_recal", (), "did you mean 'delayed_recall'?"),
        ("delayed_recall", ("data.delay=3",), "expected 9 steps or more, to balance 10 symbols"),
        ("delayed_recall", ("data.delay=long",), "data.delay: expected a whole number"),
        ("delayed_recall", ("data.classes=4",), "expected a last layer of 4 neurons"),
        ("delayed_recall", ("stages.0.steps=9",), "set steps = 22"),
        ("delayed_recall", ("encoder=poisson",), "take encoder 'frames', with steps = 22"),
        ("delayed_recall", ("augment.crop=1",), "expected pictures [C, H, W] or frames"),
        ("digits", ("encoder=sequential", "stages.0.steps=9"), "set steps = 8, or leave"),
        ("digits", ("encoder.name=sequential", "encoder.by=col"), "expected row or pixel"),
        ("digits", ("augment.drop=0.5",), "augment.drop: expected none for samples [1, 8, 8]"),
        ("spoken_digits", (), "expected the folder"),
        ("nmnist", (), "or let $SPIKELOOM_DATA name the folder above"),
        ("nmnist", ("data.by=frames",), "expected one of time, count, voxel, got 'frames'"),
        ("shd", (), "data.shd: expected the folder"),
        ("events", ("data.path=.",), "expected the option height, got none"),
        ("events", ("data.path=.", "data.height=9", "data.width=9"), "a folder per class"),
    ],
)
def test_mistakes_are_one_line_before_anything_trains(call, tmp_path, data, changes, message):
    sets = [word for change in changes for word in ("--set", change)]
    net = "f8 f10" if data in ("delayed_recall", "digits") else "f10"
    call("compare", "--net", net, "--data", data, "--rules", "bptt", *sets).refused(message)
    assert not [*(tmp_path / "runs").rglob("weights*")]
