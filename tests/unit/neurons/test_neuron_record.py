"""One step at a time, and the potentials of every step: the module against loops by hand."""

import ownunits as own
import pytest
import torch
import trainpairs as kit

from spikeloom.base.errors import ShapeError
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.relu import Relu
from spikeloom.neurons.trains import WORTH, run_train, state_leaves

LEARNED = LIF(alpha=0.75, learn=("v_th", "alpha"))
FEW = (5, 2, 3)
MANY = (3, 64, WORTH // 64)
"""Shapes below and above the size from which kernels run."""


def draw(shape, dtype=torch.float64):
    return 0.4 + 1.2 * torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("shape", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("unit", [*kit.UNITS, Relu()], ids=[*kit.NAMES, "relu"])
def test_steps_are_the_train(unit, shape):
    neuron, xs = Neuron(unit), draw(shape, torch.float32)
    outs, state = [], None
    for x in xs:
        s, state = neuron.step(x, state)
        outs.append(s)
    whole, last = neuron.run(xs)
    assert torch.equal(torch.stack(outs), whole)
    assert all(map(torch.equal, state_leaves(state), state_leaves(last)))
    assert type(state) is type(last)


@pytest.mark.parametrize("unit", [*kit.UNITS, own.Writes()], ids=[*kit.NAMES, "own"])
def test_a_recording_is_what_the_steps_leave(unit):
    neuron, xs = Neuron(unit), draw(MANY, torch.float32)
    found, state = neuron.record(xs), None
    for t, x in enumerate(xs):
        s, state = neuron.step(x, state)
        assert torch.equal(found.out[t], s)
        for train, leaf in zip(state_leaves(found.states), state_leaves(state), strict=True):
            assert torch.equal(train[t], leaf)
    assert all(map(torch.equal, state_leaves(found.last), state_leaves(state)))
    with torch.no_grad():  # kernels run where they are worth it
        assert torch.equal(run_train(unit, xs, neuron.theta())[0], found.out)


def by_hand(xs, alpha, v_th, order):
    """Soft reset, gradient of the spike 0.3 max(0, 1 - |u - v_th| / v_th): potentials of a LIF."""
    v = torch.zeros_like(xs[0])
    s = torch.zeros_like(xs[0])
    charged, left, spikes = [], [], []
    for x in xs:
        v = alpha * v + x
        if order == "next_step":
            v = v - v_th * s
        level = (v - v_th).detach()
        slope = 0.3 * (1 - level.abs() / v_th.detach()).clamp(min=0)
        s = (level >= 0).double() + slope * (v - v_th - level)
        charged.append(v)
        if order == "after_fire":
            v = v - v_th * s
        left.append(v)
        spikes.append(s)
    return torch.stack(spikes), torch.stack(charged), torch.stack(left)


@pytest.mark.parametrize("order", ["after_fire", "next_step"])
def test_gradients_flow_through_recorded_potentials(order):
    neuron = Neuron(LIF(alpha=0.75, learn=("v_th", "alpha"), order=order)).double()
    xs = draw(FEW).requires_grad_()
    found = neuron.record(xs)
    weights = [draw(FEW).flip(turn) for turn in (0, 1, 2)]
    parts = (found.out, found.u, found.states.v)
    leaves = [xs, neuron.raw_v_th, neuron.raw_alpha]
    grads = torch.autograd.grad(
        sum((w * p).sum() for w, p in zip(weights, parts, strict=True)), leaves
    )
    alpha, v_th = torch.sigmoid(neuron.raw_alpha), neuron.raw_v_th
    expected = by_hand(xs, alpha, v_th, order)
    for mine, theirs in zip(parts, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-14)
    wanted = torch.autograd.grad(
        sum((w * p).sum() for w, p in zip(weights, expected, strict=True)), leaves
    )
    for mine, theirs in zip(grads, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_u_is_before_the_reset_and_v_behind_it():
    neuron, xs = Neuron(IF()), torch.tensor([[0.75], [0.75], [0.25]])
    found = neuron.record(xs)
    assert found.out.flatten().tolist() == [0, 1, 0]
    assert found.u.flatten().tolist() == [0.75, 1.5, 0.75]
    assert found.states.v.flatten().tolist() == [0.75, 0.5, 0.75]
    assert found.states.i is None and found.last.v.tolist() == [0.75]


def test_a_recording_goes_on_where_another_ended():
    neuron, xs = Neuron(kit.FULL), draw((6, 2, 3))
    whole, first = neuron.record(xs), neuron.record(xs[:2])
    second = neuron.record(xs[2:], first.last)
    assert torch.equal(torch.cat([first.u, second.u]), whole.u)
    assert torch.equal(torch.cat([first.states.wait, second.states.wait]), whole.states.wait)


def test_what_a_unit_does_not_say_is_none():
    xs = draw(FEW)
    assert Neuron(own.Adaptive()).record(xs).u is None
    assert Neuron(own.Scaled(0.5)).record(xs).u is None  # its parent's `charged` is another step's
    found = Neuron(Relu()).record(xs)
    assert torch.equal(found.out, xs.relu()) and found.u is None and found.last is None


def test_low_precision_spikes_and_wide_potentials():
    found = Neuron(LIF()).record(draw(FEW).bfloat16())
    assert found.out.dtype == torch.bfloat16
    assert found.states.v.dtype == found.u.dtype == torch.float32


def test_wrong_shapes_are_one_line():
    neuron = Neuron(LIF())
    with pytest.raises(ShapeError, match=r"^neurons.Neuron.step: expected the current of one step"):
        neuron.step(torch.tensor(1.0))
    with pytest.raises(ShapeError, match=r"^neurons.Neuron: expected currents \[T, B, ...\]"):
        neuron.record(torch.zeros(3))
    _, state = neuron.step(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"^neurons.LIF: expected a current shaped as the carried"):
        neuron.step(torch.zeros(2, 4), state)
