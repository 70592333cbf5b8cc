"""Random modules: net and loop by hand agree in values, gradients and statistics."""

import copy
import random

import netkit as kit
import pytest
import torch
from torch import nn
from torchkit import SHAPE, XS, Residual, neuron, over_time

from spikeloom.nets.module.net import SpikingNet


def random_module(draw: random.Random) -> nn.Sequential:
    """Return some of the layers that a net knows, for inputs of SHAPE."""
    channels, side, parts = SHAPE[0], SHAPE[1], []
    for _ in range(draw.randint(1, 4)):
        kind = draw.choice(["conv", "conv", "pool", "residual", "up", "unit", "norm"])
        if kind == "conv":
            before, channels = channels, draw.choice([2, 4])
            parts.append(nn.Conv2d(before, channels, 3, padding=1, bias=draw.random() < 0.5))
            if draw.random() < 0.5:
                parts.append(random_norm(draw, channels))
            parts.append(random_unit(draw))
        elif kind == "pool" and side >= 4:
            parts.append(draw.choice([nn.AvgPool2d(2), nn.MaxPool2d(2)]))
            side //= 2
        elif kind == "up" and side <= 4:
            parts.append(nn.Upsample(scale_factor=2))
            side *= 2
        elif kind == "residual":
            parts.append(random_residual(draw, channels))
        elif kind == "norm":
            parts.append(random_norm(draw, channels))
        else:
            parts.append(draw.choice([random_unit(draw), nn.Identity(), nn.Sequential()]))
    parts += draw.choice([[], [nn.AdaptiveAvgPool2d(1)]])
    side = 1 if isinstance(parts[-1], nn.AdaptiveAvgPool2d) else side
    parts += [nn.Flatten(), nn.Linear(channels * side**2, 5), neuron()]
    return nn.Sequential(*parts)


def random_norm(draw, channels):
    return nn.BatchNorm2d(
        channels,
        eps=draw.choice([1e-5, 1e-2]),
        momentum=draw.choice([0.1, 0.3, None]),
        affine=draw.random() < 0.7,
    )


def random_unit(draw):
    return draw.choice([neuron(), neuron(learn=("alpha",)), neuron(beta=0.3), nn.ReLU()])


def random_residual(draw, channels):
    main = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), random_norm(draw, channels))
    if draw.random() < 0.5:
        main = nn.Sequential(nn.Conv2d(channels, channels, 1), random_unit(draw), *main)
    if draw.random() < 0.3:
        main.append(random_unit(draw))
    side = draw.choice([None, None, nn.Conv2d(channels, channels, 1, bias=False)])
    after = draw.choice([None, random_unit(draw), nn.Sequential(nn.BatchNorm2d(channels))])
    return Residual(main, side, after, product=draw.random() < 0.2)


@pytest.mark.parametrize("seed", range(24))
def test_values_gradients_and_statistics_are_the_modules_own(seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    module = random_module(draw).double()
    norm = draw.choice(["batch_step", "batch_step", "batch_all"])
    twin = copy.deepcopy(module)
    net = SpikingNet.from_torch(module, SHAPE, norm=norm)
    in_time = norm == "batch_step" and draw.random() < 0.5
    out = (net.run_by_time if in_time else net.run_by_layer)(XS)
    expected = over_time(twin, XS, norm).flatten(2)
    torch.testing.assert_close(out, expected)
    weights = torch.rand(out.shape, dtype=torch.float64, generator=kit.generator(1))
    for value in (out, expected):
        (value * weights).sum().backward()
    names = [name for name, _ in module.named_parameters()]
    for name in names:
        ours, theirs = module.get_parameter(name).grad, twin.get_parameter(name).grad
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10, msg=name)
    for ours, theirs in zip(module.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():  # norms go into weights here
        expected = over_time(twin.eval(), XS, norm).flatten(2)
        torch.testing.assert_close(net.eval()(XS), expected)
