"""Sums over time: one equation in every type, in float32 where features have less."""

import pytest
import torch

from spikeloom.heads.base import Head
from spikeloom.neurons.reduction import RunningMean, sum_over_time

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


@pytest.mark.parametrize(
    "shape", [(4, 2, 3, 5, 4), (4, 2, 3, 1, 1), (4, 2, 3, 1, 5), (4, 2, 1, 5, 5)]
)
@pytest.mark.parametrize("name", ["rows", "channels", "strided", "constant"])
def test_any_layout_of_images(shape, name):
    """The result lies as a step does: what reads both does not jump."""
    hs = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if name == "channels":
        flat = hs.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        hs = flat.unflatten(0, shape[:2])
    elif name == "strided":
        hs = hs.repeat_interleave(2, 0)[::2]
    elif name == "constant":
        hs = hs[:1].expand(shape)
    for weights in ([0.25] * 4, [1.0] * 4, [0.1, 0.2, 0.3, 0.4]):
        wide = torch.tensor(weights, dtype=torch.float64)
        total = sum_over_time(hs, weights)
        assert torch.allclose(total, torch.einsum("t,tbchw->bchw", wide, hs), rtol=1e-12)
        if name == "channels":
            assert total.is_contiguous(memory_format=torch.channels_last)


def test_running_mean_is_the_discounted_mean():
    xs = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    for decay in (1.0, 0.5):
        mean = RunningMean(decay)
        for t, x in enumerate(xs, 1):
            mean.add(x)
            share = decay ** torch.arange(t - 1, -1, -1.0)
            expected = torch.einsum("t,tbd->bd", share / share.sum(), xs[:t].float())
            assert mean.value.dtype == torch.float32
            torch.testing.assert_close(mean.value, expected)
