"""The event engine: the same nets, the same results, and never on weights that were."""

import netkit as kit
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError
from spikeloom.kernels import events
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Visit
from spikeloom.nets.walk import events as engines
from spikeloom.nets.walk.events import EventEngine

EXAMPLES = settings(max_examples=40)
compiled = pytest.mark.skipif(events.kernels() is None, reason="needs numba")


def trained(text, shape, seed=0):
    """A net in float64 whose batch norms have seen something, in evaluation."""
    net = SpikingNet(text, shape, seed=seed).double()
    torch.manual_seed(seed)
    with torch.no_grad():
        for site in net.sites:
            if site.norm is not None:
                site.norm.running_mean.normal_(0, 0.1)
                site.norm.running_var.uniform_(0.5, 2)
                site.norm.bias.uniform_(0, 0.5)
    return net.eval()


def spikes(*shape, rate=0.3):
    return (torch.rand(shape, generator=kit.generator(2)) < rate).double()


NETS = {
    "vgg": ("c6 c8 P c8 P f12 f10", (3, 8, 8)),
    "max pool": ("c6 M c8 f10", (3, 8, 8)),
    "backres": ("c6 [c6 c6]x2 P f10", (3, 8, 8)),
    "join": ('c6 [c6]x2{join = "add"} f10', (3, 8, 8)),
    "norm": ('{default = {norm = "batch_step"}} c6 c6 f12 f10', (3, 8, 8)),
    "weight": ('{default = {norm = "weight", gain = 2.74}} c6 c6 f12 f10', (3, 8, 8)),
    "stride": ("c6{stride = 2, kernel = 5} c6{padding = 0} f10", (3, 9, 9)),
    "mlp": ("f20 f20 f10", (30,)),
}


@compiled
@pytest.mark.parametrize("case", NETS)
@pytest.mark.parametrize("order", ["run_by_layer", "run_by_time"])
def test_nets_answer_alike(case, order):
    text, shape = NETS[case]
    net = trained(text, shape)
    xs = spikes(5, 3, *shape)
    engine, seen, expected = EventEngine(limit=1.0), kit.Recorder(), kit.Recorder()
    with torch.no_grad():
        with net.observe(expected):
            dense = getattr(net, order)(xs)
        with net.observe(seen):
            out = getattr(net, order)(xs, engine.ops)
    for (name, _, current, s), (_, _, wanted, fired) in zip(seen.seen, expected.seen, strict=True):
        assert torch.allclose(current, wanted, rtol=1e-12, atol=1e-12), name
        assert torch.equal(s, fired), name
    assert torch.equal(out, dense) and dense.any()
    weighted = {site.name for site in net.sites if site.spec.kind in engines.SUMMED}
    assert engine.shares == dict.fromkeys(weighted, 1.0)


@compiled
@EXAMPLES
@given(kit.exact_specs(), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_any_net_answers_the_same(spec, steps, seed):
    """With dyadic weights sums are exact in any order, until a chain of ReLUs runs out of bits."""
    net = kit.exact_net(spec, kit.EXACT_SHAPE, seed=seed)
    xs = kit.dyadic((steps, 3, *kit.EXACT_SHAPE), seed)
    xs = torch.where(xs < 0.7, 0.0, xs)
    with torch.no_grad():
        found, expected = net(xs, ops=EventEngine(limit=1.0).ops), net(xs)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@compiled
def test_float32_currents_are_right_to_rounding():
    net = SpikingNet("f64 f10", (200,)).eval()
    x = spikes(4, 200, rate=0.1).float()
    site = net.sites[0]
    with torch.no_grad():
        out = EventEngine(limit=1.0).synapse(Visit(site), x)
        assert (out - site.synapse(x)).abs().max() < 1e-6


@compiled
class TestWeightsThatChange:
    def outputs(self, net, engine, xs):
        with torch.no_grad():
            return net.run_by_layer(xs, engine.ops), net.run_by_layer(xs)

    @pytest.mark.parametrize("norm", ["none", "weight"])
    def test_an_update(self, norm):
        net = trained(f'{{default = {{norm = "{norm}"}}}} c6 f12 f10', (1, 6, 6))
        engine, xs = EventEngine(limit=1.0), spikes(4, 2, 1, 6, 6)
        before, _ = self.outputs(net, engine, xs)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.3)
        after, expected = self.outputs(net, engine, xs)
        assert torch.equal(after, expected) and not torch.equal(after, before)

    def test_a_bias_a_gain_and_a_loaded_state(self):
        net = trained('{default = {norm = "weight"}} f12 f12 f10', (9,))
        engine, xs = EventEngine(limit=1.0), spikes(4, 2, 9)
        self.outputs(net, engine, xs)
        with torch.no_grad():
            net.sites[0].synapse.bias.fill_(0.4)
            net.sites[1].synapse.shaping.gain.mul_(3)
        assert torch.equal(*self.outputs(net, engine, xs))
        other = trained('{default = {norm = "weight"}} f12 f12 f10', (9,), seed=5)
        net.load_state_dict(other.state_dict())
        assert torch.equal(*self.outputs(net, engine, xs))

    def test_a_weight_that_is_replaced(self):
        net = trained("f12 f12 f10", (9,))
        engine, xs = EventEngine(limit=1.0), spikes(4, 2, 9)
        self.outputs(net, engine, xs)
        net.sites[0].synapse.weight = torch.nn.Parameter(torch.full((12, 9), 0.5).double())
        assert torch.equal(*self.outputs(net, engine, xs))


