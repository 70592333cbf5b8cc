"""Currents that are nobody else's give their place away, and nothing else changes."""

import pytest
import torch
import trainpairs as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.kernels.runs import TrainOptions
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import run_train

pytestmark = kit.needs_compiler
WITHIN = settings(max_examples=10)
FORMS = [(torch.float32, 1), (torch.float32, 2), (torch.float64, 1), (torch.bfloat16, 2)]
"""Type and pool: each takes three kernels; writing in place meets every type and both pools."""


def made(xs):
    """Return currents as a product makes them: no leaf, stored by nobody."""
    leaf = xs.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    return leaf, leaf + 0


def gradient(xs, spent, pool=1, seed=0, unit=None):
    leaf, currents = made(xs)
    address = currents.data_ptr()
    with kit.no_fallback():
        out, _ = run_train(
            unit or LIF(),
            currents,
            {},
            kernels="compiled",
            options=TrainOptions(pool=pool, spent=spent),
        )
    arrived = []
    currents.register_hook(lambda grad: arrived.append(grad.data_ptr() == address))
    (grad,) = torch.autograd.grad((out * kit.weights(out, seed)).sum(), leaf)
    return out, grad, arrived[0]


@pytest.mark.parametrize(("dtype", "pool"), FORMS)
@WITHIN
@given(data=st.data(), seed=st.integers(0, 99))
def test_the_gradient_takes_their_place(dtype, pool, data, seed):
    orders = st.sampled_from(["rows", "channels_last"])
    shapes = st.sampled_from([(2, 3, 4, 4), (1, 2, 2, 6)])
    xs = data.draw(kit.currents(dtype, shapes=shapes, orders=orders))
    out, grad, _ = gradient(xs, spent=False, pool=pool, seed=seed)
    same, over, there = gradient(xs, spent=True, pool=pool, seed=seed)
    assert torch.equal(out, same) and torch.equal(grad, over)
    assert there or len(xs) == 1  # one step is read as a train that stays


def test_a_constant_train_is_left():
    leaf, current = made(torch.rand(1, 4, 5))
    currents = current.expand(6, 4, 5)
    out, _ = run_train(LIF(), currents, {}, kernels="compiled", options=TrainOptions(spent=True))
    before = current.detach().clone()
    (over,) = torch.autograd.grad(out.sum(), leaf, retain_graph=True)
    (again,) = torch.autograd.grad(out.sum(), leaf)
    assert torch.equal(current.detach(), before) and torch.equal(over, again)


def test_a_graph_that_is_kept_goes_back_twice():
    leaf, currents = made(2 * torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(0)))
    out, _ = run_train(LIF(), currents, {}, kernels="compiled", options=TrainOptions(spent=True))
    (first,) = torch.autograd.grad(out.sum(), leaf, retain_graph=True)
    (second,) = torch.autograd.grad(out.sum(), leaf)
    assert torch.equal(first, second) and first.any()


@pytest.mark.parametrize("local", [False, True])
def test_who_stored_them_is_told(local):
    leaf, currents = made(2 * torch.rand(1 if local else 5, 4, 6))
    other = currents * currents
    out, _ = run_train(
        LIF(), currents, {}, kernels="compiled", options=TrainOptions(spent=True, local=local)
    )
    if not local:
        torch.autograd.grad(out.sum(), leaf, retain_graph=False)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(other.sum(), currents)


def test_a_steps_output_takes_their_place():
    xs = 2 * torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = run_train(LIF(), xs, {}, kernels="reference")[0]
    state = kept = None
    for t, x in enumerate(xs.split(1)):
        leaf, current = made(x)
        _, other = made(x)
        out, state = run_train(
            LIF(),
            current,
            {},
            state,
            kernels="compiled",
            options=TrainOptions(local=True, spent=True),
        )
        whole, kept = run_train(
            LIF(), other, {}, kept, kernels="compiled", options=TrainOptions(local=True)
        )
        assert out.data_ptr() == current.data_ptr() and torch.equal(out[0], expected[t])
        assert whole.data_ptr() != other.data_ptr() and torch.equal(other, x)
        grad = torch.autograd.grad(out.sum(), leaf)[0]
        assert torch.equal(grad, torch.autograd.grad(whole.sum(), other)[0])
