"""A user's own layers over time: against a loop over steps, and refusals by name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import spikeloom
from spikeloom import LIF, Neuron, OverTime, SpikingNet
from spikeloom.base.errors import ConfigError, ShapeError

XS = torch.rand(4, 3, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Mine(nn.Module):
    """A layer that nobody here knows."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x):
        return self.left(x) * self.right(x).tanh()


@pytest.mark.parametrize("layer", [Mine().double(), nn.MaxPool2d(2), nn.Flatten(), F.softplus])
def test_it_is_a_loop_over_steps(layer):
    leaf = XS.clone().requires_grad_()
    out = OverTime(layer)(leaf)
    expected = torch.stack([layer(x) for x in XS])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-14)
    (grad,) = torch.autograd.grad(out.square().sum(), leaf)
    other = XS.clone().requires_grad_()
    by_step = torch.stack([layer(x) for x in other])
    (wanted,) = torch.autograd.grad(by_step.square().sum(), other)
    torch.testing.assert_close(grad, wanted, rtol=1e-12, atol=1e-12)


def test_norm_statistics_are_over_time_and_batch():
    out = OverTime(nn.BatchNorm2d(2, affine=False).double())(XS)
    mean, var = XS.mean((0, 1, 3, 4)), XS.var((0, 1, 3, 4), correction=0)
    expected = (XS - mean.view(2, 1, 1)) / (var.view(2, 1, 1) + 1e-5).sqrt()
    torch.testing.assert_close(out, expected)
    flat = OverTime(nn.BatchNorm1d(6).double())(XS.flatten(3)[..., 0, :6])
    assert flat.shape == (4, 3, 6)


def test_its_weights_are_the_modules():
    wrapped = OverTime(nn.Linear(6, 2))
    assert [name for name, _ in wrapped.named_parameters()] == ["module.weight", "module.bias"]
    assert wrapped.train(False).module.training is False


RANKS = [
    (nn.Linear(6, 2), (4, 6), "[T, B, ...]"),
    (nn.Conv2d(2, 3, 1), (4, 2, 6, 6), "[T, B, C, H, W]"),
    (nn.MaxPool2d(2), (4, 2, 6, 6), "[T, B, C, H, W]"),
    (nn.Sequential(nn.Sequential(nn.BatchNorm2d(2)), nn.ReLU()), (4, 2, 6, 6), "[T, B, C, H, W]"),
    (nn.Conv1d(2, 3, 1), (4, 3, 2, 6, 6), "[T, B, C, L]"),
    (nn.Conv3d(2, 3, 1), (4, 3, 2, 6, 6), "[T, B, C, D, H, W]"),
    (parametrizations.weight_norm(nn.Conv2d(2, 3, 1)), (3, 2, 6, 6), "[T, B, C, H, W]"),
    (Mine(), (), "[T, B, ...]"),
]


@pytest.mark.parametrize(("layer", "shape", "axes"), RANKS)
def test_a_wrong_rank_is_one_line(layer, shape, axes):
    with pytest.raises(ShapeError) as caught:
        OverTime(layer)(torch.rand(shape))
    start = f"neurons.OverTime: expected {axes} with time as the first axis, got shape {shape}"
    assert str(caught.value).startswith(start)


def test_what_does_not_keep_its_rows():
    for layer, came in ((lambda x: x.mean(0), (2, 6, 6)), (lambda x: (x, x), "tuple")):
        with pytest.raises(ShapeError) as caught:
            OverTime(layer)(XS)
        assert f"maps [N, ...] to [N, ...], got {came} for N = T B = 12; " in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "came"),
    [
        (nn.Sequential(nn.Linear(6, 2), Neuron(LIF())), "got Neuron in it"),
        (nn.LSTM(6, 2), "got LSTM in it"),
        (OverTime(nn.ReLU()), "got OverTime in it"),
        (nn.ReLU, "got <class"),
        (3, "got 3; pass one that is built"),
    ],
)
def test_what_is_no_map_of_one_step(layer, came):
    with pytest.raises(ConfigError, match="^neurons.OverTime: expected a module") as caught:
        OverTime(layer)
    assert came in str(caught.value)


def test_a_relu_neuron_has_no_state():
    assert torch.equal(OverTime(Neuron(spikeloom.Relu()))(XS - 0.5), (XS - 0.5).relu())


def test_a_net_can_be_made_of_it():
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AvgPool2d(2)
    module = nn.Sequential(
        OverTime(nn.Sequential(*layers[:2])),
        Neuron(LIF()),
        OverTime(layers[2]),
        OverTime(nn.Flatten()),
        OverTime(nn.Linear(36, 5)),
    ).double()
    net = SpikingNet.from_torch(module, (2, 6, 6), norm="batch_all").eval()
    assert [block.layers[0].kind for block in net.spec.blocks] == ["conv", "avg_pool"]
    module.eval()
    features = net(XS)
    torch.testing.assert_close(net.last_linear(features), module(XS))
