"""What a run says at its start."""

import pytest
import torch

from spikeloom.base.errors import NumericalError
from spikeloom.data import splits_from_tensors
from spikeloom.measure import unchanged
from spikeloom.program.setup import snapshot
from spikeloom.records.progress import SILENT, Progress, all_of
from spikeloom.train import start
from spikeloom.train.loop import train
from spikeloom.train.start import data_line, net_line, predict_seconds, room_line, time_line
from trainkit import bench, recipe, same, tiny


class Told(Progress):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)

    def inputs(self, text):
        self.lines.append(text)


def test_the_data():
    assert data_line(tiny()) == (
        "data: tensors: 45 training, 15 validation, 30 test images, 3 classes, 1x4x4"
    )
    series = torch.rand(1300, 5, 2), torch.arange(1300) % 4
    splits = splits_from_tensors(*series, test=50, validation=50, time=True)
    assert data_line(splits) == (
        "data: tensors: 1,200 training, 50 validation, 50 test samples, 4 classes, 5x2"
    )


def test_the_net():
    """c4: 4 (9 + 1) weights and biases, P: none, f3: 3 (16 + 1)."""
    assert net_line(bench()) == "net: c4 P f3, 91 parameters, T = 2"
    assert net_line(bench({"stages.0.rule": "ann"})) == "net: c4 P f3, 91 parameters, T = 1"
    long = " ".join(["f8"] * 60) + " f3"
    assert net_line(bench({"net": long})).startswith("net: f8 f8 ") and "…, " in net_line(
        bench({"net": long})
    )
    preset = bench({"net": {"preset": "vgg5", "classes": 3}}, tiny(shape=(1, 8, 8)))
    assert net_line(preset).startswith("net: vgg5, ")


def test_the_room(monkeypatch):
    monkeypatch.setattr(start, "free_bytes", lambda device: 20_000_000_000)
    assert room_line(1_000_000, bench()).endswith("; free 20 GB")
    monkeypatch.setattr(start, "free_bytes", lambda device: None)
    assert "free" not in room_line(1_000_000, bench())


class TestTime:
    def test_by_hand(self, monkeypatch):
        """45 samples in batches of 20 are 3, 15 for validation 1: 2 (3 (1 + 8) + 4) s."""
        seconds = iter([1.0, 8.0, 4.0])  # encoding, learning, validating
        monkeypatch.setattr(start, "stopwatch", lambda call: (call(), next(seconds))[1])
        one = bench({"stages.0.epochs": 2})
        assert predict_seconds(one) == 2 * (3 * (1 + 8) + 4)
        assert time_line(62.0, one) == (
            "time: about 62 s for 2 epochs (measured: one batch of training and one of validation)"
        )

    def test_nothing_is_left_behind(self):
        one = bench({"net": 'c4{norm = "batch_step", dropout = 0.2} P f3'})
        before = snapshot(one.modules())
        assert predict_seconds(one) > 0
        assert same(before, snapshot(one.modules()))
        assert all(parameter.grad is None for _, parameter in one.parameters())

    def test_no_number_where_none_is_measured(self, monkeypatch):
        def fails(*_, **__):
            raise NumericalError("training: expected a finite loss, got nan; x.")

        one = bench()
        monkeypatch.setattr(unchanged, "learn", fails)
        assert predict_seconds(one) is None

    def test_not_measured_for_nobody(self, monkeypatch):
        monkeypatch.setattr("spikeloom.train.loop_stage.predict_seconds", None)
        train(recipe(), splits=tiny())
        assert not SILENT.takes_notes and Told().takes_notes
        assert all_of(SILENT, Told()).takes_notes and not all_of(SILENT, SILENT).takes_notes

    def test_lines_in_order_and_bits_as_without(self):
        told = Told()
        ours = train(recipe(), splits=tiny(), progress=told)
        kinds = [line.split(":")[0] for line in told.lines]
        assert kinds[:5] == ["data", "input", "net", "training memory", "time"]
        plain = train(recipe(), splits=tiny())
        assert same(*(one.bench.modules().state_dict() for one in (ours, plain)))

    def test_of_each_stage(self):
        stages = [{"rule": rule, "steps": 2, "epochs": 1, "batch": 20} for rule in ("ann", "bptt")]
        told = Told()
        train(recipe({"stages": stages}), splits=tiny(), progress=told)
        times = [line for line in told.lines if line.startswith("time: ")]
        assert len(times) == 2 and "of stage 1 (" in times[0] and "of stage 2 (" in times[1]


@pytest.mark.parametrize("count", [1, 2])
def test_one_epoch_is_no_plural(count):
    line = time_line(3.0, bench({"stages.0.epochs": count}))
    assert ("1 epoch (" in line) == (count == 1)
