"""Sums over time: one equation in every type, in float32 where features have less."""

import pytest
import torch

from spikeloom.heads.base import Head
from spikeloom.neurons.reduction import sum_over_time

WEIGHTS = {
    "mean": [0.2] * 5,
    "count": [1.0] * 5,
    "weighted": [0.5**age for age in range(4, -1, -1)],
}


def train(dtype, steps=5):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(steps, 3, 4, generator=generator, dtype=torch.float64) < 0.4).to(dtype)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_value_and_gradient(name, dtype):
    weights = WEIGHTS[name]
    hs, up = train(dtype).requires_grad_(), torch.randn(3, 4, dtype=torch.float64)
    total = sum_over_time(hs, weights)
    wide = torch.tensor(weights, dtype=torch.float64)
    expected = torch.einsum("t,tbd->bd", wide, hs.detach().double())
    least = torch.promote_types(dtype, torch.float32)
    assert total.dtype == least
    assert torch.allclose(total.double(), expected, rtol=4 * torch.finfo(least).eps, atol=0)
    (grad,) = torch.autograd.grad((total * up.to(total.dtype)).sum(), hs)
    assert grad.dtype == dtype and grad.shape == hs.shape
    spread = (wide[:, None, None] * up).double()
    assert torch.allclose(grad.double(), spread, rtol=4 * torch.finfo(dtype).eps)


def test_low_precision_does_not_lose_counts():
    hs = torch.ones(1000, 2, 3, dtype=torch.bfloat16)
    assert torch.equal(sum_over_time(hs, [1.0] * 1000), torch.full((2, 3), 1000.0))


@pytest.mark.parametrize("reduce", ["mean", "count", "membrane", "weighted", "last"])
def test_a_single_step_is_itself(reduce):
    hs = train(torch.float32, steps=1)
    assert torch.equal(Head(4, 3, reduce=reduce).reduced(hs), hs[0])
