"""Modules with a forward of their own: translated to the letter, or refused by name."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchkit import SHAPE, XS, Residual, neuron, over_time

from spikeloom.base.errors import ConfigError, ShapeError, UnsupportedNet
from spikeloom.nets.module.net import SpikingNet


class Functional(nn.Module):
    """What people write: functions, reshapes, dropouts, a loop, an argument with a default."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.neurons = nn.ModuleList([neuron(), neuron()])
        self.fc = nn.Linear(16, 5)

    def forward(self, x, mask=None):
        for conv, unit in zip(self.convs, self.neurons, strict=True):
            x = unit(conv(x))
            x = F.avg_pool2d(x, 2) if mask is None else x
        x = F.max_pool2d(F.interpolate(F.relu(x, inplace=True), scale_factor=2), kernel_size=2)
        x = F.dropout(x, 0.25, self.training)
        x = F.dropout(x, 0.5, training=False)
        return self.fc(x.contiguous().view(x.size(0), -1))


def test_functions_are_layers():
    module = Functional().double()
    net = SpikingNet.from_torch(module, SHAPE).eval()
    layers = [block.layers[0] for block in net.spec.blocks]
    kinds = ["conv", "avg_pool", "conv", "avg_pool", "upsample", "max_pool"]
    assert [layer.kind for layer in layers] == kinds
    assert [layer.dropout for layer in layers] == [0, 0, 0, 0, 0, 0.25]
    xs = XS
    for conv, unit in zip(module.convs, module.neurons, strict=True):
        xs = unit(torch.stack([conv(x) for x in xs]))
        xs = F.avg_pool2d(xs.flatten(0, 1), 2).unflatten(0, xs.shape[:2])
    torch.testing.assert_close(net(XS), xs.relu().flatten(2))
    assert net.last_linear is module.fc


FLATTENS = {
    "view": lambda x: x.view(-1, 4 * 64),
    "sizes": lambda x: x.reshape((x.shape[0], -1)),
    "unpacked": lambda x: torch.flatten(x, start_dim=1),
}


class Ends(nn.Module):
    """A convolution with neurons, then any function, then a linear layer."""

    def __init__(self, function, width=256):
        super().__init__()
        self.conv, self.unit = nn.Conv2d(3, 4, 3, padding=1), neuron()
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(width, 5)
        self.function = function

    def forward(self, x):
        return self.fc(self.function(self.unit(self.conv(x))))


@pytest.mark.parametrize("name", FLATTENS)
def test_ways_to_flatten(name):
    net = SpikingNet.from_torch(Ends(FLATTENS[name]), SHAPE)
    assert net.features == 256 and net.spec.classes == 5


def test_a_mean_over_maps_is_a_pool():
    net = SpikingNet.from_torch(Ends(lambda x: x.mean(dim=(-2, -1)), 4), SHAPE)
    assert net.spec.blocks[1].layers[0].kind == "global_pool" and net.features == 4


JOINS = {
    "and": lambda m, x: m.unit(m.conv(x)) * x,
    "iand": lambda m, x: x * (1 - m.unit(m.conv(x))),
    "add": lambda m, x: sum([x, m.unit(m.conv(x))]),
    "before_unit": lambda m, x: m.unit(torch.add(m.other(m.unit(m.conv(x))), x)),
}


@pytest.mark.parametrize("join", JOINS)
def test_joins(join):
    module = Says(JOINS[join]).double()
    net = SpikingNet.from_torch(module, SHAPE)
    assert net.spec.blocks[0].join == join
    spikes = over_time(nn.Sequential(module.conv, module.unit), XS)
    assert spikes.unique().numel() == 2
    expected = {
        "and": lambda: spikes * XS,
        "iand": lambda: (1 - spikes) * XS,
        "add": lambda: spikes + XS,
        "before_unit": lambda: module.unit(over_time(module.other, spikes) + XS),
    }[join]()
    torch.testing.assert_close(net(XS), expected.flatten(2))


