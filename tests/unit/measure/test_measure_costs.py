"""The cost record: consistent with itself, and measured without a trace."""

from dataclasses import replace

import pytest
import torch

from rulekit import small_rules
from spikeloom.base.errors import DataError
from spikeloom.data.tensors import splits_from_tensors
from spikeloom.measure import costs as room
from spikeloom.program.setup import snapshot
from trainkit import bench, same


def measure_net(*given, **options):
    """The same without training."""
    return room.measure_net(*given, **options).table()


def measure_costs(*given, **options):
    """The record as JSON."""
    return room.measure_costs(*given, **options).table()


NETS = {
    "plain": {"net": "c4 P f3"},
    "backres": {"net": "c4 P [c4]x2 f8 f3", "encoder": "poisson"},
    "norm": {"net": 'c4{norm = "batch_step", dropout = 0.2} P f3', "head": "stochmax"},
    "join": {"net": '[c4 c4]{join = "add", shortcut = "c4k1"} P f3'},
    "hybrid": {"net": 'c4{unit = "relu"} P f8 f3'},
    "ann": {"net": "c4 P f3", "stages.0.rule": "ann"},
}


@pytest.fixture(scope="module", params=NETS, ids=str)
def measured(request):
    one = bench(NETS[request.param] | {"stages.0.steps": 3})
    with torch.no_grad():
        for site in one.net.sites:
            if site.spec.weighted:
                site.synapse.weight.abs_()  # so that all layers fire
    return one, measure_costs(one)


class TestConsistency:
    def test_layers_add_up_to_the_totals(self, measured):
        _, costs = measured
        for total, key in (
            (costs["ac"]["mean"], "ac"),
            (costs["mac"]["mean"], "mac"),
            (costs["totals"]["mac_dense"], "mac_dense"),
            (costs["totals"]["ac_folded"], "ac_folded"),
            (costs["totals"]["mac_folded"], "mac_folded"),
            (costs["formula_macs"], "formula_macs"),
        ):
            assert sum(row[key] for row in costs["layers"]) == pytest.approx(total), key
        spikes = sum(row["spikes"] or 0 for row in costs["layers"])
        assert spikes == pytest.approx(costs["spikes"]["mean"])

    def test_every_site_has_a_row(self, measured):
        one, costs = measured
        names = [site.name for site in (*one.net.sites, *one.head.inference_sites)]
        assert [row["site"] for row in costs["layers"]] == names

    def test_parameters_of_a_prediction(self, measured):
        one, costs = measured
        heads = [site.synapse for site in one.head.inference_sites]
        parts = (*one.net.parameters(), *(p for part in heads for p in part.parameters()))
        assert costs["parameters"] == sum(part.numel() for part in parts)

    def test_all_test_samples_are_metered(self, measured):
        one, costs = measured
        assert costs["metered_samples"] == len(one.splits.test) == 30

    def test_energies_are_there_and_ordered(self, measured):
        one, costs = measured
        energy = costs["energy"]
        assert set(energy) == {
            "paper_int32",
            "paper_int32_output",
            "strict_int32",
            "strict_fp32",
            "strict_fp32_folded",
            "memory_aware_int32",
            "memory_aware_fp32",
        }
        for name, pair in energy.items():
            if not name.startswith("memory_aware"):
                assert pair["net"] > 0 and pair["dense_ann"] > 0
                assert 0 <= pair["driven"] <= pair["net"]
        assert energy["strict_fp32"]["net"] > energy["strict_int32"]["net"]
        for kind in ("int32", "fp32"):  # memory comes on top of operations of the same type
            accesses = energy[f"memory_aware_{kind}"]
            assert energy[f"strict_{kind}"]["net"] < accesses["lower"] <= accesses["upper"]
        if not one.net.spec.spiking:
            assert costs["ac"]["mean"] == 0 and costs["spikes"]["mean"] == 0

    def test_training_counts(self, measured):
        one, costs = measured
        training = costs["training"]
        assert training["batch"] == one.stage.batch
        assert training["peak_bytes"] > 0
        assert training["backward_macs"] > training["forward_macs"] > 0
        dense, nonzero = training["forward_macs"], training["nonzero"]
        assert 0 < nonzero["forward_ac"] + nonzero["forward_mac"] <= dense
        assert 0 < nonzero["backward_ac"] + nonzero["backward_mac"] <= training["backward_macs"]
        if not one.net.spec.spiking:
            assert nonzero["forward_ac"] == 0 and training["growth"] is None
        else:
            assert training["growth"]["steps"] == [2, 3]
        samples = 20 * 16 * 4 * (one.steps if one.recipe.encoder.name == "poisson" else 1)
        assert training["input_bytes"] == samples


