"""A unit behind a norm: compiled, it is the reference; statistics carry gradient as in torch."""

import pytest
import torch
import torch.nn.functional as F
import trainpairs as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.kernels.runs import TrainOptions
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.normed import CENTRE, SCALE, SHIFT, Normed, through_statistics
from spikeloom.neurons.trains import run_train

WITHIN = settings(max_examples=12)
SEEDS = st.integers(0, 999)
PLAIN, LEARNED, FILTERED = LIF(alpha=0.75), LIF(learn=("v_th",)), IF(beta=0.5)
STATISTICS = [
    *((LEARNED, torch.float64, constant, pool) for constant in (False, True) for pool in (1, 2)),
    (LEARNED, torch.float32, False, 2),
    (PLAIN, torch.float64, False, 2),
    (PLAIN, torch.float32, True, 1),
    (FILTERED, torch.float64, True, 2),
    (FILTERED, torch.float32, False, 1),
]
"""Unit, type, constant currents, pool: each line takes three or four kernels to compile.

All forms of a train for the unit with a quantity of its own, and every pair of two values for the
others. Layouts and spent currents change no kernel, or one, and are tried with every line.
"""
IMAGES = st.sampled_from([(2, 3, 4, 4), (5, 3, 1, 1), (3, 64, 2, 2), (2, 1, 4, 2)])


