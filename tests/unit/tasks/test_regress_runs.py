"""Regression through training, resuming, evaluation, prediction and tables."""

import json
import sys

import numpy as np
import pytest
import torch

from spikeloom.base.errors import ConfigError, DataError, ShapeError, Stopped
from spikeloom.base.seeding import derive_seed
from spikeloom.base.types import Batch
from spikeloom.cli.main import main
from spikeloom.compare.controls import with_controls
from spikeloom.compare.plan import Plan, Row
from spikeloom.compare.run import run_comparison
from spikeloom.data import splits_from_tensors
from spikeloom.heads.squared import Squared
from spikeloom.program.batching import batches
from spikeloom.program.recipe import build_recipe
from spikeloom.program.setup import set_up
from spikeloom.report.results import results
from spikeloom.rules.base import RULES
from spikeloom.train.loop import train
from trainkit import without_times

STAGE = {"rule": "bptt", "steps": 3, "epochs": 3, "batch": 20}


def made(seed=0):
    """Features and two numbers that depend on them."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(100, 5, generator=draw)
    y = torch.stack([x[:, 0] + x[:, 1] * x[:, 2], 3 - 2 * x[:, 3]], 1)
    return x, y


def splits():
    return splits_from_tensors(*made(), test=20, validation=20)


def regress(net="f16 f2", stage=None, **more):
    table = {"name": "r", "task": "regress", "net": net, "data": "tensors"}
    return build_recipe({**table, "stages": [STAGE | (stage or {})], **more}, "r")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = (part.numpy() for part in made())
    np.savez("r.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    return {"name": "tensors", "path": "r.npz"}


def test_a_linear_net_is_a_loop_by_hand():
    rate, epochs = 0.1, 4
    plain = {"rule": "ann", "epochs": epochs, "optimizer": {"name": "sgd", "lr": rate}}
    stage = plain | {"schedule": {"name": "constant"}}
    recipe = regress("f2", stage, precision="64-true")
    data = splits()
    bench = set_up(recipe, data)
    weight, bias = (one.detach().clone() for one in bench.head.parameters())
    record = train(recipe, splits=data)
    x, y = data.train.x.double(), data.train.y.double()
    for epoch in range(epochs):
        for rows in batches(len(y), 20, derive_seed(recipe.seed, epoch, "order")):
            gap = x[rows] @ weight.T + bias - y[rows]
            weight -= rate * 2 * gap.T @ x[rows] / gap.numel()
            bias -= rate * 2 * gap.sum(0) / gap.numel()
    ours = [one.detach() for one in record.bench.head.parameters()]
    assert torch.allclose(ours[0], weight, rtol=0, atol=1e-12)
    assert torch.allclose(ours[1], bias, rtol=0, atol=1e-12)
    test = data.test
    gap = test.x.double() @ weight.T + bias - test.y.double()
    spread = (test.y.double() - test.y.double().mean(0)).square().sum()
    assert record.record.test_mae == pytest.approx(float(gap.abs().mean()), abs=1e-9)
    assert record.record.test_r2 == pytest.approx(float(1 - gap.square().sum() / spread), abs=1e-9)
    assert record.record.test_loss == pytest.approx(float(gap.square().mean()), abs=1e-9)


@pytest.mark.parametrize("rule", [name for name in RULES.names() if name not in ("ide", "spide")])
def test_every_rule_learns_numbers(rule):
    stage = {"rule": rule, "epochs": 30, "optimizer": {"lr": 0.02}}
    unit = {"name": "if"} if rule == "dsr" else {"name": "lif"}
    net = {"text": "f32 f2", "unit": unit}
    record = train(regress(net, stage), splits=splits()).record
    assert record.test_r2 > 0.2  # 0 is what a constant reaches
    assert record.curve[-1]["val_mae"] < record.curve[0]["val_mae"]


def test_a_stopped_run_goes_on_to_the_bit(tmp_path):
    recipe, asked = regress(stage={"select": "best"}), []

    def stop():
        asked.append(None)
        return len(asked) == 7

    whole = train(recipe, tmp_path / "whole", splits=splits()).record
    with pytest.raises(Stopped):
        train(recipe, tmp_path / "cut", splits=splits(), stop=stop)
    again = train(recipe, tmp_path / "cut", splits=splits(), resume=True).record
    assert without_times(again) == without_times(whole)


def said(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["spikeloom", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    return out


def test_the_command_answers_numbers(tmp_path, file, monkeypatch, capsys):
    outcome = train(regress(data=file), tmp_path / "run")
    x = made()[0]
    out = said(monkeypatch, capsys, "evaluate", "run", "--json", "e.json")
    assert "MAE" in out and "R2" in out
    stored = json.loads((tmp_path / "e.json").read_text())
    assert stored["mae"][-1] == outcome.record.test_mae and "confusion" not in stored
    np.save("x.npy", x[:2].numpy())
    said(monkeypatch, capsys, "predict", "run", "x.npy", "--json", "p.json")
    answers = json.loads((tmp_path / "p.json").read_text())["predictions"]
    bench = outcome.bench
    bench.modules().eval()
    with torch.no_grad():
        features = bench.net(x[:2].unsqueeze(0).expand(3, 2, 5))
        expected = bench.head.logits(bench.head.reduced(features))
    for row, given in zip(expected.tolist(), answers, strict=True):
        assert given["answer"] == pytest.approx(row, rel=1e-5)
    train(regress(data=file), tmp_path / "again", resume=True)


def test_a_comparison_ranks_low_errors_first(tmp_path, file):
    rows = (
        Row("BPTT", regress(data=file)),
        Row("SLTT", regress(data=file, stage={"rule": "sltt"})),
    )
    run_comparison(with_controls(Plan("c", rows, (0,))), tmp_path / "c")
    table = results(tmp_path / "c")
    figures = {row["entry"]: row for row in table.rows()}
    assert set(figures) == {"BPTT", "SLTT", "linear model", "hidden layers frozen"}
    assert all(row["mae"] >= 0 and row["r2"] <= 1 for row in figures.values())
    assert "test MAE" in table.text() and "accuracy" not in table.text()


class TestRefused:
    def test_a_head_for_classes(self):
        with pytest.raises(ConfigError, match=r"^r: head: expected one for the targets of task 'r"):
            regress(head="softmax")
        with pytest.raises(ConfigError, match="head: expected one for the targets of task 'class"):
            regress(task="classify", head="squared")

    def test_a_task_that_does_not_fit_the_targets(self):
        with pytest.raises(ConfigError, match="^task: expected one for the real numbers of data"):
            train(regress(task="classify"), splits=splits())
        x, y = made()
        labels = splits_from_tensors(x, (y[:, 0] > 1).long(), test=20, validation=20)
        with pytest.raises(ConfigError, match="class numbers of data 'tensors': classify, got 'r"):
            train(regress(), splits=labels)

    def test_a_net_of_another_width(self):
        with pytest.raises(ConfigError, match="net: expected a last layer of 2 neurons"):
            train(regress("f16 f3"), splits=splits())

    def test_targets_that_are_no_numbers(self):
        x, y = made()
        y[30, 1] = torch.nan
        with pytest.raises(DataError, match=r"expected finite targets, got NaN or infinity at row"):
            splits_from_tensors(x, y, test=20, validation=20)
        with pytest.raises(ConfigError, match="data.tensors.classes: expected none for real"):
            splits_from_tensors(*made(), test=20, validation=20, classes=2)

    def test_weights_of_classes(self):
        with pytest.raises(ConfigError, match="class_weights: expected none, since targets are"):
            train(regress(stage={"class_weights": "balanced"}), splits=splits())

    def test_early_exit(self, tmp_path, file, monkeypatch, capsys):
        train(regress(data=file), tmp_path / "run")
        monkeypatch.setattr(sys, "argv", ["spikeloom", "evaluate", "run", "--exit-margin", "0.5"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert "a task with classes" in capsys.readouterr().err

    def test_targets_of_a_loop_of_ones_own(self):
        head = Squared(4, 2)
        with pytest.raises(ShapeError, match=r"real targets \[B, 2\]"):
            head.bind(torch.zeros(3, 1), None)
        with pytest.raises(ShapeError, match="batch"):
            Batch.of(torch.zeros(2, 3, 4), torch.zeros(2, 1))
