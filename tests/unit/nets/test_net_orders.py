"""Time order and layer order are one computation; so are constant and materialised inputs."""

import netkit as kit
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Ops
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.net import NetSpec
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Sigmoid

EXAMPLES = settings(max_examples=50)


def runs_exactly(spec: NetSpec, training: bool) -> bool:
    """batch statistics in training are no dyadic numbers."""
    norms = [one.norm for block in spec.blocks for one in (*block.layers, *block.shortcut)]
    return not (training and any(norm != "none" for norm in norms))


@EXAMPLES
@given(kit.exact_specs(), st.sampled_from([1, 2, 4]), st.booleans(), st.integers(0, 99))
def test_time_order_equals_layer_order(spec, steps, training, seed):
    training = training and runs_exactly(spec, training)
    net = kit.exact_net(spec, kit.EXACT_SHAPE, training=training, seed=seed)
    xs = kit.dyadic((steps, 3, *kit.EXACT_SHAPE), seed)
    rng = kit.rng_for(3)
    by_time = net.run_by_time(xs, rng=rng)
    by_layer = net.run_by_layer(xs, rng=rng)
    assert torch.equal(by_time, by_layer)
    assert by_time.shape == (steps, 3, net.features)


@EXAMPLES
@given(kit.exact_specs(), st.sampled_from([2, 4]), st.booleans(), st.integers(0, 99))
def test_constant_input_equals_the_same_input_repeated(spec, steps, training, seed):
    training = training and runs_exactly(spec, training)
    net = kit.exact_net(spec, kit.EXACT_SHAPE, training=training, seed=seed)
    x = kit.dyadic((3, *kit.EXACT_SHAPE), seed)
    constant = x.expand(steps, *x.shape)
    rng = kit.rng_for(3)
    expected = net.run_by_time(constant.clone(), rng=rng)
    assert torch.equal(net.run_by_time(constant, rng=rng), expected)
    assert torch.equal(net.run_by_layer(constant, rng=rng), expected)


@EXAMPLES
@given(kit.exact_specs(), st.booleans(), st.integers(0, 99))
def test_state_carried_on_equals_one_long_run(spec, training, seed):
    training = training and runs_exactly(spec, training)
    net = kit.exact_net(spec, kit.EXACT_SHAPE, training=training, seed=seed)
    xs = kit.dyadic((4, 2, *kit.EXACT_SHAPE), seed)
    rng = kit.rng_for(2)
    state, parts = None, []
    for x in xs:
        h, state = net.step(x, state, rng=rng)
        parts.append(h)
    assert state is not None and state.t == 4
    assert torch.equal(net.finish(torch.stack(parts), rng=rng), net.run_by_time(xs, rng=rng))


@EXAMPLES
@given(kit.exact_specs(), st.integers(0, 99))
def test_samples_do_not_see_each_other(spec, seed):
    net = kit.exact_net(spec, kit.EXACT_SHAPE, seed=seed)
    xs = kit.dyadic((2, 3, *kit.EXACT_SHAPE), seed)
    order = [2, 0, 1]
    assert torch.equal(net(xs)[:, order], net(xs[:, order]))


@pytest.mark.parametrize("norm", ["none", "batch_step", "weight"])
def test_gradients_of_both_orders_agree(norm):
    text = f'{{default = {{norm = "{norm}", gain = 3.0}}}} c4 P [c4]x2{{join = "add"}} f8 f3'
    wide = LIF(surrogate=Sigmoid(1.0))  # a slope that is nowhere 0
    net = SpikingNet(parse(text, unit=wide), (2, 6, 6)).double()
    xs = 3 * torch.rand(3, 4, 2, 6, 6, generator=kit.generator(), dtype=torch.float64)
    grads = []
    for run in (net.run_by_time, net.run_by_layer):
        net.zero_grad()
        run(xs).square().sum().backward()
        grads.append([value.grad.clone() for value in net.parameters()])
    for by_time, by_layer in zip(*grads, strict=True):
        torch.testing.assert_close(by_time, by_layer, rtol=1e-9, atol=1e-12)
    assert any(grad.abs().sum() > 0 for grad in grads[0])


