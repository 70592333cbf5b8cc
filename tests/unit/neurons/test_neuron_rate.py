"""`rate` against simulation, within the bounds its docstring states."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from spikeloom.base.errors import ConfigError
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.relu import Relu

F64 = torch.float64
T = 64
CURRENTS = st.lists(st.integers(-128, 512).map(lambda n: n / 256), min_size=1, max_size=6)


def simulate(unit, currents, steps=T):
    """Return the train of spikes and the potential left behind; first axis time."""
    c = torch.tensor(currents, dtype=F64)
    s, state = Neuron(unit).run(c.expand(steps, 1, len(currents)))
    return s[:, 0], state.v[0], c


@settings(max_examples=100)
@given(
    CURRENTS,
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from([0.5, 0.75, 1.0]),
    st.sampled_from(["after_fire", "next_step"]),
    st.sampled_from([">=", ">"]),
)
def test_if_with_soft_reset_stays_within_one_spike(currents, v_th, fraction, order, fires):
    unit = IF(v_th=v_th, fire_fraction=fraction, order=order, fires=fires)
    s, _, c = simulate(unit, currents)
    assert bool(((s.mean(0) - unit.rate(c, {})).abs() <= 1 / T).all())


@settings(max_examples=60)
@given(CURRENTS, st.sampled_from([None, 2, 3]), st.sampled_from([0.25, 0.5]))
def test_several_spikes_per_step_raise_the_highest_rate(currents, most, v_th):
    unit = IF(v_th=v_th, max_spikes=most)
    s, _, c = simulate(unit, currents)
    assert bool(((s.mean(0) - unit.rate(c, {})).abs() <= 1 / T).all())
    assert unit.rate(torch.tensor(10 * v_th), {}).item() == (10.0 if most is None else most)


@settings(max_examples=60)
@given(CURRENTS, st.sampled_from(["soft", "hard", "none"]), st.sampled_from([0.5, 1.0]))
def test_a_lower_bound_leaves_the_rate(currents, reset, alpha):
    free, held = LIF(alpha=alpha, reset=reset), LIF(alpha=alpha, reset=reset, v_min=-0.25)
    assert torch.equal(simulate(held, currents)[0], simulate(free, currents)[0])
    c = torch.tensor(currents, dtype=F64)
    assert torch.equal(held.rate(c, {}), free.rate(c, {}))


@settings(max_examples=60)
@given(CURRENTS, st.sampled_from([-0.5, 0.5, 2.5]), st.sampled_from([0.5, 1.0]))
def test_a_start_off_rest_moves_counts_by_what_it_holds_and_not_the_rate(currents, start, alpha):
    unit = LIF(alpha=alpha, v_init=start)
    s, v, c = simulate(unit, currents)
    weights = alpha ** torch.arange(T - 1, -1, -1, dtype=F64)
    total = weights.sum()
    assert torch.equal(unit.rate(c, {}), LIF(alpha=alpha).rate(c, {}))
    assert torch.allclose(weights @ s, total * c + alpha**T * start - v, rtol=0, atol=1e-9)
    if alpha == 1:
        assert bool(((s.mean(0) - unit.rate(c, {})).abs() <= (1 + abs(start)) / T).all())


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_half_a_threshold_rounds_the_count_where_rest_cuts_it(steps):
    """Rates of k / 16 over T steps: no count lies just between two."""
    currents = [k / 16 + 1 / 1024 for k in range(16)]
    from_rest, _, _ = simulate(IF(), currents, steps)
    from_half, _, _ = simulate(IF(v_init=0.5), currents, steps)
    assert from_rest.sum(0).tolist() == [math.floor(steps * c) for c in currents]
    assert from_half.sum(0).tolist() == [math.floor(steps * c + 0.5) for c in currents]


@settings(max_examples=60)
@given(CURRENTS, st.sampled_from([2.0, 3.0, 5.5]))
def test_a_level_of_several_thresholds_costs_as_many_spikes(currents, fraction):
    s, _, c = simulate(IF(fire_fraction=fraction), currents)
    assert bool(((s.mean(0) - IF(fire_fraction=fraction).rate(c, {})).abs() <= fraction / T).all())


@settings(max_examples=150)
@given(
    CURRENTS,
    st.integers(0, 3).map(lambda n: n / 4),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from([0.5, 1.0, 1.5]),
    st.booleans(),
    st.integers(1, 12),
)
def test_lif_with_soft_reset_keeps_the_bound_on_its_discounted_rate(
    currents, alpha, v_th, fraction, scale, steps
):
    unit = LIF(alpha=alpha, v_th=v_th, fire_fraction=fraction, scale_input=scale)
    s, v, c = simulate(unit, currents, steps)
    weight = alpha ** torch.arange(steps - 1, -1, -1, dtype=F64)
    discounted = (weight[:, None] * s).sum(0) / weight.sum()
    bound = v.abs() / (v_th * weight.sum())
    assert bool(((discounted - unit.rate(c, {})).abs() <= bound + 1e-14).all())


@settings(max_examples=150)
@given(
    st.integers(1, 600).map(lambda n: n / 256 + 1 / 1024),  # no current meets the level exactly
    st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from([0.75, 1.0, 1.5]),
    st.sampled_from(["after_fire", "next_step"]),
    st.booleans(),
)
def test_hard_reset_fires_every_ceil_n_steps(current, alpha, v_th, fraction, order, scale):
    fields = {"v_th": v_th, "fire_fraction": fraction, "reset": "hard", "order": order}
    unit = IF(**fields) if alpha == 1 else LIF(alpha=alpha, scale_input=scale, **fields)
    s, _, c = simulate(unit, [current], steps=400)
    times = s[:, 0].nonzero().flatten().tolist()
    rate = unit.rate(c, {}).item()
    assert 0 <= rate <= 1
    if rate == 0:
        assert not times
        return
    n = 1 / rate
    if abs(n - round(n)) < 1e-9 or n > 100:
        return  # rounding decides which side of a whole step n lies
    assert times[0] + 1 == math.ceil(n)
    assert {b - a for a, b in zip(times, times[1:], strict=False)} == {math.ceil(n)}


def test_hard_reset_takes_whole_numbers_as_decay():
    c = torch.tensor([0.25, 0.5, 2.0], dtype=F64)
    hard = IF(reset="hard").rate(c, {})
    assert torch.equal(LIF(alpha=1, reset="hard").rate(c, {}), hard)
    assert torch.equal(LIF(alpha=1.0, reset="hard").rate(c, {}), hard)
    assert hard.tolist() == [0.25, 0.5, 1.0]


def test_hard_rate_comes_near_that_without_leak():
    c = torch.linspace(0.05, 0.95, 19, dtype=F64)
    near = LIF(alpha=1 - 1e-9, reset="hard").rate(c, {})
    assert torch.allclose(near, IF(reset="hard").rate(c, {}), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.75, 1.0])
def test_without_reset_the_rate_says_whether_the_neuron_ends_up_firing(alpha):
    unit = LIF(alpha=alpha, reset="none")
    currents = [-0.5, 0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 1.5]
    s, _, c = simulate(unit, currents, steps=200)
    assert torch.equal(s[-1], unit.rate(c, {}))


@settings(max_examples=60)
@given(CURRENTS, st.integers(1, 4), st.sampled_from(["soft", "hard"]))
def test_refractory_steps_lengthen_the_period(currents, refractory, reset):
    unit = IF(refractory=refractory, reset=reset)
    steps = 240
    s, _, c = simulate(unit, currents, steps)
    rate = unit.rate(c, {})
    base = IF(reset=reset).rate(c, {})
    assert torch.allclose(rate, base / (1 + refractory * base))
    if reset == "soft":
        # each spike blocks `refractory` steps; the rest is IF, and one period may be cut off
        assert bool(((s.mean(0) - rate).abs() <= (1 + refractory) / steps).all())
    gaps = [row.nonzero().flatten().diff() for row in s.t()]
    assert all(bool((gap > refractory).all()) for gap in gaps)


@pytest.mark.parametrize("unit", [IF(beta=0.5), IF(beta=0.5, scale_current=True)])
def test_a_synaptic_current_reaches_its_steady_value(unit):
    c = torch.linspace(0.01, 0.45, 12, dtype=F64)
    s, _, _ = simulate(unit, c.tolist(), steps=400)
    assert bool(((s.mean(0) - unit.rate(c, {})).abs() <= 3 / 400).all())


def test_rate_takes_theta_and_lets_gradients_through():
    c = torch.tensor([[0.2, 0.6], [0.3, 1.4]], dtype=F64, requires_grad=True)
    v_th = torch.tensor([1.0, 2.0], dtype=F64, requires_grad=True)
    rate = IF(v_th=5.0).rate(c, {"v_th": v_th})
    assert torch.equal(rate, (c / v_th).clamp(0, 1))
    rate.sum().backward()
    assert c.grad.tolist() == [[1.0, 0.5], [1.0, 0.5]]
    assert v_th.grad.tolist() == pytest.approx([-0.5, -0.5])


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_rate_of_a_trained_unit_passes_finite_differences(reset):
    unit = LIF(reset=reset, scale_input=True, fire_fraction=0.8)
    c = torch.tensor([0.5, 1.3, 1.9], dtype=F64, requires_grad=True)
    v_th = torch.tensor(0.9, dtype=F64, requires_grad=True)
    alpha = torch.tensor(0.35, dtype=F64, requires_grad=True)

    def rate(c, v_th, alpha):
        return unit.rate(c, {"v_th": v_th, "alpha": alpha})

    assert torch.autograd.gradcheck(rate, (c, v_th, alpha), eps=1e-7, atol=1e-6)


def test_a_hard_rate_below_the_level_is_flat_and_its_gradient_finite():
    c = torch.tensor([-1.0, 0.0, 0.2, 0.5], dtype=F64, requires_grad=True)
    rate = LIF(alpha=0.5, reset="hard").rate(c, {})
    rate.sum().backward()
    assert rate.tolist() == [0, 0, 0, 0]
    assert c.grad.tolist() == [0, 0, 0, 0]


def test_hard_reset_elsewhere_has_no_closed_form():
    with pytest.raises(ConfigError, match=r"^neurons.LIF.rate: expected v_reset = 0 .* got -0.5;"):
        LIF(reset="hard", v_reset=-0.5).rate(torch.ones(1), {})


def test_the_rate_of_a_rectifier_is_its_output():
    c = torch.linspace(-1, 1, 5)
    out, state = Relu().step(None, c, {})
    assert torch.equal(out, c.clamp(min=0)) and torch.equal(out, Relu().rate(c, {}))
    assert state is None and Relu().init(c) is None
