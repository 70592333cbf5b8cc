"""One train through the reference loop and through the compiled one, forward and backward."""

import importlib.util
from contextlib import contextmanager
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
import torch
from torch import Tensor

from spikeloom.kernels.runs import TrainOptions
from spikeloom.neurons import trains
from spikeloom.neurons.base import map_state
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import (
    Arctan,
    Exponential,
    FastSigmoid,
    Periodic,
    Rectangle,
    Sigmoid,
)

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="no compiler is installed"
)

FULL = LIF(
    alpha=0.7,
    order="next_step",
    reset="hard",
    v_reset=-0.25,
    fires=">",
    fire_fraction=0.75,
    refractory=2,
    beta=0.4,
    scale_current=True,
    scale_input=True,
    surrogate=Sigmoid(2.0),
    learn=("v_th", "alpha"),
)
"""Every option at once."""

UNITS = [
    LIF(),
    FULL,
    LIF(alpha=0.9, surrogate=Arctan(), learn=("v_th", "alpha")),
    LIF(
        alpha=0.3,
        reset="hard",
        v_reset=0.5,
        beta=0.5,
        detach_reset=True,
        surrogate=FastSigmoid(height=0.75),
    ),
    IF(order="next_step", v_th=0.75, refractory=1, surrogate=Exponential(2.0)),
    IF(reset="none", fires=">", surrogate=Rectangle(1.5, 0.75)),
    IF(v_th=0.75, max_spikes=None, v_min=-0.5, surrogate=Periodic(Exponential(2.0, 0.5))),
    LIF(
        alpha=0.9,
        order="next_step",
        fires=">",
        fire_fraction=0.5,
        v_th=0.5,
        max_spikes=3,
        v_min=-0.25,
        surrogate=Arctan(),
        learn=("alpha",),
    ),
    LIF(reset="hard", v_min=0.0, learn=("v_th",)),
    LIF(alpha=0.5, order="next_step", v_init=0.75, refractory=1, beta=0.25, learn=("v_th",)),
]
"""Each value of each option, each surrogate, in as few kernels as it takes."""
NAMES = [
    "plain",
    "full",
    "learned",
    "detached",
    "waiting",
    "boxed",
    "many",
    "few",
    "held",
    "raised",
]

ROUNDING = {torch.float32: 2e-6, torch.float64: 2e-15, torch.bfloat16: 2**-7}
"""Of a gradient, per step, in parts of the largest one of its tensor, or of the upstream gradient
(about 1) where all are smaller: paths through a state are summed in another order, exponentials are
another library's, and the tail of a slope is a small difference of numbers near 1, as far from the
truth in the reference as here. Bfloat16: its last place."""


@dataclass
class Result:
    """What came out of a train and of its backward pass."""

    out: Tensor
    finals: list[Tensor]
    current: Tensor | None
    thetas: dict[str, Tensor | None]
    states: list[Tensor | None]


@contextmanager
def no_fallback():
    """Fail where a compiled loop quietly gives way to the reference."""

    def refuse(*args, **kwargs):
        raise AssertionError("the compiled loop gave way to the reference")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trains, "_reference", refuse)
        yield


def weights(like: Tensor, seed: int) -> Tensor:
    """Return upstream gradients, some of them 0."""
    draw = torch.rand(like.shape, generator=torch.Generator().manual_seed(seed)) - 0.3
    return draw.clamp(min=0).to(like.dtype)


def run(unit, xs, *, kernels, theta=None, state=None, pool=1, seed=0, final=True) -> Result:
    """Run one loop; the loss weighs every output and every state left behind."""
    xs = xs.detach().requires_grad_()
    theta = {name: value.detach().requires_grad_() for name, value in (theta or {}).items()}
    state = map_state(state, lambda one: one.detach().requires_grad_())
    given = trains.state_leaves(state)
    out, left = trains.run_train(
        unit, xs, theta, state, kernels=kernels, options=TrainOptions(pool=pool, final=final)
    )
    finals = trains.state_leaves(left) if final else []
    loss = (out * weights(out, seed)).sum().double()
    for place, one in enumerate(finals):
        if one.requires_grad:
            loss = loss + (one * weights(one, seed + 1 + place)).sum()
    leaves = [xs, *theta.values(), *given]
    if loss.requires_grad:
        grads = list(torch.autograd.grad(loss, leaves, allow_unused=True))
    else:
        grads = [None] * len(leaves)
    split = 1 + len(theta)
    return Result(
        out.detach(),
        [one.detach() for one in finals],
        grads[0],
        dict(zip(theta, grads[1:split], strict=True)),
        grads[split:],
    )


