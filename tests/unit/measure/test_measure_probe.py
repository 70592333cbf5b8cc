"""Samples for the page: what is shown is what happened, and it stays small."""

import json
from dataclasses import replace

import pytest
import torch

from spikeloom.data import splits_from_tensors
from spikeloom.inference.evaluate import predict
from spikeloom.measure import probe as room
from spikeloom.measure.probe import choose, spread
from spikeloom.program.setup import set_up
from trainkit import bench, recipe, tiny


def probe(*given, **options):
    """The record as JSON."""
    return room.probe(*given, **options).table()


UNITS = {
    "lif": {"name": "lif"},
    "next_step": {"name": "lif", "order": "next_step"},
    "hard": {"name": "lif", "reset": "hard", "v_reset": -0.25},
    "none": {"name": "if", "reset": "none"},
    "learned": {"name": "lif", "learn": ["v_th", "alpha"], "per_channel": True},
    "current": {"name": "lif", "beta": 0.5, "scale_input": True, "v_th": 0.25},
    "refractory": {"name": "if", "refractory": 2, "fire_fraction": 0.5},
}
NETS = {
    "backres": {"net": "c4 P [c4]x2 f8 f3"},
    "hybrid": {"net": 'c4{unit = "relu"} P f8 f3'},
    "tail": {"net": 'c4 P f8{unit = "relu"} f3'},
    "feedback": {
        "net": '{feedback = [{source = 1, target = 0, layers = "f8{unit = \\"none\\"}"}]} f8 f6 f3'
    },
    "join": {"net": '[c4 c4]{join = "add", shortcut = "c4k1"} P f3'},
    "one step": {"net": "c4 f3", "stages.0.steps": 1},
    "stochmax": {"net": "c4 f3", "head": "stochmax"},
    "poisson": {"net": "c4 f3", "encoder": "poisson"},
    "half": {"net": "c4 P f8 f3", "precision": "bf16-mixed"},
}


def active(changes, splits=None):
    one = bench({"stages.0.steps": 6} | changes, splits)
    with torch.no_grad():
        for site in one.net.sites:
            if site.spec.weighted:
                weight = site.synapse.weight.abs_()
                some = torch.linspace(0.1, 1.0, len(weight))  # of all activities
                weight.mul_(some.view(-1, *[1] * (weight.dim() - 1)))
            if site.neuron is not None and site.neuron.unit.learn:
                for raw in site.neuron.parameters():
                    raw.mul_(torch.linspace(0.5, 1.5, raw.numel()).view_as(raw))
    return one


class Everything:
    """Observer that keeps all spikes, [T, B, N]."""

    def __init__(self):
        self.spikes = {}

    def see(self, site, x_in, current, s_out):
        if site.unit is not None and site.unit.spiking:
            self.spikes.setdefault(site.name, []).append(s_out.flatten(2))


def watched(one, rows):
    """Run the probed samples once more; return all spikes and the logits."""
    seen = Everything()
    batch = one.batch(one.splits.test, torch.tensor(rows), epoch=0, part="test")
    with torch.no_grad(), one.net.observe(seen):
        _, logits = predict(one, batch)
    return {name: torch.cat(parts) for name, parts in seen.spikes.items()}, logits


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_spikes_and_predictions_are_those_of_the_run(net):
    one = active(net)
    record = probe(one)
    rows = [sample["index"] for sample in record["samples"]]
    spikes, logits = watched(one, rows)
    assert record["steps"] == one.steps and len(rows) == 4
    total = 0
    for place, sample in enumerate(record["samples"]):
        assert sample["label"] == int(one.splits.test.y[rows[place]])
        assert sample["prediction"] == int(logits[place].argmax())
        assert sample["logits"][-1] == pytest.approx(logits[place].tolist(), rel=1e-3, abs=1e-6)
        assert len(sample["logits"]) == one.steps
        assert [layer["site"] for layer in sample["layers"]] == [
            site.name for site in one.net.sites if site.name in spikes
        ]
        for layer in sample["layers"]:
            true = spikes[layer["site"]][:, place]  # [T, N]
            assert layer["neurons"] == true.shape[1]
            for neuron, times in zip(layer["shown"], layer["spikes"], strict=True):
                assert times == true[:, neuron].nonzero().flatten().tolist()
                total += len(times)
    assert total > 0


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_potentials_say_when_a_neuron_fires(unit):
    one = active({"net": {"text": "c4 P f8 f3", "unit": unit}, "precision": "64-true"})
    record = probe(one)
    fired = rested = 0
    for layer in (layer for sample in record["samples"] for layer in sample["layers"]):
        assert layer["unit"] == unit["name"]
        traced = zip(layer["traced"], layer["v"], layer["levels"], strict=True)
        for neuron, v, level in traced:
            times = layer["spikes"][layer["shown"].index(neuron)]
            assert len(v) == one.steps
            margin = 1e-3 * max(1, *map(abs, v))  # four digits are stored
            for t, value in enumerate(v):
                if t in times:
                    fired += 1
                    assert value >= level - margin
                elif not unit.get("refractory"):
                    rested += 1
                    assert value <= level + margin
    assert fired > 0 and (rested > 0 or unit.get("refractory"))


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_the_equation_gives_the_spikes_again_to_the_bit(net, monkeypatch):
    watchers = []
    original = room._Watcher.__init__

    def kept(self, *args):
        original(self, *args)
        watchers.append(self)

    monkeypatch.setattr(room._Watcher, "__init__", kept)
    probe(active(net))
    for trace in watchers[0].traces.values():
        assert torch.equal(torch.stack(trace.s), torch.stack(trace.again))


