"""Predicted memory against the measured one, and which layers are called dead or saturated."""

import pytest
import torch

from spikeloom.measure import health as module
from spikeloom.measure.costs import measure_costs
from spikeloom.measure.health import (
    health_lines,
    layer_health,
    memory_line,
    memory_warning,
    predict_memory,
)
from spikeloom.program.setup import make_optimizer, set_up, snapshot
from spikeloom.records.run import HealthRecord
from spikeloom.train.loop import train
from trainkit import bench, recipe, same, tiny

RULES = ["bptt", "sltt", "ottt", {"name": "ottt", "update": "online"}, "ann"]
NETS = {
    "conv": {"net": "c8 c8 P f16 f3"},
    "wide": {"net": "f300 f300 f3"},
    "backres": {"net": "c8 P [c8]x2 f8 f3", "encoder": "poisson"},
    "norm": {"net": 'c8{norm = "batch_step", dropout = 0.2} P f3', "head": "stochmax"},
    "join": {"net": '[c4 c4]{join = "add", shortcut = "c4k1"} P f3', "encoder": "latency"},
}


def measured(one) -> int:
    return measure_costs(one).training.peak_bytes


class TestPrediction:
    @pytest.mark.parametrize("rule", RULES, ids=str)
    @pytest.mark.parametrize("net", NETS.values(), ids=NETS)
    def test_it_is_what_a_batch_takes(self, net, rule):
        one = bench({"stages.0.rule": rule, "stages.0.steps": 3, "stages.0.batch": 45} | net)
        assert predict_memory(one) == pytest.approx(measured(one), rel=0.01)

    @pytest.mark.parametrize("batch", [2, 4, 8, 9, 17, 100])
    def test_at_any_batch_size(self, batch):
        one = bench({"stages.0.batch": batch})
        assert predict_memory(one) == pytest.approx(measured(one), rel=0.01)

    def test_where_other_operators_run_it_is_still_near(self, monkeypatch):
        """Another order of events at each size: the peaks of larger batches decide."""
        real = module.allocations
        monkeypatch.setattr(
            module,
            "allocations",
            lambda call, seen=[]: real(call) + [0] * len(seen.append(0) or seen),
        )
        one = bench({"net": "c8 c8 P f16 f3", "stages.0.batch": 40})
        assert predict_memory(one) == pytest.approx(measured(one), rel=0.1)

    @pytest.mark.parametrize("net", [NETS["norm"], NETS["backres"]], ids=["norm", "backres"])
    @pytest.mark.parametrize("batch", [6, 30])
    def test_it_leaves_no_trace(self, net, batch):
        one = bench(net | {"stages.0.batch": batch})
        one.head.eval()
        modes = [part.training for part in one.modules().modules()]
        _, weight = one.parameters()[0]
        weight.grad = torch.ones_like(weight)
        before, draws = snapshot(one.modules()), torch.get_rng_state()
        predict_memory(one)
        assert same(before, snapshot(one.modules()))
        assert torch.equal(draws, torch.get_rng_state())
        assert modes == [part.training for part in one.modules().modules()]
        assert weight.grad is not None and bool((weight.grad == 1).all())
        assert all(other.grad is None for _, other in one.parameters()[1:])

    def test_a_run_after_it_is_the_same(self):
        """What is drawn depends on nothing that a prediction could move."""
        changes = NETS["norm"] | {"stages.0.epochs": 1}
        plain = train(recipe(changes), splits=tiny())
        torch.manual_seed(5)
        predict_memory(bench(changes))
        again = train(recipe(changes), splits=tiny())
        assert same(snapshot(plain.bench.modules()), snapshot(again.bench.modules()))