def _check_time(record, name):
    """A time stands with its quartiles and rounds, or is None with the reason."""
    low, high = record[f"{name}_quartiles"]
    assert low <= high and record["rounds"] >= 5
    if record[name] is None:
        assert record[f"{name}_doubt"]
    else:
        assert record[f"{name}_doubt"] is None
        assert 0 < low <= record[name] <= high and high - low <= record[name] / 2


class TestInput:
    """One untrained net on x / 16, x and 16 x, whose values are whole numbers or not."""

    def costs(self, factor, changes, values="real"):
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(0, 17, (40, *changes.pop("shape", (1, 8, 8))), generator=generator)
        splits = splits_from_tensors(factor * x, torch.arange(40) % 3, test=10)
        parts = {name: replace(part, values=values) for name, part in splits.parts()}
        return measure_net(
            bench({"net": "c4 P f3", "stages.0.steps": 3} | changes, replace(splits, **parts))
        )

    @pytest.mark.parametrize("changes", [{}, {"stages.0.rule": "ann"}, {"net": "f3"}], ids=str)
    def test_a_constant_input_is_real_valued_at_every_scale(self, changes):
        found = [self.costs(factor, dict(changes))["layers"][0] for factor in (1 / 16, 1.0, 16.0)]
        assert all(layer["ac"] == 0 < layer["mac"] == found[0]["mac"] for layer in found)
        assert all(layer["rate_in"] == 1 for layer in found)

    def test_data_say_whether_frames_are_counts(self):
        changes = {"encoder": "frames", "shape": (3, 1, 8, 8)}
        real, counts = (self.costs(1.0, dict(changes), kind) for kind in ("real", "counts"))
        assert real["layers"][0]["ac"] == 0 < real["layers"][0]["mac"]
        assert counts["layers"][0]["mac"] == 0 < counts["layers"][0]["ac"]
        with pytest.raises(DataError, match="expected counts, which are whole numbers"):
            self.costs(1 / 16, dict(changes), "counts")

    def test_a_net_without_time_sees_a_real_mean_frame(self):
        changes = {"encoder": "frames", "shape": (3, 1, 8, 8), "stages.0.rule": "ann"}
        layer = self.costs(3.0, changes, "counts")["layers"][0]
        assert layer["ac"] == 0 < layer["mac"]


class TestNoTrace:
    @pytest.mark.parametrize("rule", ["bptt", "sltt", {"name": "ottt", "update": "online"}])
    @pytest.mark.parametrize("net", NETS.values(), ids=NETS)
    def test_weights_buffers_modes_and_gradients_stay(self, net, rule):
        one = bench({"stages.0.rule": rule} | net)
        modules = one.modules()
        one.net.train()
        one.head.eval()
        list(one.net.modules())[2].eval()  # any mixture of modes
        modes = [part.training for part in modules.modules()]
        grads = []
        for row, (_, weight) in enumerate(one.parameters()):
            weight.grad = torch.full_like(weight, float(row)) if row % 2 else None
            grads.append(weight.grad)
        kept = [None if grad is None else grad.clone() for grad in grads]
        before = snapshot(modules)
        wanted = [weight.requires_grad for weight in modules.parameters()]

        measure_costs(one)

        assert same(before, snapshot(modules))
        assert modes == [part.training for part in modules.modules()]
        for (_, weight), grad, value in zip(one.parameters(), grads, kept, strict=True):
            assert weight.grad is grad
            assert grad is None or torch.equal(grad, value)
        assert wanted == [weight.requires_grad for weight in modules.parameters()]

    def test_measuring_twice_gives_the_same(self):
        one = bench(NETS["norm"])
        first, second = measure_costs(one), measure_costs(one)
        for record in (first, second):
            record["training"].pop("peak_bytes")
            grown = record["training"].pop("growth")
            assert grown["steps"] == [1, 2] and len(grown["ms"]) == 2
            _check_time(record.pop("inference"), "ms_per_sample")
            _check_time(grown, "ms_per_step")
        assert first == second

    def test_the_rules_memory_stays(self):
        with small_rules():
            one = bench({"stages.0.rule": "gained"})
            before, gain = one.memory, one.memory["gain"]
            gain.grad = torch.tensor(3.0)
            measure_costs(one)
        assert one.memory is before and gain.item() == 1 and gain.grad.item() == 3

    def test_an_error_leaves_no_trace_either(self, monkeypatch):
        one = bench()
        one.net.train()
        before = snapshot(one.modules())
        monkeypatch.setattr(type(one.rule), "learn", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            measure_costs(one)
        assert one.net.training and same(before, snapshot(one.modules()))


@pytest.mark.parametrize("batch", [2, 4])
def test_a_quarter_of_a_small_batch_has_statistics_too(batch):
    one = bench({"net": 'f8{norm = "batch_step"} f3', "stages.0.batch": batch})
    assert measure_costs(one)["training"]["nonzero"]
