"""Every variant of the spiking units against the slow second writing of their equations."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from neuron_loops import backward, forward

from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.surrogate import Arctan, Periodic, Rectangle, Sigmoid, Triangle

QUARTERS = st.integers(0, 4).map(lambda n: n / 4)
TRAIN = st.lists(st.integers(-64, 160).map(lambda n: n / 64), min_size=1, max_size=8)


@st.composite
def units(draw, **fixed):
    """Draw a unit whose every operation is exact in float64 over eight steps."""
    fields = {
        "v_th": draw(st.sampled_from([0.5, 0.75, 1.0, 2.0])),
        "reset": draw(st.sampled_from(["soft", "hard", "none"])),
        "order": draw(st.sampled_from(["after_fire", "next_step"])),
        "fires": draw(st.sampled_from([">=", ">"])),
        "fire_fraction": draw(st.sampled_from([0.5, 1.0, 1.5])),
        "detach_reset": draw(st.booleans()),
        "v_reset": draw(st.sampled_from([0.0, -0.25, 0.5])),
        "refractory": draw(st.integers(0, 3)),
        "beta": draw(st.sampled_from([0.0, 0.25, 0.5])),
        "scale_current": draw(st.booleans()),
        "surrogate": draw(
            st.sampled_from([Triangle(), Triangle(1.0, 2.0, relative=False), Rectangle(1.5, 0.75)])
        ),
        "v_min": draw(st.sampled_from([None, -0.25, -0.5])),
        "v_init": draw(st.sampled_from([0.0, -0.25, 0.5, 1.5])),
    }
    if draw(st.integers(0, 2)) == 0:
        fields |= {"max_spikes": draw(st.sampled_from([None, 2, 3])), "reset": "soft"}
        fields |= {"refractory": 0, "v_th": draw(st.sampled_from([0.25, 0.5, 1.0]))}
        fields["surrogate"] = draw(
            st.sampled_from([Triangle(), Periodic(Triangle(1.0, 0.5)), Periodic(Rectangle(0.25))])
        )
    if draw(st.booleans()):
        return IF(**(fields | fixed))
    leak = {"alpha": draw(QUARTERS), "scale_input": draw(st.booleans())}
    return LIF(**(fields | leak | fixed))


def run(unit, currents, theta=None):
    """Run one neuron; return spikes and the states after each step."""
    steps = [torch.tensor([c], dtype=torch.float64) for c in currents]
    state = unit.init(steps[0])
    outs, states = [], []
    for current in steps:
        s, state = unit.step(state, current, theta or {})
        outs.append(s)
        states.append(state)
    return outs, states


@settings(max_examples=300)
@given(units(), TRAIN)
@example(LIF(alpha=0.5), [1.0, 1.0])  # the level is met exactly
@example(LIF(alpha=0.5, fires=">"), [1.0, 1.0])
def test_forward_is_that_of_the_loops_to_the_bit(unit, currents):
    tape = forward(unit, currents)
    outs, states = run(unit, currents)
    for t, (s, state) in enumerate(zip(outs, states, strict=True)):
        assert s.item() == tape.s[t]
        assert state.v.item() == float(tape.left[t])
        if unit.beta:
            assert state.i.item() == float(tape.i[t])
        else:
            assert state.i is None
        assert (state.s is None) == (unit.order == "after_fire")
        assert (state.wait is None) == (unit.refractory == 0)


@settings(max_examples=150)
@given(units(), TRAIN, st.sampled_from([0.5, 1.25]), st.sampled_from([0.25, 0.75]))
def test_theta_replaces_the_constants(unit, currents, v_th, alpha):
    theta = {"v_th": torch.tensor(v_th, dtype=torch.float64)}
    if isinstance(unit, LIF):
        theta["alpha"] = torch.tensor(alpha, dtype=torch.float64)
    tape = forward(unit, currents, v_th, alpha if isinstance(unit, LIF) else None)
    outs, states = run(unit, currents, theta)
    assert [s.item() for s in outs] == tape.s
    assert [state.v.item() for state in states] == [float(v) for v in tape.left]


@settings(max_examples=300)
@given(units(), st.lists(st.integers(-64, 160).map(lambda n: n / 64), min_size=2, max_size=6))
def test_gradients_are_those_derived_by_hand(unit, currents):
    steps = len(currents)
    weights = [0.5 + 0.25 * t for t in range(steps)]  # the loss is sum of weights[t] s[t]
    xs = torch.tensor(currents, dtype=torch.float64, requires_grad=True)
    theta = {"v_th": torch.tensor(unit.v_th, dtype=torch.float64, requires_grad=True)}
    if isinstance(unit, LIF):
        theta["alpha"] = torch.tensor(unit.alpha, dtype=torch.float64, requires_grad=True)
    state = unit.init(xs[0])
    loss = torch.zeros((), dtype=torch.float64)
    for t in range(steps):
        s, state = unit.step(state, xs[t], theta)
        loss = loss + weights[t] * s
    loss.backward()
    by_step, d_th, d_alpha = backward(unit, currents, weights)
    assert xs.grad.tolist() == pytest.approx(by_step, rel=1e-12, abs=1e-13)
    assert theta["v_th"].grad.item() == pytest.approx(d_th, rel=1e-12, abs=1e-13)
    if isinstance(unit, LIF):
        assert theta["alpha"].grad.item() == pytest.approx(d_alpha, rel=1e-12, abs=1e-13)


def test_lif_soft_reset_attached_and_detached_by_explicit_loops():
    alpha, k = 0.5, 4.0
    xs = torch.linspace(-0.5, 1.6, 7 * 3, dtype=torch.float64).reshape(7, 3).requires_grad_()
    up = torch.linspace(1, -1, 7 * 3, dtype=torch.float64).reshape(7, 3)
    for detach in (False, True):
        unit = LIF(alpha=alpha, surrogate=Sigmoid(k), detach_reset=detach)
        (grad,) = torch.autograd.grad((Neuron(unit)(xs) * up).sum(), xs)
        for n in range(3):
            v, us = 0.0, []
            for t in range(7):
                us.append(alpha * v + xs[t, n].item())
                v = us[-1] - (us[-1] >= 1)
            d_v = 0.0
            for t in reversed(range(7)):
                sg = 1 / (1 + 2.718281828459045 ** (-k * (us[t] - 1)))
                slope = k * sg * (1 - sg)
                d_u = d_v + slope * (up[t, n].item() - (0 if detach else d_v))
                assert grad[t, n].item() == pytest.approx(d_u, rel=1e-12, abs=1e-14)
                d_v = alpha * d_u


def smooth(surrogate, u):
    """Return the function whose derivative is the surrogate's slope."""
    if isinstance(surrogate, Sigmoid):
        return torch.sigmoid(surrogate.k * u)
    return 0.5 + torch.atan(torch.pi / 2 * surrogate.a * u) / torch.pi


