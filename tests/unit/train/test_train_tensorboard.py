"""TensorBoard's files: the right points, once."""

import sys

import pytest

from spikeloom.base.errors import ConfigError
from spikeloom.records.run import EpochRecord
from spikeloom.train.tensorboard import TensorBoardProgress

ENTRY = {"lr": 0.01, "loss": 0.5, "accuracy": 0.9, "val_loss": 0.75, "val_accuracy": 0.875}


def entry(epoch, **changes):
    table = ENTRY | {"epoch": epoch, "seconds": 1.5} | changes
    return EpochRecord.model_validate(table)


def curves(run):
    """Read the points of every curve back, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(run / "tensorboard"))
    seen.Reload()
    return {
        tag: [(point.step, point.value) for point in seen.Scalars(tag)]
        for tag in seen.Tags()["scalars"]
    }


@pytest.fixture
def run(tmp_path):
    pytest.importorskip("tensorboard")
    return tmp_path


def test_every_metric_has_a_curve(run):
    board = TensorBoardProgress(run)
    assert not (run / "tensorboard").exists()
    health = [
        {"site": "0.0.0", "rate_per_step": 0.25, "verdict": "ok"},
        {"site": "2.0.1", "rate_per_step": 0.5, "verdict": "ok"},
    ]
    board.plan(2)
    board.epoch(entry(0, health=health))
    board.epoch(entry(1, loss=0.25, val_loss=None))
    board.close()
    assert curves(run) == {
        "loss/train": [(1, 0.5), (2, 0.25)],
        "loss/validation": [(1, 0.75)],
        "accuracy/train": [(1, pytest.approx(0.9)), (2, pytest.approx(0.9))],
        "accuracy/validation": [(1, 0.875), (2, 0.875)],
        "learning_rate": [(1, pytest.approx(0.01)), (2, pytest.approx(0.01))],
        "seconds_per_epoch": [(1, 1.5), (2, 1.5)],
        "rate/0.0.0": [(1, 0.25)],
        "rate/2.0.1": [(1, 0.5)],
    }


def test_a_resumed_run_has_every_point_once(run):
    first = TensorBoardProgress(run)
    first.plan(4)
    for epoch in range(3):  # killed before the third was on disk
        first.epoch(entry(epoch, loss=1.0))
    first.close()
    second = TensorBoardProgress(run)
    second.plan(4, done=2)
    for epoch in (0, 1):  # of a second stage
        second.epoch(entry(epoch, stage=1, loss=0.5))
    second.close()
    assert curves(run)["loss/train"] == [(1, 1.0), (2, 1.0), (3, 0.5), (4, 0.5)]


def test_a_run_that_is_replaced_starts_anew(run):
    for loss, epochs in ((1.0, 3), (0.5, 2)):
        board = TensorBoardProgress(run)
        board.plan(epochs)
        for epoch in range(epochs):
            board.epoch(entry(epoch, loss=loss))
        board.close()
    assert curves(run)["loss/train"] == [(1, 0.5), (2, 0.5)]


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"got none; pip install 'spikeloom\[tensorboard\]'\.$"):
        TensorBoardProgress(tmp_path)