@pytest.mark.parametrize("order", ["time", "layer"])
def test_gradients_of_a_constant_input_are_those_of_its_copies(order):
    text = 'c4{unit = "relu"} P [c4]x2{join = "add"} f8 f3'
    net = SpikingNet(parse(text, unit=LIF(surrogate=Sigmoid(1.0))), (2, 6, 6)).double()
    x = torch.rand(4, 2, 6, 6, generator=kit.generator(), dtype=torch.float64)
    grads = []
    for xs in (x.expand(3, *x.shape), x.expand(3, *x.shape).clone()):
        net.zero_grad()
        getattr(net, f"run_by_{order}")(xs).square().sum().backward()
        grads.append([value.grad.clone() for value in net.parameters()])
    for once, often in zip(*grads, strict=True):
        torch.testing.assert_close(once, often, rtol=1e-9, atol=1e-12)


class TestDropout:
    xs = torch.full((4, 2, 3), 8.0)

    def masks(self, held: bool, order: str):
        net = SpikingNet(f"f64{{dropout = 0.5, dropout_held = {str(held).lower()}}} f2", (3,))
        with torch.no_grad():
            net.sites[0].synapse.weight.fill_(1.0)  # every neuron fires at every step
        run = getattr(net, f"run_by_{order}")
        return run(self.xs, rng=kit.rng_for(2))

    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_held_mask_is_one_for_all_steps(self, order):
        out = self.masks(True, order)
        assert all(torch.equal(out[0], step) for step in out)
        assert set(out.unique().tolist()) == {0.0, 2.0}

    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_fresh_masks_differ(self, order):
        out = self.masks(False, order)
        assert not torch.equal(out[0], out[1])
        assert set(out.unique().tolist()) == {0.0, 2.0}

    @pytest.mark.parametrize("held", [True, False])
    def test_both_orders_draw_the_same(self, held):
        assert torch.equal(self.masks(held, "time"), self.masks(held, "layer"))

    def test_a_plain_generator_serves_too(self):
        net = SpikingNet("[f8{dropout = 0.5}]x2 f8{dropout = 0.25} f2", (8,)).double()
        xs = torch.rand(3, 2, 8, generator=kit.generator(), dtype=torch.float64)
        runs = [run(xs, rng=kit.generator(4)) for run in (net.run_by_time, net.run_by_layer)]
        torch.testing.assert_close(*runs)

    def test_samples_have_their_own_mask(self):
        out = self.masks(True, "time")
        assert not torch.equal(out[:, 0], out[:, 1])

    def test_needs_a_stream_in_training_only(self):
        net = SpikingNet("f4{dropout = 0.5} f2", (3,))
        with pytest.raises(ConfigError, match=r"layer 0\.0\.0: expected a random stream"):
            net(self.xs)
        assert net.eval()(self.xs).shape == (4, 2, 4)

    def test_passes_of_a_block_have_their_own_mask(self):
        net = SpikingNet("[f64{dropout = 0.5}]x2 f2", (64,))
        first, second = (net.plan.blocks[0].passes[turn].sites[0] for turn in range(2))
        _, state = net.step(torch.rand(2, 64), None, rng=kit.rng_for(2))
        assert not torch.equal(state.masks[first.name], state.masks[second.name])


def counting(calls):
    def synapse(visit, x):
        calls[visit.name] = calls.get(visit.name, 0) + 1
        return visit.synapse(x)

    return Ops(synapse=synapse)