VARIANTS = [
    LIF(alpha=0.6, surrogate=Sigmoid(2.0)),
    LIF(alpha=0.6, surrogate=Arctan(1.5), order="next_step", fire_fraction=0.7),
    LIF(alpha=0.6, surrogate=Sigmoid(2.0), reset="hard", v_reset=-0.3, beta=0.4),
    LIF(alpha=0.6, surrogate=Arctan(1.5), reset="hard", order="next_step", scale_input=True),
    LIF(alpha=0.6, surrogate=Sigmoid(2.0), reset="none", beta=0.4, scale_current=True),
    IF(v_th=1.3, surrogate=Arctan(2.0)),
]


@pytest.mark.parametrize("unit", VARIANTS, ids=str)
def test_with_a_smooth_spike_all_other_gradients_pass_finite_differences(unit, monkeypatch):
    def soft_spike(u, surrogate, **_):
        return smooth(surrogate, u)

    monkeypatch.setattr("spikeloom.neurons.integrate_fire.spike", soft_spike)
    leaky = isinstance(unit, LIF)

    def train(xs, v_th, alpha):
        theta = {"v_th": v_th} | ({"alpha": alpha} if leaky else {})
        state, outs = unit.init(xs[0]), []
        for x in xs:
            s, state = unit.step(state, x, theta)
            outs.append(s)
        return torch.stack(outs)

    generator = torch.Generator().manual_seed(3)
    xs = torch.rand(4, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    v_th = torch.tensor([0.9, 1.0, 1.2], dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64, requires_grad=leaky)
    assert torch.autograd.gradcheck(train, (xs, v_th, alpha), eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("unit", VARIANTS, ids=str)
def test_the_spike_is_the_straight_through_form_of_the_smooth_one(unit, monkeypatch):
    xs = torch.rand(6, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 2

    def gradient():
        leaf = xs.clone().requires_grad_()
        out = Neuron(unit)(leaf)
        out.cumsum(0).square().sum().backward()
        return out.detach(), leaf.grad

    out, grad = gradient()

    def through(u, surrogate, *, v_th=1.0, strict=False, most=1):
        soft = smooth(surrogate, u)
        return soft + ((u > 0 if strict else u >= 0).to(u) - soft).detach()

    monkeypatch.setattr("spikeloom.neurons.integrate_fire.spike", through)
    other, other_grad = gradient()
    assert torch.allclose(out, other, rtol=0, atol=1e-15)
    assert torch.allclose(grad, other_grad, rtol=1e-12, atol=1e-12)


def test_one_value_per_channel_is_one_unit_per_channel():
    generator = torch.Generator().manual_seed(5)
    xs = torch.rand(5, 2, 3, 4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    many = Neuron(LIF(learn=("v_th", "alpha"), per_channel=True), channels=3, spatial=2).double()
    thresholds, logits = [0.5, 1.0, 1.5], [-1.0, 0.0, 1.0]
    with torch.no_grad():
        many.raw_v_th.copy_(torch.tensor(thresholds).reshape(3, 1, 1))
        many.raw_alpha.copy_(torch.tensor(logits).reshape(3, 1, 1))
    out = many(xs)
    up = torch.rand(out.shape, dtype=torch.float64, generator=generator)
    (out * up).sum().backward()
    for channel in range(3):
        one = Neuron(LIF(learn=("v_th", "alpha"))).double()
        with torch.no_grad():
            one.raw_v_th.fill_(thresholds[channel])
            one.raw_alpha.fill_(logits[channel])
        part = one(xs.detach()[:, :, channel])
        assert torch.equal(part, out[:, :, channel])
        (part * up[:, :, channel]).sum().backward()
        for name in ("raw_v_th", "raw_alpha"):
            whole = many.get_parameter(name).grad[channel].item()
            assert whole == pytest.approx(one.get_parameter(name).grad.item(), rel=1e-12)


def test_raising_a_threshold_never_adds_spikes_and_its_gradient_says_so():
    xs = torch.full((6, 1, 1), 0.75, dtype=torch.float64)
    neuron = Neuron(IF(learn=("v_th",), surrogate=Triangle(1.0, 4.0), detach_reset=True)).double()
    neuron(xs).sum().backward()
    assert neuron.raw_v_th.grad.item() < 0
    counts = [Neuron(IF(v_th=v))(xs).sum().item() for v in (0.25, 0.5, 1.0, 2.0)]
    assert counts == sorted(counts, reverse=True)


@settings(max_examples=150)
@given(units(beta=0.0, refractory=0, reset="soft", order="after_fire", v_min=None), TRAIN)
def test_without_leak_charge_is_conserved(unit, currents):
    if isinstance(unit, LIF):
        unit = IF(
            v_th=unit.v_th,
            fires=unit.fires,
            fire_fraction=unit.fire_fraction,
            max_spikes=unit.max_spikes,
            v_init=unit.v_init,
        )
    outs, states = run(unit, currents)
    count = sum(s.item() for s in outs)
    assert states[-1].v.item() == unit.v_init + sum(currents) - unit.v_th * count


@settings(max_examples=150)
@given(units(refractory=0), TRAIN)
def test_charged_is_what_meets_the_level(unit, currents):
    steps = [torch.tensor([c], dtype=torch.float64) for c in currents]
    state = unit.init(steps[0])
    level = unit.fire_fraction * unit.v_th
    for current in steps:
        u = unit.charged(state, current, {})
        s, state = unit.step(state, current, {})
        assert (s.item() > 0) == (u.item() > level if unit.fires == ">" else u.item() >= level)
        if unit.order == "next_step" or not s.item():
            assert torch.equal(state.v, u if unit.v_min is None else u.clamp(min=unit.v_min))