class Repeats(nn.Module):
    """One layer used three times."""

    def __init__(self):
        super().__init__()
        self.conv, self.unit = nn.Conv2d(3, 3, 3, padding=1), neuron()

    def forward(self, x):
        for _ in range(3):
            x = self.unit(self.conv(x))
        return x


def test_weights_used_three_times():
    module = Repeats().double()
    net = SpikingNet.from_torch(module, SHAPE)
    assert len([*net.parameters()]) == 2
    parts = nn.Sequential(*[module.conv, module.unit] * 3)
    torch.testing.assert_close(net(XS), over_time(parts, XS).flatten(2))


def test_modes_statistics_streams_and_attributes_are_left_alone():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4).eval(),
        neuron(),
        Residual(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), after=neuron()),
    )
    modes = [part.training for part in module.modules()]
    buffers = [one.clone() for one in module.buffers()]
    attributes = [dict(vars(part)) for part in module.modules()]
    state = torch.get_rng_state()
    SpikingNet.from_torch(module, SHAPE)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in module.modules()] == modes
    assert [dict(vars(part)) for part in module.modules()] == attributes
    assert all(torch.equal(a, b) for a, b in zip(module.buffers(), buffers, strict=True))


class Says(nn.Module):
    """A module whose forward is a function of itself and its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.unit, self.norm = neuron(), nn.BatchNorm2d(3)
        self.noise, self.calls = nn.Parameter(torch.zeros(1)), 0

    def forward(self, x):
        return self.function(self, x)


def overlapping(m, x):
    y = m.conv(x) + x
    return m.other(y) + x


def nested(m, x):
    y = m.conv(x)
    return y + m.unit(m.other(y) + y) + x


def counting(m, x):
    m.calls += 1
    return m.conv(x)


def without_gradient(m, x):
    with torch.no_grad():
        y = m.conv(x)
    return m.unit(y)


def in_low_precision(m, x):
    with torch.autocast("cpu", torch.bfloat16):
        return m.conv(x)


class Rectified(torch.autograd.Function):
    """A function whose way back is its own."""

    @staticmethod
    def forward(ctx, x):
        return torch.relu(x)

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class Forgetful:
    """A function that answers in another way from the third call on, and keeps count outside."""

    calls = 0

    def __call__(self, m, x):
        self.calls += 1
        return m.conv(x) if self.calls < 3 else m.other(x)


REFUSED = {
    "control flow": (lambda m, x: m.conv(x) if x.sum() > 0 else x, "forward that torch.fx can"),
    "loop over steps": (lambda m, x: torch.stack([m.conv(y) for y in x]), "torch.fx can trace"),
    "modes": (lambda m, x: m.conv(x) if m.training else m.other(x), "same in training and eval"),
    "chance": (lambda m, x: m.conv(x) if torch.rand(1) < 2 else x, "without random numbers"),
    "python's chance": (lambda m, x: m.conv(x) if random.random() < 2 else x, "without random"),
    "numpy's chance": (
        lambda m, x: m.conv(x) if np.random.rand() < 2 else x,  # noqa: NPY002
        "without random numbers",
    ),
    "noise": (lambda m, x: m.conv(x) + torch.rand_like(x), "operation rand_like"),
    "state": (counting, r"changes nothing, got a new value of Says: calls"),
    "crossing skips": (overlapping, "got a value that is used 3 times"),
    "nested skips": (nested, "one skip connection at a time"),
    "concatenation": (lambda m, x: torch.cat([m.conv(x), x], 1), r"Says, operation cat"),
    "function": (lambda m, x: torch.tanh(m.conv(x)), "Says, operation tanh: expected one of"),
    "parameter": (lambda m, x: m.conv(x) + m.noise, "result of a layer as input, got the param"),
    "number": (lambda m, x: m.conv(x) * 2, "result of a layer as input, got 2"),
    "scaled sum": (lambda m, x: torch.add(m.conv(x), x, alpha=2), "two values alone"),
    "two results": (lambda m, x: (m.conv(x), x), "one tensor as result"),
    "unused": (lambda m, x: (m.norm(x), m.conv(x))[1], r"norm \(BatchNorm2d\): expected a result"),
    "norm twice": (lambda m, x: m.norm(m.conv(m.norm(x))), "a norm at one place"),
    "doubled": (lambda m, x: m.conv(x) + (y := m.other(x)) + y, "once, got a result used 2 times"),
    "plain doubling": (lambda m, x: (y := m.conv(x)) + y, "a layer on one of two branches"),
    "no gradient": (without_gradient, r"conv \(Conv2d\): expected a forward that does not switch"),
    "autocast": (in_low_precision, "got one under no_grad, inference_mode or autocast"),
    "own backward": (lambda m, x: Rectified.apply(m.conv(x)), "does not switch modes of torch"),
    "detached": (lambda m, x: m.conv(x).detach(), "operation detach"),
    "in place": (lambda m, x: F.relu(y := m.conv(x), inplace=True) + y, "a value that is used on"),
    "over time": (lambda m, x: m.conv(x).mean(0), "mean over height and width, got dim = 0"),
    "size": (lambda m, x: m.conv(x).view(x.size(0), x.size(1) * 64), r"a shape \(B, -1\), got"),
    "always dropping": (lambda m, x: F.dropout(m.conv(x)), "dropout that is off in evaluation"),
    "forgetful": (Forgetful(), "expected a forward that gives the net's values, got a rel"),
    "run": (lambda m, x: m.unit.run(m.conv(x))[0], "forward that torch.fx can trace"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_by_name(name):
    function, message = REFUSED[name]
    with pytest.raises(UnsupportedNet, match=message):
        SpikingNet.from_torch(Says(function), SHAPE)


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


def test_refuses_other_modules():
    with pytest.raises(UnsupportedNet, match=r"a forward with one input, got x, y"):
        SpikingNet.from_torch(TwoInputs(), SHAPE)
    module = nn.Sequential(nn.Conv2d(3, 4, 3))
    module.forward = lambda x: x
    with pytest.raises(UnsupportedNet, match="a forward of its class, got one set by hand"):
        SpikingNet.from_torch(module, SHAPE)
    compiled = nn.Module()  # as torch.compile leaves it
    compiled._orig_mod = nn.Linear(4, 4)
    with pytest.raises(UnsupportedNet, match="Module: .* got a compiled one"):
        SpikingNet.from_torch(compiled, (4,))
    with pytest.raises(ShapeError, match=r"expected in_shape as \(C, H, W\) or \(D,\), got 4"):
        SpikingNet.from_torch(nn.Linear(4, 4), 4)
    with pytest.raises(ConfigError, match="expected a torch module, got 'c8'"):
        SpikingNet.from_torch("c8", SHAPE)
    with pytest.raises(ConfigError, match="from_torch.norm: expected batch_step or batch_all"):
        SpikingNet.from_torch(nn.Sequential(nn.Linear(4, 4)), (4,), norm="layer")
    with pytest.raises(ShapeError, match=r"a reshape to \(256,\) for .*, got \(99,\)"):
        SpikingNet.from_torch(Ends(lambda x: x.view(-1, 99), 99), SHAPE)
    with pytest.raises(UnsupportedNet, match=r"two values of one shape, got \(5, 8, 8\) and \(3"):
        SpikingNet.from_torch(Residual(nn.Conv2d(3, 5, 3, padding=1)), SHAPE)


class Skipping(nn.Sequential):
    """A Sequential in name alone."""

    def forward(self, x):
        return self[1](self[0](x) + x)


def test_a_skip_of_a_sequential_is_kept():
    module = Skipping(nn.Conv2d(3, 3, 3, padding=1), neuron()).double()
    net = SpikingNet.from_torch(module, SHAPE)
    assert net.spec.blocks[0].join == "before_unit"
    current = torch.stack([module[0](x) + x for x in XS])
    torch.testing.assert_close(net(XS), module[1](current).flatten(2))