class TestDenseAgain:
    """Where events cannot or must not be summed, everything is as it always was."""

    def net(self):
        return trained("c4 f8 f10", (1, 6, 6)), spikes(3, 2, 1, 6, 6)

    def test_training_with_it_has_the_right_gradients(self):
        net, xs = self.net()
        engine = EventEngine(limit=1.0)
        net.train()
        net.run_by_layer(xs).sum().backward()
        expected = [one.grad.clone() for one in net.parameters()]
        net.zero_grad()
        net.run_by_layer(xs, engine.ops).sum().backward()
        assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), expected, strict=True))
        assert engine.used == {}

    def test_evaluation_with_gradients(self):
        net, xs = self.net()
        engine = EventEngine(limit=1.0)
        xs.requires_grad_(True)
        net.run_by_layer(xs, engine.ops).sum().backward()
        assert xs.grad is not None and engine.used == {}

    def test_training_mode_without_gradients(self):
        net, xs = self.net()
        engine = EventEngine(limit=1.0)
        with torch.no_grad():
            net.train().run_by_layer(xs, engine.ops)
        assert engine.used == {}

    def test_low_precision(self):
        net, xs = self.net()
        net, xs, engine = net.float(), xs.float(), EventEngine(limit=1.0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(net.run_by_layer(xs, engine.ops), net.run_by_layer(xs))
        assert engine.used == {}

    def test_without_a_compiler(self, monkeypatch):
        monkeypatch.setattr(events, "helpers", lambda name: None)
        net, xs = self.net()
        engine = EventEngine(limit=1.0)
        with torch.no_grad():
            assert torch.equal(net.run_by_layer(xs, engine.ops), net.run_by_layer(xs))
        assert not engine.compiled and set(engine.shares.values()) == {0.0}

    @compiled
    def test_above_the_limit(self):
        net, xs = self.net()
        engine = EventEngine(limit=0.0)
        with torch.no_grad():
            assert torch.equal(net.run_by_layer(xs, engine.ops), net.run_by_layer(xs))
        assert set(engine.shares.values()) == {0.0}

    def test_auto_waits_until_it_has_paid(self, monkeypatch):
        monkeypatch.setattr(engines, "SMALL", 0)
        net, xs = self.net()
        engine = EventEngine.of("auto")
        assert engine is not None and EventEngine.of("dense") is None
        with torch.no_grad():
            net.run_by_layer(xs, engine.ops)
        assert 0 < engine.patience < engines.PATIENCE
        assert set(engine.shares.values()) == {0.0}


@compiled
class TestMeasuring:
    def test_one_measurement_per_layer_and_size(self, monkeypatch):
        monkeypatch.setattr(engines, "SMALL", 0)
        monkeypatch.setattr(engines, "UNASKED", 0)
        timed = []
        monkeypatch.setattr(engines, "_fastest", lambda calls: timed.append(calls) or [1, 2, 4])
        net = trained("f16 f16 f10", (20,))
        engine = EventEngine()
        with torch.no_grad():
            for batch in (3, 4, 4, 9):
                net.run_by_layer(spikes(2, batch, 20), engine.ops)
        assert len(timed) == 2 * 2  # 6 and 8 count as 8, 18 as 32
        for calls in timed:
            for call in calls:
                call()  # what is timed runs

    @pytest.mark.parametrize(
        ("times", "limit"),
        [
            ([1.0, 1.0, 4.0], engines.HIGHEST),
            ([5.0, 6.0, 4.0], 0.0),
            ([1.0, 5.0, 4.0], 0.02 + 2 * 0.18 / 4),
        ],
    )
    def test_the_limit_from_times(self, monkeypatch, times, limit):
        monkeypatch.setattr(engines, "SMALL", 0)
        monkeypatch.setattr(engines, "_fastest", lambda calls: times)
        monkeypatch.setattr(engines, "UNASKED", 0)
        net = trained("f16 f10", (20,))
        engine = EventEngine()
        with torch.no_grad():
            for rate in (0.0, 0.05, 0.3, 1.0):
                engine.synapse(Visit(net.sites[0]), spikes(100, 20, rate=rate))
        assert engine.used["0.0.0"].by_events == sum(rate < limit for rate in (0.0, 0.05, 0.3, 1.0))

    def test_inputs_that_are_too_dense_spare_the_question(self):
        net = trained("f16 f10", (20,))
        engine = EventEngine(limit=0.2)
        with torch.no_grad():
            for rate in [1.0] * 20 + [0.05] * 20:
                engine.synapse(Visit(net.sites[0]), spikes(9, 20, rate=rate))
        use = engine.used["0.0.0"]
        assert use.calls == 40 and use.looked < 20 and use.by_events >= 5

    def test_real_times(self):
        """What comes out is a density, whatever the machine."""
        net = SpikingNet("c16 f64 f10", (8, 16, 16)).eval()
        engine = EventEngine()
        with torch.no_grad():
            net.run_by_layer(spikes(4, 2, 8, 16, 16, rate=0.02).float(), engine.ops)
        limits = [one for ready in engine._prepared.values() for one in ready.limits.values()]
        assert len(limits) == 2 and all(0 <= one <= engines.HIGHEST for one in limits)


@pytest.mark.parametrize("limit", [-0.1, 1.5])
def test_a_limit_out_of_range(limit):
    with pytest.raises(
        ConfigError, match=r"events.limit: expected a density in \[0, 1\], got .*; change it"
    ):
        EventEngine(limit=limit)


def test_an_unknown_engine():
    with pytest.raises(ConfigError, match="engine: expected one of dense, auto, events, got 'x'"):
        EventEngine.of("x")