def norm_of(channels, dtype=torch.float32, sides=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    start = torch.tensor([0.4, 1.0, 0.1], dtype=torch.float64)
    values = start + 0.3 * torch.rand(channels, 3, generator=draw, dtype=torch.float64)
    parts = values.to(dtype).view(channels, *[1] * sides, 3).unbind(-1)
    return dict(zip((CENTRE, SCALE, SHIFT), (one.clone() for one in parts), strict=True))


def values_of(unit, xs, seed=0):
    dtype = torch.float64 if xs.dtype == torch.float64 else torch.float32
    return kit.theta_of(unit, dtype, seed=seed) | norm_of(xs.shape[2], dtype, xs.dim() - 3, seed)


@kit.needs_compiler
class TestCompiled:
    @pytest.mark.parametrize("unit", kit.UNITS[:3], ids=kit.NAMES[:3])
    @WITHIN
    @given(xs=kit.currents(shapes=IMAGES), seed=SEEDS)
    def test_it_is_the_reference(self, unit, xs, seed):
        _, got = kit.same(Normed(unit), xs, theta=values_of(unit, xs, seed), seed=seed)
        assert got.thetas[CENTRE] is None or not got.thetas[CENTRE].any()
        assert got.thetas[SCALE].any() or not got.out.any()

    @WITHIN
    @given(xs=kit.currents(torch.bfloat16, shapes=IMAGES), seed=SEEDS)
    def test_bfloat16_currents_are_normalised_in_float32(self, xs, seed):
        unit = Normed(LIF(alpha=0.75))
        with kit.no_fallback():
            got = kit.run(unit, xs, theta=values_of(unit.unit, xs, seed), kernels="compiled")
            wide = xs.float()
            expected = kit.run(unit, wide, theta=values_of(unit.unit, xs, seed), kernels="compiled")
        assert got.out.dtype == torch.bfloat16 and torch.equal(got.out.float(), expected.out)

    @pytest.mark.parametrize(("unit", "dtype", "constant", "pool"), STATISTICS)
    @pytest.mark.parametrize("order", ["rows", "channels_last"])
    @pytest.mark.parametrize("spent", [False, True])
    def test_gradients_through_statistics(self, unit, dtype, order, constant, pool, spent):
        draw = torch.Generator().manual_seed(3)
        xs = torch.randn(1 if constant else 4, 3, 5, 4, 4, generator=draw, dtype=torch.float64) + 2
        xs = kit.laid_out(xs.to(dtype), order)
        found = []
        for kernels in ("reference", "compiled"):
            leaf = xs.clone().requires_grad_()
            train = (leaf * 1).expand(4, *xs.shape[1:])
            theta, rate = statistics(leaf, train[:1] if constant else train, seed=1)
            theta |= kit.theta_of(unit, dtype)
            leaves = {name: one.requires_grad_() for name, one in theta.items() if name != CENTRE}
            options = TrainOptions(pool, final=False, spent=spent, rate=rate)
            out, _ = run_train(Normed(unit), train, theta, kernels=kernels, options=options)
            grads = torch.autograd.grad((out * kit.weights(out, 5)).sum(), [leaf, *leaves.values()])
            found.append([out, *grads])
        for mine, theirs in zip(found[1], found[0], strict=True):
            assert kit.near(mine, theirs, 20 * kit.ROUNDING[dtype])
        assert found[0][1].any()


@kit.needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("channels", [16, 63])
def test_sums_of_many_pieces(threads, channels):
    """Each piece of work sums by itself, on any number of threads."""
    before = torch.get_num_threads()
    draw = torch.Generator().manual_seed(0)
    xs = torch.randn(8, 16, channels, 16, 16, generator=draw, dtype=torch.float64)
    xs, unit = kit.laid_out(xs, "channels_last"), LIF(alpha=0.75, learn=("v_th",))
    torch.set_num_threads(threads)
    try:
        _, got = kit.same(Normed(unit), xs, theta=values_of(unit, xs))
        for pool in (1, 2):
            kit.same(unit, xs, theta=kit.theta_of(unit, torch.float64), pool=pool)
    finally:
        torch.set_num_threads(before)
    assert got.thetas[SCALE].abs().min() > 0


def statistics(leaf, train, seed):
    """Return a norm by statistics of a train, with its rate."""
    axes = [axis for axis in range(train.dim()) if axis != 2]
    var, mean = torch.var_mean(train.detach(), axes, correction=0, keepdim=True)
    rate = torch.rsqrt(var[0, 0] + 1e-5)
    theta = norm_of(train.shape[2], leaf.dtype, train.dim() - 3, seed)
    return theta | {CENTRE: mean[0, 0], SCALE: theta[SCALE] * rate}, rate


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2, 2)])
def test_through_statistics_is_batch_norm(shape):
    """Value and gradient of torch's, in float64."""
    draw = torch.Generator().manual_seed(0)
    xs = (torch.randn(shape, generator=draw, dtype=torch.float64) * 2 + 7).requires_grad_()
    up = torch.randn(shape, generator=draw, dtype=torch.float64)
    theta, rate = statistics(xs, xs, seed=2)
    weight, bias = theta[SCALE] / rate, theta[SHIFT]
    wanted = [xs, weight.requires_grad_(), bias.requires_grad_()]
    theirs = F.batch_norm(
        xs.flatten(0, 1), None, None, weight.flatten(), bias.flatten(), training=True, eps=1e-5
    ).view(shape)
    expected = torch.autograd.grad((theirs * up).sum(), wanted)
    joined = through_statistics(xs, {**theta, SCALE: weight * rate, SHIFT: bias}, rate)
    mine = (xs - joined[CENTRE]) * joined[SCALE] + joined[SHIFT]
    got = torch.autograd.grad((mine * up).sum(), wanted)
    assert torch.allclose(mine, theirs, rtol=1e-13, atol=1e-13)
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_it_is_the_unit_on_normalised_currents():
    xs = torch.randn(4, 2, 3, 2, 2, dtype=torch.float64)
    theta = norm_of(3, torch.float64)
    unit = LIF(alpha=0.75)
    plain = (xs - theta[CENTRE]) * theta[SCALE] + theta[SHIFT]
    out, state = run_train(Normed(unit), xs, theta, kernels="reference")
    expected, left = run_train(unit, plain, {}, kernels="reference")
    assert torch.equal(out, expected) and torch.equal(state.v, left.v)
    assert torch.equal(Normed(unit).rate(xs[0], theta), unit.rate(plain[0], {}))
    wrapped = Normed(LIF(learn=("v_th",)))
    assert wrapped.learn == ("v_th", CENTRE, SCALE, SHIFT) and wrapped.spiking and wrapped.stateful
