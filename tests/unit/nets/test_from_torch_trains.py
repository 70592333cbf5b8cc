"""Modules whose forward takes whole trains and folds time into the batch by itself."""

import pytest
import torch
import torch.nn.functional as F
from netkit import generator, rng_for
from torch import nn

from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.module.net import SpikingNet
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron

SHAPE = (2, 6, 6)
XS = torch.rand((4, 3, *SHAPE), dtype=torch.float64, generator=generator(3)) * 2


class Trains(nn.Module):
    """Runs as it is: any function of the parts below."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.back, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(36, 5)
        self.first, self.second = Neuron(LIF(v_th=0.3)), Neuron(LIF(v_th=0.3))
        self.drop = nn.Dropout(0.5)

    def forward(self, xs):
        return self.function(self, xs)


def chain(m, xs):
    steps, batch = xs.shape[:2]
    x = m.first(m.norm(m.conv(xs.flatten(0, 1))).unflatten(0, (steps, batch)))
    x = F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, xs.shape[:2])
    return m.second(m.fc(x.flatten(2)))


def skip(m, xs):
    x = m.first(m.norm(m.conv(torch.flatten(xs, 0, 1))).unflatten(0, (xs.size(0), -1)))
    y = m.back(x.flatten(0, 1)).unflatten(0, (-1, xs.size(1)))
    x = m.second(y + x)
    x = F.max_pool2d(x.flatten(end_dim=1), 2)
    return m.fc(x.flatten(1)).unflatten(0, (xs.shape[0], xs.shape[1]))


def view(m, xs):
    steps, batch = xs.size(0), xs.size(1)
    x = m.conv(xs.flatten(0, 1)).unflatten(0, (steps, batch))
    x = F.avg_pool2d(m.first(x).flatten(0, 1), 2).unflatten(0, (steps, batch))
    return m.fc(x.view(steps, batch, -1))


@pytest.mark.parametrize("function", [chain, skip, view])
def test_values_are_the_modules_own_as_it_runs(function):
    torch.manual_seed(0)
    module = Trains(function).double()
    net = SpikingNet.from_torch(module, SHAPE, norm="batch_all")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expected = module(XS)
    statistics = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(before)
    out = net(XS)
    if net.last_linear is not None:
        out = net.last_linear(out)
    assert out.unique().numel() > 1
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(module.state_dict(), statistics)
    torch.testing.assert_close(net.eval()(XS), net.run_by_time(XS))


def test_a_dropout_draws_at_every_step():
    module = Trains(lambda m, xs: m.fc(m.drop(m.first(xs)).flatten(2)))
    module.fc = nn.Linear(72, 5)
    net = SpikingNet.from_torch(module, SHAPE)
    out = net(torch.full((3, 2, *SHAPE), 2.0), rng=rng_for(2))
    assert not torch.equal(out[0], out[1])


REFUSED = {
    "norm per step": (chain, "batch_step", r"norm \(BatchNorm2d\): expected statistics of each"),
    "folded neurons": (
        lambda m, xs: m.first(m.conv(xs.flatten(0, 1))),
        "batch_all",
        r"first \(Neuron\): expected a train \[T, B, ...\], got one folded",
    ),
    "convolution of a train": (
        lambda m, xs: m.conv(m.first(xs)).flatten(2),
        "batch_all",
        r"conv \(Conv2d\): expected a value folded to \[T B, ...\]",
    ),
    "exchanged axes": (
        lambda m, xs: m.first(m.conv(xs.flatten(0, 1)).unflatten(0, (xs.size(1), xs.size(0)))),
        "batch_all",
        "the sizes of time and batch",
    ),
    "fixed sizes": (
        lambda m, xs: m.first(m.conv(xs.flatten(0, 1)).unflatten(0, (2, 3))),
        "batch_all",
        "the sizes of time and batch",
    ),
    "sum of both": (
        lambda m, xs: m.first(xs) + m.back(xs.flatten(0, 1)),
        "batch_all",
        "two trains or two folded values",
    ),
    "mean over time": (lambda m, xs: m.first(xs.flatten(2)).mean(0), "batch_all", "over height"),
}


@pytest.mark.parametrize(("function", "norm", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_by_name(function, norm, message):
    with pytest.raises(UnsupportedNet, match=message):
        SpikingNet.from_torch(Trains(function), SHAPE, norm=norm)