class TestMemoryLine:
    def test_it_says_for_what(self):
        one = bench({"stages.0.steps": 6, "net": "f300 f300 f3"})
        weights = sum(part.numel() for part in one.modules().parameters()) * 4
        assert memory_line(167_000_000, one) == (
            f"training memory: about 167 MB per batch of 20 (T = 6), weights and optimizer state "
            f"{3 * weights / 1e6:.1f} MB"
        )

    @pytest.mark.parametrize(
        ("optimizer", "copies"),
        [
            ("adamw", 3),
            ("adam", 3),
            ("radam", 3),
            ("sgd", 1),
            ({"name": "sgd", "momentum": 0.9}, 2),
        ],
    )
    def test_the_optimizers_state_counts(self, optimizer, copies):
        one = bench({"stages.0.optimizer": optimizer, "net": "f30 f3"})
        weights = 4 * ((16 + 1) * 30 + (30 + 1) * 3)
        assert memory_line(0, one).endswith(f"state {copies * weights / 1e3:.0f} KB")
        live = make_optimizer(one.stage.optimizer, [part for _, part in one.parameters()])
        for _, part in one.parameters():
            part.grad = torch.ones_like(part)
        live.step()
        kept = [value for state in live.state.values() for value in state.values()]
        size = sum(4 * value.numel() for value in kept if torch.is_tensor(value) and value.dim())
        assert size == (copies - 1) * weights

    @pytest.mark.parametrize(
        ("count", "text"),
        [(999, "1 KB"), (2_340_000, "2.3 MB"), (23_400_000, "23 MB"), (1_500_000_000, "1.5 GB")],
    )
    def test_sizes_read_well(self, count, text):
        assert f"about {text} per" in memory_line(count, bench())


class TestMemoryWarning:
    def warned(self, monkeypatch, free, changes=None):
        one = bench(changes)
        monkeypatch.setattr(module, "free_bytes", lambda device: free)
        return memory_warning(100_000_000, one)

    def test_enough_is_silent(self, monkeypatch):
        assert self.warned(monkeypatch, 200_000_000) is None
        assert self.warned(monkeypatch, None) is None

    def test_too_little_says_what_to_do(self, monkeypatch):
        text = self.warned(monkeypatch, 50_000_000)
        assert text == (
            "training memory: expected at most the 50 MB that are free on cpu, got about 100 MB; "
            "set batch = 9 or fewer steps or a rule whose memory does not grow with T (ottt, sltt)."
        )

    def test_a_rule_with_constant_memory_is_not_told_to_change(self, monkeypatch):
        text = self.warned(monkeypatch, 50_000_000, {"stages.0.rule": "sltt"})
        assert text is not None and text.endswith("got about 100 MB; set batch = 9.")

    def test_nothing_fits(self, monkeypatch):
        text = self.warned(monkeypatch, 1_000_000, {"stages.0.rule": "sltt"})
        assert text is not None and text.endswith("; take a smaller net.")

    def test_the_encoded_batch_counts(self, monkeypatch):
        changes = {"encoder": "poisson", "stages.0.steps": 1000, "stages.0.rule": "sltt"}
        encoded = 1000 * 20 * 16 * 4
        assert self.warned(monkeypatch, 100_000_000 + encoded // 2, changes) is not None
        assert self.warned(monkeypatch, 100_000_000 + encoded * 2, changes) is None


DEMO = {
    "data": "digits",
    "net": {
        "text": "c16 c32 P f64 f10",
        "unit": {"name": "lif", "alpha": 0.5, "surrogate": {"name": "sigmoid", "k": 4.0}},
    },
    "stages.0": {"rule": "bptt", "steps": 4, "epochs": 1, "batch": 64, "optimizer": {"lr": 5e-3}},
}


def after_an_epoch(changes=None):
    return layer_health(train(recipe(DEMO | (changes or {}))).bench)


class TestDemo:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"stages.0.rule": "ann"},
            {"stages.0.rule": {"name": "ottt", "update": "online"}},
            {"stages.0.freeze_body": True},
            {"stages.0.steps": 1},
            {"encoder": "latency"},
            {"encoder": {"name": "poisson", "max_rate": 0.3}},
            {"net.dropout": 0.5},
            {"net.text": "c32 P [c32]x2 f64 f10"},
            {"net.text": "f10", "stages.0.rule": "ann"},
        ],
        ids=str,
    )
    def test_healthy_nets_raise_no_alarm(self, changes):
        assert health_lines(after_an_epoch(changes)) == []

    @pytest.mark.parametrize(
        "changes",
        [{"net.unit.v_th": 0.01}, {"stages.0.optimizer.lr": 0.5}, {"net.gain": 10.0}],
        ids=str,
    )
    def test_a_training_that_ran_away_does(self, changes):
        assert any("is saturated" in line for line in health_lines(after_an_epoch(changes)))