def both(unit, xs, **options) -> tuple[Result, Result]:
    """Return what the reference gives, and what the compiled loop gives."""
    expected = run(unit, xs, kernels="reference", **options)
    with no_fallback():
        return expected, run(unit, xs, kernels="compiled", **options)


def same(unit, xs, **options) -> tuple[Result, Result]:
    """Compare the two: forward to the bit, backward up to the stated rounding."""
    expected, got = both(unit, xs, **options)
    assert got.out.dtype == expected.out.dtype and got.out.shape == expected.out.shape
    assert torch.equal(got.out, expected.out)
    for mine, theirs in zip(got.finals, expected.finals, strict=True):
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs)
    close_gradients(expected, got, len(xs))
    return expected, got


def close_gradients(expected: Result, got: Result, steps: int) -> None:
    """Compare gradients; one that is not there counts as zero."""
    rounding = ROUNDING[expected.out.dtype] * max(steps, 4)
    least = 2e-3 if expected.out.dtype == torch.bfloat16 else 1.0
    assert near(got.current, expected.current, rounding, least)
    for mine, theirs in zip(got.states, expected.states, strict=True):
        assert near(mine, theirs, rounding, least)
    assert got.thetas.keys() == expected.thetas.keys()
    paths = least if expected.current is None else max(least, expected.current.abs().sum().item())
    for name, theirs in expected.thetas.items():
        assert near(got.thetas[name], theirs, rounding, paths)


def near(mine, theirs, rounding: float, scale: float = 0.0) -> bool:
    """Whether two gradients agree up to a part of the largest value, or of `scale`."""
    if mine is None or theirs is None:
        there = theirs if mine is None else mine
        return there is None or not there.any()
    assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
    if not theirs.numel():
        return True
    mine, theirs = mine.double(), theirs.double()
    return bool((mine - theirs).abs().max() <= rounding * max(theirs.abs().max().item(), scale))


def theta_of(unit, dtype, *, shape=(), seed=0) -> dict[str, Tensor]:
    """Return values for what a unit trains, near where they start."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: (getattr(unit, name) + 0.2 * torch.rand(shape, generator=draw)).to(dtype)
        for name in unit.learn
    }


def state_of(unit, like: Tensor, seed: int = 0):
    """Return a state in the middle of a train: what the unit leaves after three steps."""
    state = unit.init(like)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(3):
            current = 2 * torch.rand(like.shape, generator=draw).to(like.dtype)
            _, state = unit.step(state, current, theta_of(unit, state.v.dtype))
    return map_state(state, torch.clone)


STEPS = st.sampled_from([1, 2, 3, 8, 13])
SHAPES = st.sampled_from(
    [(1,), (63,), (64,), (65,), (1000,), (1, 7), (3, 5), (4, 1), (2, 3, 4, 4), (1, 2, 3, 5)]
)
"""Of one step: below, at and above a cache line, batches of one, images."""
ORDERS = st.sampled_from(["rows", "channels_last", "turned", "sliced", "shared"])


@st.composite
def currents(draw, dtype=torch.float32, shapes=SHAPES, orders=ORDERS, steps=STEPS):
    """Draw a train, dense or not; half of them meet thresholds exactly."""
    size = (draw(steps), *draw(shapes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    if draw(st.booleans()):
        xs = torch.randint(-4, 9, size, generator=generator) / 4
    else:
        xs = 0.4 + 1.3 * torch.randn(size, generator=generator)
    return laid_out(xs.to(dtype), draw(orders))


def laid_out(xs: Tensor, order: str) -> Tensor:
    """Return the same train as it may lie in memory."""
    if order == "channels_last" and xs.dim() == 5:
        return xs.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    if order == "turned":
        return xs.transpose(0, -1).contiguous().transpose(0, -1)
    if order == "sliced":
        wide = torch.stack([xs, torch.full_like(xs, float("nan"))], -1)
        return wide[..., 0]
    if order == "shared":  # one sample seen B times
        return xs[:, :1].expand(xs.shape)
    return xs
