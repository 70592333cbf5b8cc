"""Single steps that pass no gradient on: compiled with one value for the whole state."""

import ownunits as own
import pytest
import torch
import trainpairs as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.kernels.runs import Pivot, TrainOptions
from spikeloom.neurons.base import detach_state
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import run_train

pytestmark = kit.needs_compiler
WITHIN = settings(max_examples=12)
SEEDS = st.integers(0, 999)


def walked(unit, xs, kernels, *, theta=None, state=None, pool=1, seed=0):
    """Take single steps; after each, its own gradients, as rules that go online do."""
    outs, found, kinds = [], [], set()
    for t, x in enumerate(xs):
        leaf = x.detach().unsqueeze(0).requires_grad_()
        values = {name: one.detach().requires_grad_() for name, one in (theta or {}).items()}
        out, state = run_train(
            unit, leaf, values, state, kernels=kernels, options=TrainOptions(pool=pool, local=True)
        )
        state = detach_state(state)
        kinds.add(type(state))
        leaves = [leaf, *values.values()]
        if out.requires_grad:
            up = kit.weights(out, seed + t)
            grads = torch.autograd.grad((out * up).sum(), leaves, allow_unused=True)
            found.append([torch.zeros(()) if one is None else one for one in grads])
        outs.append(out.detach())
    return torch.cat(outs), found, kinds


def same_steps(unit, xs, **options):
    expected, theirs, _ = walked(unit, xs, "reference", **options)
    with kit.no_fallback():
        got, mine, kinds = walked(unit, xs, "compiled", **options)
    assert torch.equal(got, expected)
    rounding = 4 * kit.ROUNDING[xs.dtype]
    for step, others in zip(mine, theirs, strict=True):
        scale = others[0].abs().sum().item()
        for place, (one, other) in enumerate(zip(step, others, strict=True)):
            assert kit.near(one, other.expand(one.shape), rounding, scale if place else 0.0)
    return kinds


@pytest.mark.parametrize("unit", kit.UNITS, ids=kit.NAMES)
@WITHIN
@given(xs=kit.currents(), seed=SEEDS)
def test_every_unit(unit, xs, seed):
    same_steps(unit, xs, theta=kit.theta_of(unit, xs.dtype, seed=seed), seed=seed)


def test_where_one_value_is_the_state():
    """The plain units need no more; what a trained decay needs besides is the state itself."""
    xs = torch.rand(3, 2, 5)
    assert same_steps(LIF(), xs) == {Pivot}
    assert Pivot not in same_steps(kit.UNITS[2], xs, theta=kit.theta_of(kit.UNITS[2], xs.dtype))


@WITHIN
@given(data=st.data(), seed=SEEDS)
def test_behind_a_pool(data, seed):
    shapes = st.sampled_from([(2, 3, 4, 4), (1, 2, 2, 6)])
    orders = st.sampled_from(["rows", "channels_last", "sliced"])
    same_steps(LIF(), data.draw(kit.currents(shapes=shapes, orders=orders)), pool=2, seed=seed)


@WITHIN
@given(xs=kit.currents(torch.bfloat16), seed=SEEDS)
def test_bfloat16(xs, seed):
    same_steps(LIF(), xs, seed=seed)


@WITHIN
@given(xs=kit.currents(), seed=SEEDS)
def test_after_steps_of_another_kind(xs, seed):
    same_steps(LIF(), xs, state=kit.state_of(LIF(), xs[0], seed), seed=seed)


def test_a_users_own_unit():
    assert same_steps(own.Writes(), torch.randn(4, 3, 5))


def test_a_backward_pass_that_comes_too_late_is_an_error_or_right():
    """The value of a step is written over by the next one: never a silent wrong gradient."""
    xs = 2 * torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))
    grads = {}
    for kernels in ("reference", "compiled"):
        leaf = xs[:1].clone().requires_grad_()
        first, state = run_train(LIF(), leaf, {}, kernels=kernels, options=TrainOptions(local=True))
        run_train(
            LIF(),
            xs[1:],
            {},
            detach_state(state),
            kernels=kernels,
            options=TrainOptions(local=True),
        )
        try:
            (grads[kernels],) = torch.autograd.grad(first.sum(), leaf)
        except RuntimeError as error:
            assert kernels == "compiled" and "modified by an inplace operation" in str(error)
            return
    assert torch.equal(grads["compiled"], grads["reference"])


def test_without_gradients():
    xs = torch.rand(3, 2, 5)
    expected = run_train(LIF(), xs, {}, kernels="reference")[0]
    for context in (torch.no_grad(), torch.inference_mode()):
        with context, kit.no_fallback():
            state, outs = None, []
            for x in xs.split(1):
                out, state = run_train(
                    LIF(), x, {}, state, kernels="compiled", options=TrainOptions(local=True)
                )
                outs.append(out)
            assert torch.equal(torch.cat(outs), expected)
