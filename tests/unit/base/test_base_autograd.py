"""Backward passes stay out of autocast."""

import torch

from spikeloom.base.autograd import backpropagate


def gradients(inside):
    layer = torch.nn.Linear(64, 32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(32, 64, generator=generator))
        layer.bias.zero_()
    x = torch.rand(128, 64, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        value = layer(x).float().square().mean()
        if inside:
            backpropagate([value])
            assert torch.is_autocast_enabled("cpu")
    if not inside:
        value.backward()
    assert layer.bias.grad is not None and layer.weight.grad is not None
    return layer.weight.grad, layer.bias.grad


def test_inside_autocast_is_as_outside():
    for one, other in zip(gradients(inside=True), gradients(inside=False), strict=True):
        assert torch.equal(one, other)


def test_several_values_with_their_gradients():
    x = torch.ones(3, requires_grad=True)
    backpropagate([2 * x, 3 * x], [torch.ones(3), torch.arange(3.0)])
    assert x.grad is not None and x.grad.tolist() == [2.0, 5.0, 8.0]