def test_an_ann_has_answers_but_no_spikes():
    one = bench({"stages.0.rule": "ann"})
    record = probe(one)
    assert record["steps"] == 1
    assert all(
        sample["layers"] == [] and len(sample["logits"]) == 1 for sample in record["samples"]
    )


def test_learned_thresholds_are_those_of_the_neurons():
    one = active({"net": {"text": "c4 P f3", "unit": UNITS["learned"]}})
    layer = probe(one)["samples"][0]["layers"][0]
    v_th = one.net.sites[0].neuron.theta()["v_th"].flatten()
    expected = [v_th[neuron // 16].item() for neuron in layer["traced"]]
    assert layer["levels"] == pytest.approx(expected, rel=1e-3)
    assert len(set(layer["levels"])) > 1


def test_a_unit_without_charged_shows_no_potentials(monkeypatch):
    monkeypatch.delattr("spikeloom.neurons.integrate_fire.IF.charged")
    for layer in probe(active({}))["samples"][0]["layers"]:
        assert layer["traced"] == layer["v"] == layer["levels"] == [] and layer["spikes"]


class TestImages:
    def test_bytes_come_back(self):
        x = torch.randint(0, 17, (60, 1, 4, 4)).to(torch.uint8)
        splits = splits_from_tensors(x, torch.arange(60) % 3, test=20, normalise=True)
        record = probe(active({}, splits))
        for sample in record["samples"]:
            image = sample["image"]
            assert image["shape"] == [1, 4, 4]
            assert image["pixels"] == splits.test.x[sample["index"]].flatten().tolist()

    def test_values_beyond_the_scale_use_the_images_range(self):
        x = torch.randn(60, 3, 4, 4)
        splits = splits_from_tensors(x, torch.arange(60) % 3, test=20)
        image = probe(active({}, splits))["samples"][0]["image"]
        assert image["shape"] == [3, 4, 4]
        assert min(image["pixels"]) == 0 and max(image["pixels"]) == 255

    def test_large_ones_are_averaged(self):
        splits = splits_from_tensors(torch.rand(30, 1, 96, 40), torch.arange(30) % 3, test=10)
        image = probe(active({"net": "c2 G f3", "stages.0.steps": 1}, splits))["samples"][0][
            "image"
        ]
        assert image["shape"] == [1, 48, 40]

    @pytest.mark.parametrize("shape", [(6,), (2, 4, 4)])
    def test_other_data_have_none(self, shape):
        splits = splits_from_tensors(torch.rand(60, *shape), torch.arange(60) % 3, test=20)
        net = "f6 f3" if len(shape) == 1 else "c4 f3"
        assert all(one["image"] is None for one in probe(active({"net": net}, splits))["samples"])

    def test_frames_have_none(self):
        splits = splits_from_tensors(torch.rand(60, 3, 1, 4, 4), torch.arange(60) % 3, test=20)
        changes = {"net": "c4 f3", "encoder": "frames", "stages.0.steps": 3}
        record = probe(set_up(recipe(changes), splits))
        assert record["samples"][0]["image"] is None and record["samples"][0]["layers"]


class TestSize:
    @pytest.mark.parametrize(
        "changes",
        [
            {"net": "c8 c8 c8 f64 f3", "stages.0.steps": 200},
            {"net": "f8 f8 f8 f3", "stages.0.steps": 1500},
        ],
        ids=["deep", "long"],
    )
    def test_long_runs_stay_small(self, changes):
        one = active(changes)
        record = probe(one)
        assert len(json.dumps(record)) <= room.LARGEST
        assert record["samples"] and all(
            len(s["logits"]) == record["steps"] for s in record["samples"]
        )
        layers = record["samples"][0]["layers"]
        assert all(set(one["traced"]) <= set(one["shown"]) for one in layers)
        assert all(len(one["shown"]) == len(one["spikes"]) >= 2 for one in layers)
        assert all(len(v) == record["steps"] for layer in layers for v in layer["v"])
        assert max(t for layer in layers for ts in layer["spikes"] for t in ts) < record["steps"]

    def test_is_json_and_the_same_every_time(self):
        one = active({"encoder": "poisson"})
        first = json.dumps(probe(one), allow_nan=False)
        assert first == json.dumps(probe(one), allow_nan=False)

    def test_few_samples(self):
        record = probe(active({}), count=100, neurons=5, traces=2)
        assert len(record["samples"]) <= 30
        layer = record["samples"][0]["layers"][0]
        assert len(layer["shown"]) == 5 and len(layer["traced"]) == len(layer["v"]) == 2
        assert set(layer["traced"]) <= set(layer["shown"])


class TestChoice:
    def test_first_of_each_class_then_the_first(self):
        assert choose(torch.tensor([2, 2, 0, 1, 0]), 3) == [0, 2, 3]
        assert choose(torch.tensor([2, 2, 0, 2]), 3) == [0, 1, 2]
        assert choose(torch.tensor([1, 1]), 4) == [0, 1]

    def test_spread_takes_the_most_active_of_each_stretch(self):
        assert spread(torch.tensor([0, 3, 1, 0, 0, 2, 2, 9]), 4) == [1, 2, 5, 7]
        assert spread(torch.zeros(10), 5) == [0, 2, 4, 6, 8]
        assert spread(torch.tensor([5, 6]), 4) == [0, 1]

    def test_labels_are_named(self):
        splits = replace(tiny(), labels=("a", "b", "c"))
        assert probe(active({}, splits))["classes"] == ["a", "b", "c"]
        assert probe(active({}))["classes"] is None
