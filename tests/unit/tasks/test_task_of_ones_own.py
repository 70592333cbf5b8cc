"""A task of somebody's own, judged by a metric that nobody else knows, goes through everything."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from comparekit import tiny_data
from spikeloom.base.errors import Stopped
from spikeloom.cli.main import main
from spikeloom.compare.plan import Plan, Row
from spikeloom.compare.run import run_comparison
from spikeloom.compare.tuning import Tune
from spikeloom.inference.evaluate import predict
from spikeloom.inference.opening import open_run
from spikeloom.records import storage
from spikeloom.records.run import EpochRecord
from spikeloom.report.page import write_page
from spikeloom.report.results import results
from spikeloom.tasks.base import TASKS
from spikeloom.tasks.classify import Classify
from spikeloom.tasks.metric import Metric
from spikeloom.train.loop import train
from spikeloom.train.state import State
from trainkit import recipe, registered, tiny, without_times

LR = "stages.0.optimizer.lr"


@dataclass(frozen=True)
class Depth(Classify):
    """How many classes stand before the right one."""

    about: ClassVar[str] = "few classes before the right one"
    called: ClassVar[str] = "task.depth"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("depth", best="low", least=0, about="classes before the right one"),
        Metric("worst", best="low", least=0, about="the same of the first class alone"),
    )

    def sums(self, answers: Tensor, target: Tensor) -> list[float]:
        """Return samples and depths, of all and of the first class."""
        before = (answers > answers.gather(1, target[:, None])).sum(1)
        first = target == 0
        return [len(before), int(before.sum()), int(first.sum()), int(before[first].sum())]

    def figures(self, sums: Sequence[float]) -> Mapping[str, float]:
        """Return both means."""
        return {"depth": sums[1] / max(1, sums[0]), "worst": sums[3] / max(1, sums[2])}


@pytest.fixture(autouse=True)
def known():
    with registered(TASKS, "depth", Depth), tiny_data():
        yield


def deep(changes=None):
    return recipe({"data": "tiny", "task": "depth"} | (changes or {}))


def by_hand(bench):
    """Mean depth over the test part, from the logits."""
    samples = bench.splits.test
    bench.modules().eval()
    batch = bench.batch(samples, torch.arange(len(samples)), epoch=0, part="test")
    with torch.no_grad():
        logits = predict(bench, batch)[1]
    order = logits.argsort(1, descending=True)
    return float((order == batch.target[:, None]).int().argmax(1).double().mean())


def test_a_run_is_judged_by_it_and_resumes_to_the_bit(tmp_path):
    changes = {"stages.0.epochs": 4, "stages.0.select": "best"}
    whole = train(deep(changes), tmp_path / "whole")
    record = whole.record
    assert [one.name for one in record.metrics] == ["depth", "worst"]
    assert record["test_depth"] == by_hand(whole.bench) == record["depth_by_step"][-1]
    kept = min(epoch["val_depth"] for epoch in record.curve)
    assert record["val_depth"] == kept  # the lowest is the best
    assert "accuracy" not in json.dumps(record.table())

    asked = []

    def stop():
        asked.append(None)
        return len(asked) == 8

    with pytest.raises(Stopped):
        train(deep(changes), tmp_path / "cut", stop=stop)
    again = train(deep(changes), tmp_path / "cut", resume=True).record
    assert without_times(again) == without_times(record)


def test_patience_waits_for_lower_values():
    def waited(*values):
        curve = [EpochRecord(epoch=0, loss=1.0, depth=9.0, val_depth=value) for value in values]
        return State(curve=curve).since_best(Depth.metrics[0])

    assert [waited(1.0), waited(1.0, 0.5), waited(1.0, 0.5, 0.75, 0.6)] == [0, 0, 2]
    assert waited(0.5, 0.5) == 1  # an equal one is no better


def test_it_tunes_compares_and_reports(tmp_path):
    rows = (Row("BPTT", deep()), Row("SLTT", deep({"stages.0.rule": "sltt"})))
    tune = Tune(epochs=1, values={LR: [1e-6, 0.05]})
    found = run_comparison(Plan("x", rows, (0, 1), tune), tmp_path / "c")
    for entry in found.entries:
        depths = [trial["val_depth"] for trial in entry.tuning.trials]
        losses = [trial.val_loss for trial in entry.tuning.trials]
        best = min(range(2), key=lambda one: (depths[one], losses[one]))
        assert entry.tuning.chosen == {LR: [1e-6, 0.05][best]}
    table = results(tmp_path / "c")
    text = table.text()
    assert "depth" in text and "worst" in text and "accuracy" not in text
    figures = list(csv.DictReader(io.StringIO(table.csv())))
    runs = [storage.read_json(path) for path in sorted((tmp_path / "c").glob("bptt/*/result.json"))]
    assert float(figures[0]["depth"]) == pytest.approx(sum(r["test_depth"] for r in runs) / 2)
    page = write_page([tmp_path / "c"], tmp_path / "r.html").read_text()
    assert "Depth against cost" in page and "accuracy" not in page.split("<script", 1)[0].lower()


def test_the_command_speaks_of_it(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    outcome = train(deep(), folder)

    def said(*words):
        monkeypatch.setattr(sys, "argv", ["spikeloom", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    out = said("evaluate", folder, "--json", tmp_path / "e.json")
    assert "depth" in out and "accuracy" not in out
    stored = json.loads((tmp_path / "e.json").read_text())
    assert stored["depth"][-1] == outcome.record["test_depth"]
    np.save(tmp_path / "x.npy", tiny().test.x[:3].numpy())
    assert "answer" in said("predict", folder, tmp_path / "x.npy")
    assert open_run(folder).task == Depth()
