"""DSR: what a rate is exactly, and that its gradient is that of a net of clamps."""

import pytest
import torch
from rate_nets import Along, Problem

from spikeloom.heads.rates import Rates
from spikeloom.nets.execution import Execution
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import run_train
from spikeloom.rules.dsr import Dsr

F64 = torch.float64
HALF = IF(v_th=0.75, fire_fraction=0.5, learn=("v_th",))
LEAKY = LIF(alpha=0.9, v_th=0.5, scale_input=True, fire_fraction=0.3, learn=("v_th",))


def currents(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(steps, 40, 6, generator=generator, dtype=F64) - 0.5


@pytest.mark.parametrize("steps", [1, 5, 32])
def test_a_rate_is_the_mean_current_less_what_is_left(steps):
    c = currents(steps)
    s, state = run_train(IF(v_th=0.75, fire_fraction=0.5), c, {})
    assert torch.allclose(0.75 * s.mean(0), c.mean(0) - state.v / steps, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 5, 32])
def test_a_leaky_rate_is_the_discounted_current_less_what_is_left(steps):
    c, k = currents(steps), 0.9
    s, state = run_train(LIF(alpha=k, v_th=0.5, scale_input=True, fire_fraction=0.3), c, {})
    weights = k ** torch.arange(steps - 1, -1, -1, dtype=F64)
    whole = (1 - k**steps) / (1 - k)
    rate, z = (torch.tensordot(weights, one, 1) / whole for one in (s, c))
    assert torch.allclose(0.5 * rate, (1 - k) * z - state.v / whole, atol=1e-14)


@pytest.mark.parametrize("steps", [4, 16, 64])
def test_half_the_threshold_halves_the_error(steps):
    """Firing at v_th/2 rounds the rate, firing at v_th cuts it down."""
    z = torch.linspace(0, 0.75, 301, dtype=F64)
    rates = {
        level: 0.75
        * run_train(IF(v_th=0.75, fire_fraction=level), z.expand(steps, 1, -1), {})[0].mean(0)[0]
        for level in (0.5, 1.0)
    }
    assert (rates[0.5] - z).abs().max() <= 0.75 / (2 * steps) + 1e-12
    cut = z - rates[1.0]
    assert cut.min() >= -1e-12 and cut.max() <= 0.75 / steps + 1e-12


def clamps(one):
    """Gradients of the ReLU-like net of clamps, run rates in the place of its own."""
    one.clear()
    a, direction = one.batch.xs[0], one.direction
    for site in one.net.sites:
        s = one.seen[site.name][1][0]
        v_th = site.neuron.theta()["v_th"]
        clamped = site.synapse(a).clamp(min=0)
        clamped = torch.minimum(clamped, v_th)
        a = v_th.detach() * s.mean(0) + clamped - clamped.detach()
    (a * direction).sum().backward()
    return one.grads()


def test_without_norms_it_is_a_net_of_clamps():
    one = Problem("f12 f8 [f4]", HALF, head=Rates, amplitude="v_th")
    one.direction = torch.randn(5, 4, generator=one.generator, dtype=F64)
    with one.net.observe(one):
        found = one.learn(Dsr(), Along(one.direction))
    expected = clamps(one)
    for name, grad in found.items():
        assert torch.allclose(grad, expected[name], rtol=1e-12, atol=1e-13), name
    assert all(bool(one.any()) for one in found.values())


def test_a_bias_before_a_norm_has_no_gradient():
    one = Problem('f12{norm = "batch_all"} f4', HALF)
    found = one.learn(Dsr())
    assert found["plan.synapses.0_0.bias"].abs().max() < 1e-15
    assert found["plan.synapses.0_0.weight"].abs().max() > 1e-6


@pytest.mark.parametrize("unit", [HALF, LEAKY], ids=["if", "lif"])
@pytest.mark.parametrize("bias", [-900.0, 900.0], ids=["silent", "saturated"])
def test_beyond_the_clamp_thresholds_alone_learn(unit, bias):
    one = Problem("[f4]", unit, head=Rates, amplitude="v_th")
    one.net.sites[0].synapse.bias.data.fill_(bias)
    found = one.learn(Dsr(), Along(torch.ones(5, 4, dtype=F64)))
    assert not found["plan.synapses.0_0.weight"].any()
    assert not found["plan.synapses.0_0.bias"].any()
    assert bool(found["plan.neurons.0_0_0.raw_v_th"].any()) == (bias > 0)


def test_both_gradients_of_a_leaky_threshold():
    """The authors' code multiplies by dt where the clamp's derivative divides by it."""
    grads = []
    for choice in ("reference", "formula"):
        one = Problem("[f4]", LEAKY, head=Rates, amplitude="v_th", gain=10.0)
        one.net.sites[0].synapse.bias.data.fill_(900.0)
        found = one.learn(Dsr(threshold=choice), Along(torch.ones(5, 4, dtype=F64)))
        grads.append(found["plan.neurons.0_0_0.raw_v_th"])
    assert torch.allclose(100 * grads[0], grads[1], rtol=1e-12)


def test_thresholds_stay_above_their_bound():
    unit = IF(v_th=0.02, fire_fraction=0.5, learn=("v_th",), v_th_min=0.01)
    one = Problem("f8 f4", unit, amplitude="v_th")
    optimizer = torch.optim.SGD(one.net.parameters(), lr=50.0)

    def commit():
        optimizer.step()
        one.net.project()
        optimizer.zero_grad()

    thresholds = [site.neuron.get_parameter("raw_v_th") for site in one.net.sites]
    for _ in range(5):
        objective = one.head.bind(one.batch.target, one.batch.rng)
        Dsr().learn(one.net, one.batch, objective, commit)
        assert all(bool((each >= 0.01).all()) for each in thresholds)


@pytest.mark.parametrize("unit", [HALF, LEAKY], ids=["if", "lif"])
def test_a_constant_train_and_its_copies_learn_the_same(unit):
    one = Problem("c4 P c4 f4", unit, shape=(2, 8, 8), amplitude="v_th")
    view = one.learn(Dsr())
    one.batch = type(one.batch)(one.batch.xs.clone(), one.batch.target, one.batch.rng)
    copies = one.learn(Dsr())
    for name, grad in view.items():
        assert torch.allclose(grad, copies[name], rtol=1e-12, atol=1e-14), name


@pytest.mark.parametrize("unit", [HALF, LIF(v_th=0.5, alpha=0.8)], ids=["if", "lif"])
@pytest.mark.parametrize("kernels", ["compiled", "reference"])
def test_pools_with_the_neurons_are_pools_behind_them(unit, kernels):
    """An observer wants to see all spikes, so that pools run alone."""
    found = []
    for watched in (False, True):
        text = 'c4{amplitude = "v_th"} P3 c6{norm = "batch_all"} P f3'
        one = Problem(text, unit, shape=(2, 12, 12))
        one.net.execution = Execution(kernels=kernels)
        with one.net.observe(*([one] if watched else [])):
            found.append(one.learn(Dsr()))
        assert bool(one.seen) == watched
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        assert float(grad.abs().max()) > 0 or "bias" in name
        torch.testing.assert_close(grad, found[1][name], rtol=1e-9, atol=1e-12)