class TestHybrid:
    text = 'c4{unit = "relu"} P c4{unit = "relu", dropout = 0.5, gain = 2.0} c4 P f3'

    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_constant_prefix_runs_once(self, order):
        net = kit.exact_net(self.text, (2, 8, 8), training=True)
        xs = kit.dyadic((2, 2, 8, 8)).expand(5, 2, 2, 8, 8)
        calls: dict[str, int] = {}
        getattr(net, f"run_by_{order}")(xs, counting(calls), rng=kit.rng_for(2))
        later = 5 if order == "time" else 1
        assert calls == {"0.0.0": 1, "1.0.0": 1, "2.0.0": 1, "3.0.0": 1, "4.0.0": later}

    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_observers_see_the_prefix_once(self, order):
        net = kit.exact_net(
            'c4{unit = "relu"} [c4{unit = "relu"}]x2{join = "add"} c4 f3', (2, 8, 8)
        )
        xs = kit.dyadic((2, 2, 8, 8)).expand(5, 2, 2, 8, 8)
        seen = kit.Recorder()
        with net.observe(seen):
            getattr(net, f"run_by_{order}")(xs)
        names = ["0.0.0", "1.0.0", "1.0.1", "2.0.0"]
        assert {name: seen.runs(name) for name in names} == dict.fromkeys(names, 1)
        assert [len(seen.spikes(name)) for name in names] == [1, 1, 1, 5]

    def test_nothing_is_held_where_the_input_is_filtered(self):
        net = SpikingNet('{input_psp = {decay = 0.5}} c4{unit = "relu"} c4 f3', (2, 8, 8))
        held = net.hold(torch.rand(2, 2, 8, 8), steps=3)
        assert not held.tensors()

    def test_leaves_collect_gradients(self):
        net = SpikingNet('c4{unit = "relu"} c4 f3', (2, 8, 8))
        leaves = net.hold(torch.rand(2, 2, 8, 8), steps=3).leaves()
        assert [value.is_leaf and value.requires_grad for value in leaves.tensors()] == [True] * 2


class TestTail:
    text = 'c4 P c4{unit = "relu"} P f6{unit = "relu"} f3'

    def hand(self, net, xs):
        sites = net.sites
        spikes = kit.slow_lif(torch.stack([sites[0].synapse(x) for x in xs]))
        x = torch.stack([sites[1].synapse(s) for s in spikes]).mean(0)
        x = sites[3].synapse(sites[2].synapse(x).relu())
        return sites[4].synapse(x).relu()

    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_reads_the_time_mean_once(self, order):
        net = kit.exact_net(self.text, (2, 8, 8))
        assert net.spec.tail == 2
        xs = kit.dyadic((4, 3, 2, 8, 8))
        calls: dict[str, int] = {}
        out = getattr(net, f"run_by_{order}")(xs, counting(calls))
        expected = self.hand(net, xs)
        assert all(torch.equal(step, expected) for step in out)
        assert calls["2.0.0"] == calls["4.0.0"] == 1

    def test_step_gives_maps_for_finish(self):
        net = kit.exact_net(self.text, (2, 8, 8))
        h, _ = net.step(kit.dyadic((3, 2, 8, 8)), None)
        assert h.shape == (3, 4, 4, 4)

    def test_reading_every_step_is_another_net(self):
        text = 'c4 P [c4{unit = "relu"}]{reads = "step"} P [f6{unit = "relu"}]{reads = "step"} f3'
        net = kit.exact_net(text, (2, 8, 8))
        assert net.spec.tail is None
        xs = kit.dyadic((4, 3, 2, 8, 8))
        assert not torch.equal(net(xs)[0], net(xs)[1])

    def test_fresh_dropout_in_the_tail(self):
        net = kit.exact_net('f8 f8{unit = "relu", dropout = 0.5, dropout_held = false} f2', (4,))
        net.train()
        xs, rng = kit.dyadic((4, 2, 4)), kit.rng_for(2)
        assert torch.equal(net.run_by_time(xs, rng=rng), net.run_by_layer(xs, rng=rng))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("order", ["run_by_time", "run_by_layer"])
def test_statistics_of_a_constant_input_move_once_per_step(order, momentum):
    x = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    left = []
    for xs in (x.expand(5, *x.shape), x.expand(5, *x.shape).clone()):
        net = SpikingNet('c4{norm = "batch_step"} f3', (2, 4, 4)).double()
        norm = net.sites[0].norm
        assert norm is not None
        norm.momentum = momentum
        getattr(net, order)(xs)
        assert int(norm.num_batches_tracked) == 5
        left.append(norm.running_var.clone())
    torch.testing.assert_close(left[0], left[1], rtol=1e-14, atol=0)
