"""Shared by the tests of `from_torch`: inputs, a residual block, and a loop over time by hand."""

import netkit as kit
import torch
from torch import nn

from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron

SHAPE = (3, 8, 8)
XS = torch.rand((3, 2, *SHAPE), dtype=torch.float64, generator=kit.generator(5)) * 2


def neuron(**fields):
    return Neuron(LIF(v_th=0.3, **fields))


class Residual(nn.Module):
    """A skip around `main`, through `side`; `after` follows the sum."""

    def __init__(self, main, side=None, after=None, product=False):
        super().__init__()
        self.main, self.side, self.after, self.product = main, side, after, product

    def forward(self, x):
        y = self.main(x)
        other = x if self.side is None else self.side(x)
        y = y * other if self.product else y + other
        return y if self.after is None else self.after(y)


def over_time(module, xs, norm="batch_step"):
    """Run a user's own layers by hand: neurons over the train, the rest at each step."""
    if isinstance(module, Residual):
        y = over_time(module.main, xs, norm)
        other = xs if module.side is None else over_time(module.side, xs, norm)
        y = y * other if module.product else y + other
        return y if module.after is None else over_time(module.after, y, norm)
    if isinstance(module, nn.Sequential):
        for part in module:
            xs = over_time(part, xs, norm)
        return xs
    if isinstance(module, Neuron):
        return module(xs)
    if norm == "batch_all" and isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return module(xs.flatten(0, 1)).unflatten(0, xs.shape[:2])
    return torch.stack([module(x) for x in xs])
