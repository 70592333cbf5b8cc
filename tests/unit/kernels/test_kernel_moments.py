"""Mean and variance per channel, in one pass."""

import importlib.util

import pytest
import torch

from spikeloom.kernels import moments as module
from spikeloom.kernels.moments import moments

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="no compiler is installed"
)

BOUNDS = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 2e-6}


def train(shape, dtype, mean=0.0, channels_last=True):
    draw = torch.Generator().manual_seed(1)
    xs = torch.randn(shape, generator=draw, dtype=torch.float64) * 2 + mean
    xs = xs.to(dtype)
    return xs.movedim(2, -1).contiguous().movedim(-1, 2) if channels_last else xs


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize(
    "shape", [(3, 4, 5, 6, 7), (1, 9, 64, 8, 8), (4, 33, 100), (2, 1, 3, 1, 1)]
)
def test_they_are_those_of_the_values(shape, mean, dtype):
    xs = train(shape, dtype, mean)
    axes = [axis for axis in range(xs.dim()) if axis != 2]
    var, expected = torch.var_mean(xs.double(), axes, correction=0)
    got, spread = moments(xs)
    assert got.shape == spread.shape == (shape[2],)
    assert (got - expected).abs().max() <= BOUNDS[dtype] * (1 + abs(mean))
    assert (spread - var).abs().max() <= BOUNDS[dtype] * var.max() * 4


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_pieces(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        xs = train((8, 16, 48, 16, 16), torch.float32)
        got, spread = moments(xs)
    finally:
        torch.set_num_threads(before)
    var, expected = torch.var_mean(xs.double(), [0, 1, 3, 4], correction=0)
    assert (got - expected).abs().max() < 1e-5 and (spread - var).abs().max() < 1e-4


def test_a_channel_that_does_not_vary():
    xs = torch.full((3, 4, 5, 2, 2), 7.3).to(memory_format=torch.preserve_format)
    xs = xs.movedim(2, -1).contiguous().movedim(-1, 2)
    mean, var = moments(xs)
    assert torch.equal(mean, torch.full((5,), 7.3)) and not var.any()


def test_what_no_kernel_sums(monkeypatch):
    assert moments(train((2, 3, 64, 16, 16), torch.float32, channels_last=False)) is None
    assert moments(train((2, 3, 4, 2, 2), torch.float16)) is None
    monkeypatch.setattr(module, "numba", lambda: None)
    assert moments(train((2, 3, 4, 2, 2), torch.float32)) is None
