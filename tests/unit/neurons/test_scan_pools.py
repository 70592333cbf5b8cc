"""Pools behind a unit, and trains large enough for several threads."""

import pytest
import torch
import torch.nn.functional as F
import trainpairs as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.kernels.runs import TrainOptions
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import WORTH, run_train

pytestmark = kit.needs_compiler
WITHIN = settings(max_examples=12)
SEEDS = st.integers(0, 999)
EVEN = st.sampled_from([(2, 3, 4, 4), (1, 1, 2, 6), (3, 2, 8, 2), (2, 5, 2, 2), (4, 6, 10)])
THIRDS = st.sampled_from([(2, 3, 3, 6), (1, 4, 6, 3), (2, 1, 9, 3)])
ORDERS = st.sampled_from(["rows", "channels_last", "turned", "sliced"])


def pooled_apart(unit, xs):
    """Return the reference with the pool behind the train of spikes, as an own operation."""
    leaf = xs.detach().requires_grad_()
    out, _ = run_train(unit, leaf, {}, kernels="reference")
    if out.dim() == 4:
        return F.avg_pool2d(out, 2), leaf
    return F.avg_pool2d(out.flatten(0, 1), 2).unflatten(0, out.shape[:2]), leaf


@pytest.mark.parametrize(
    ("unit", "pool", "dtype", "shapes"),
    [
        (LIF(), 2, torch.float32, EVEN),
        (LIF(), 3, torch.float32, THIRDS),
        (LIF(), 2, torch.bfloat16, EVEN),
        (kit.FULL, 2, torch.float64, EVEN),
    ],
    ids=["two", "three", "bfloat16", "full-float64"],
)
@WITHIN
@given(data=st.data(), seed=SEEDS)
def test_a_pool_behind_the_unit(unit, pool, dtype, shapes, data, seed):
    xs = data.draw(kit.currents(dtype, shapes, ORDERS))
    kit.same(unit, xs, theta=kit.theta_of(unit, dtype, seed=seed), pool=pool, seed=seed)


@WITHIN
@given(data=st.data(), seed=SEEDS)
def test_it_is_the_pool_of_the_whole_train(data, seed):
    xs = data.draw(kit.currents(torch.float32, EVEN, ORDERS))
    with kit.no_fallback():
        got = kit.run(LIF(), xs, pool=2, kernels="compiled", seed=seed, final=False)
    means, leaf = pooled_apart(LIF(), xs)
    assert torch.equal(got.out, means)
    (grad,) = torch.autograd.grad((means * kit.weights(means, seed)).sum(), leaf)
    assert kit.near(got.current, grad, 1e-5)


@pytest.mark.parametrize("order", ["rows", "channels_last"])
def test_channels_stay_where_they_were(order):
    xs = kit.laid_out(torch.rand(3, 2, 4, 6, 6), order)
    with kit.no_fallback():
        out, state = run_train(LIF(), xs, {}, kernels="compiled", options=TrainOptions(pool=2))
        whole, _ = run_train(LIF(), xs, {}, kernels="compiled")
    last = order == "channels_last"
    assert out[0].is_contiguous(memory_format=torch.channels_last) == last
    assert whole.stride() == xs.stride() and state.v.stride() == xs[0].stride()


@pytest.mark.parametrize("shape", [(3, 2, 2, 5, 4), (3, 2, 2, 4, 5), (2, 3, 7, 4)])
def test_borders_that_a_pool_leaves_out_are_the_references(shape):
    xs = torch.rand(shape) * 2
    expected = kit.run(LIF(), xs, pool=2, kernels="reference")
    got = kit.run(LIF(), xs, pool=2, kernels="compiled")
    assert torch.equal(got.out, expected.out) and torch.equal(got.current, expected.current)


@WITHIN
@given(x=kit.currents(shapes=EVEN, steps=st.just(1)), steps=st.integers(2, 6), seed=SEEDS)
def test_a_constant_input_behind_a_pool(x, steps, seed):
    xs = x.expand(steps, *x.shape[1:])
    expected, got = kit.both(LIF(), xs, pool=2, seed=seed)
    assert torch.equal(got.out, expected.out)
    assert kit.near(got.current.sum(0), expected.current.sum(0), 1e-5)


class TestSeveralThreads:
    @pytest.fixture(params=[1, 2, 3], autouse=True)
    def threads(self, request):
        before = torch.get_num_threads()
        torch.set_num_threads(request.param)
        yield request.param
        torch.set_num_threads(before)

    @pytest.mark.parametrize("order", ["rows", "channels_last"])
    @pytest.mark.parametrize("pool", [1, 2])
    def test_images(self, order, pool):
        draw = torch.Generator().manual_seed(1)
        xs = kit.laid_out(torch.randn(8, 3, 5, 30, 34, generator=draw) * 2, order)
        kit.same(LIF(), xs, pool=pool)

    @pytest.mark.parametrize("count", [70001, 65536])
    def test_rows_of_any_length(self, count):
        """Pieces end where the train does; sums for theta come from all of them."""
        unit = kit.UNITS[2]
        xs = 2 * torch.rand(2, count, generator=torch.Generator().manual_seed(2))
        kit.same(unit, xs, theta=kit.theta_of(unit, xs.dtype))

    def test_a_long_train_of_few_neurons(self):
        xs = torch.randn(500, 2, 300, generator=torch.Generator().manual_seed(4))
        kit.same(LIF(), xs)


class TestChoice:
    def test_small_trains_are_not_worth_a_compilation(self, monkeypatch):
        calls = []
        monkeypatch.setattr(kit.trains, "compiled", lambda *args: calls.append(args))
        run_train(LIF(), torch.zeros(1, WORTH - 1), {})
        assert not calls
        run_train(LIF(), torch.zeros(1, WORTH), {})
        run_train(LIF(), torch.zeros(1, 1), {}, kernels="compiled")
        assert len(calls) == 2
        run_train(LIF(), torch.zeros(1, WORTH), {}, kernels="reference")
        assert len(calls) == 2

    def test_both_choices_are_the_same_train(self):
        xs = torch.rand(4, 64, 65) * 2
        with kit.no_fallback():
            out, _ = run_train(LIF(), xs, {})
        assert torch.equal(out, run_train(LIF(), xs, {}, kernels="reference")[0])
