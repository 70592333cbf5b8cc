"""Comparison files for the tiny data set, and a stand-in for training."""

from typing import Any

import pytest

from spikeloom.compare.plan import Plan, Row
from spikeloom.data import DATA, DataInfo
from spikeloom.records import storage
from spikeloom.records.costs import CostRecord, Energies, EnergyRecord, MeanRecord, TrainingCosts
from spikeloom.records.files import save_record
from spikeloom.records.run import FactsRecord, RunRecord, TrainedRecord
from spikeloom.train.loop import Outcome
from trainkit import TABLE, recipe, registered, tiny

BASE = {key: part for key, part in TABLE.items() if key != "name"} | {"data": "tiny"}

HEAD = """
name = "two"
seeds = [3, 1]
[base]
net = "c4 P f3"
data = "tiny"
[[base.stages]]
rule = "bptt"
epochs = 1
batch = 20
steps = 2
"""
ENTRIES = """
[[entries]]
label = "ANN"
set = { "stages.0.rule" = "ann" }
[[entries]]
label = "SLTT-K (K = 1)"
control = true
set = { "stages.0.rule" = { name = "sltt", k_steps = 1 }, "net.gain" = 2.0 }
"""


@pytest.fixture
def loads():
    """A registered data set, and how often it was read."""
    count = []

    def load(root=None, *, train_size: int | None = None):
        count.append(train_size)
        return tiny()

    with registered(DATA, "tiny", DataInfo("three stripes", (1, 4, 4), 3, load)):
        yield count


def written(folder, text):
    (folder / "c.toml").write_text(text)
    return folder / "c.toml"


def row(label: str, changes: dict[str, Any] | None = None, *, control: bool = False) -> Row:
    """A row on the registered tiny set."""
    return Row(label, recipe({"data": "tiny"} | (changes or {})), control)


def two(seeds=(0, 1), tune=None) -> Plan:
    """Two rows that differ in the rule."""
    return Plan("x", (row("BPTT"), row("SLTT", {"stages.0.rule": "sltt"})), seeds, tune)


class FakeTraining:
    """Leaves the files a run leaves, at once; fails or stops where it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: dict[str, BaseException] = {}
        self.scores: dict[float, tuple[float, float]] = {}

    def __call__(self, recipe, folder, *, splits, progress, resume, final, stop) -> Outcome:
        assert resume
        name = "/".join(folder.parts[-2 if final else -3 :])
        self.calls.append(name)
        progress.phase("epoch 1/2", 45)
        storage.write_record(folder / "recipe.json", recipe.model_dump(mode="json"))
        if name in self.faults:
            raise self.faults[name]
        accuracy, loss = self.scores.get(recipe.last.optimizer.lr, (0.5, 1.0))
        trained = TrainedRecord(
            format=storage.FORMAT,
            name=recipe.name,
            seed=recipe.seed,
            net="net",
            ann_net="ann",
            data="tiny",
            rule=recipe.last.rule.name,
            steps=1,
            epochs=recipe.last.epochs,
            val_accuracy=accuracy,
            val_loss=loss,
            train_seconds=1.0,
            facts=FactsRecord(spiking=True),
            curve=(),
            recipe=recipe.model_dump(mode="json"),
            final=final,
            lr=recipe.last.optimizer.lr,  # kept as any key of another version
        )
        record = tested(trained) if final else trained
        save_record(folder / "result.json", record)
        return Outcome(record, None)


def tested(trained: TrainedRecord) -> RunRecord:
    """A record with costs of 1 everywhere."""
    energy = EnergyRecord(net=1.0, driven=1.0, dense_ann=1.0)
    costs = CostRecord(
        parameters=1,
        spikes=MeanRecord(mean=1.0),
        ac=MeanRecord(mean=1.0),
        mac=MeanRecord(mean=1.0),
        energy=Energies(paper_int32=energy, strict_fp32=energy),
        training=TrainingCosts(peak_bytes=1, forward_macs=1.0, backward_macs=1.0),
    )
    return RunRecord(**dict(trained), test_accuracy=0.5, costs=costs)