class TestLayerHealth:
    def scaled(self, net, factors, **changes):
        """Raise thresholds by making weights smaller: only their ratio counts."""
        one = bench({"net": net, "stages.0.steps": 6} | changes)
        with torch.no_grad():
            for site in one.net.sites:
                if site.name in factors:
                    site.synapse.weight.mul_(factors[site.name])
        return one

    def test_a_threshold_of_fifty_is_dead(self):
        one = self.scaled("c8 P c8 f16 f3", {"2.0.0": 0.02})
        health = layer_health(one)
        assert [row.verdict for row in health] == ["ok", "dead", "dead"]
        assert health[1].silent_share == 1.0 and health[1].rate_per_step == 0.0
        assert health_lines(health) == [
            "layer 2.0.0 is dead: no neuron fired on 15 validation samples, and none did in 3.0.0 "
            "behind it; lower v_th or the learning rate, raise the gain before it, or add a norm."
        ]

    def test_what_a_user_brings_with_a_threshold_of_fifty(self):
        from torch import nn

        from spikeloom.nets.module.net import SpikingNet
        from spikeloom.neurons.leaky import LIF
        from spikeloom.neurons.module import Neuron

        layers = nn.Sequential(nn.Conv2d(1, 4, 3), Neuron(LIF(v_th=50.0)), nn.Flatten())
        one = bench()
        object.__setattr__(one, "net", SpikingNet.from_torch(layers, (1, 4, 4)))
        assert layer_health(one)[0].verdict == "dead"

    def test_a_pass_of_a_repeated_block_is_named(self):
        rows = [
            HealthRecord(
                site=site,
                samples=9,
                rate_per_step=0.9,
                silent_share=silent,
                full_share=full,
                verdict=verdict,
            )
            for site, silent, full, verdict in (
                ("0.0.0", 0.97, 0.0, "dead"),
                ("2.0.0", 0.0, 0.0, "ok"),
                ("2.0.1", 0.0, 0.5, "saturated"),
            )
        ]
        assert [line.split(";")[0] for line in health_lines(rows)] == [
            "layer 0.0.0 is dead: only 3.0 % of its neurons fired on 9 validation samples",
            "layer 2.0.1 (pass 1) is saturated: 50 % of its neurons fired at every step on nearly "
            "all of 9 validation samples (rate 0.90 per step)",
        ]

    def test_dead_rectifiers(self):
        one = self.scaled("c8 P f16 f3", {}, **{"stages.0.rule": "ann"})
        with torch.no_grad():
            one.net.sites[-1].synapse.weight.abs_().neg_()
        (line,) = health_lines(layer_health(one))
        assert line.startswith("layer 2.0.0 is dead: no neuron gave anything but 0 on 15")

    def test_rectifiers_that_always_answer_are_well(self):
        one = self.scaled("c8 P f16 f3", {}, **{"stages.0.rule": "ann"})
        with torch.no_grad():
            one.net.sites[0].synapse.weight.abs_()
        health = layer_health(one)
        assert health[0].full_share == 1.0 and health_lines(health) == []

    def test_it_leaves_no_trace(self):
        one = bench(NETS["norm"])
        one.net.train()
        list(one.net.modules())[2].eval()
        modes = [part.training for part in one.modules().modules()]
        before, draws = snapshot(one.modules()), torch.get_rng_state()
        assert layer_health(one) == layer_health(one)
        assert same(before, snapshot(one.modules())) and torch.equal(draws, torch.get_rng_state())
        assert modes == [part.training for part in one.modules().modules()]

    def test_samples_are_spread_over_the_part(self):
        splits = tiny()
        one = set_up(recipe(), splits)
        chosen = []
        take = one.batch

        def batch(samples, index, **options):
            chosen.append(index)
            return take(samples, index, **options)

        object.__setattr__(one, "batch", batch)
        (row, *_) = layer_health(one, samples=5)
        assert row.samples == 5
        assert torch.cat(chosen).tolist() == [0, 3, 7, 10, 14]
