"""A user's own loop with torch's fused optimizers: gradients lie as their weights do."""

import pytest
import torch
from torch import nn

from spikeloom.base.types import Batch
from spikeloom.check.battery import all_cases
from spikeloom.check.nets import Problem, specs_for
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.program.processes import Team
from spikeloom.rules.sltt import Sltt

NETS = ("convolution", "convolution of 1x1", "transposed convolution", "standardised", "feedback")
FORMATS = pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels_last"]
)


def strides(x):
    """Strides of the axes that have more than one element."""
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1]


class BothSteps:
    """A user's fused optimizer, and beside it the plain one on dense copies; called as `commit`."""

    def __init__(self, weights):
        rows = torch.contiguous_format
        self.weights = weights
        self.copies = [nn.Parameter(p.detach().clone(memory_format=rows)) for p in weights]
        self.fused = torch.optim.AdamW(self.weights, lr=0.01, fused=True)
        self.plain = torch.optim.AdamW(self.copies, lr=0.01, fused=False, foreach=False)

    def __call__(self):
        for p, q in zip(self.weights, self.copies, strict=True):
            assert p.grad is None or strides(p.grad) == strides(p)
            q.grad = None if p.grad is None else p.grad.clone(memory_format=torch.contiguous_format)
        self.fused.step()
        self.plain.step()
        for p, q in zip(self.weights, self.copies, strict=True):
            assert torch.allclose(p, q, rtol=1e-12, atol=1e-14)
        self.fused.zero_grad()


@FORMATS
@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_fused_optimizers_move_weights_as_plain_ones_do(case, memory_format):
    problems = [Problem(case, spec) for name, spec in specs_for(case) if name in NETS]
    assert len(problems) >= 4
    for one in problems:
        one.net.to(memory_format=memory_format)
        commit = BothSteps(list(one.named_parameters().values()))
        start = [p.clone() for p in commit.weights]
        one.learn(0, commit)
        one.learn(1, commit)
        moved = [not torch.equal(p, q) for p, q in zip(start, commit.weights, strict=True)]
        assert all(moved)


def test_gradients_of_a_users_own_modules_lie_as_their_weights():
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1).to(memory_format=torch.channels_last),  # pyright: ignore
        Neuron(LIF(alpha=0.5), 4, 2),
        nn.Conv2d(4, 3, 3, padding=1),
        Neuron(LIF(alpha=0.5), 3, 2),
        nn.Flatten(),
        nn.Linear(48, 2),
    )
    net = SpikingNet.from_torch(layers, (2, 4, 4))
    head = Softmax.of(net)
    batch = Batch.of(torch.rand(4, 5, 2, 4, 4), torch.arange(5) % 2)
    Sltt().learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
    for one in layers.parameters():
        assert one.grad is not None and one.grad.stride() == one.stride()


class Two:
    """A team of two processes in which this one has everything."""

    global_rank, world_size, device = 0, 2, torch.device("cpu")


@FORMATS
def test_averages_over_processes_lie_as_their_weights(memory_format, monkeypatch):
    monkeypatch.setattr("spikeloom.program.processes.add_up", lambda x: x)
    shapes = [(4, 3, 3, 3), (4, 3, 1, 1), (5, 4), (6,)]
    weights = [nn.Parameter(torch.rand(shape)) for shape in shapes]
    for one in weights:
        if one.dim() == 4:
            one.data = one.data.contiguous(memory_format=memory_format)
        one.grad = torch.rand(one.shape)
    expected = [0.25 * one.grad for one in weights if one.grad is not None]
    Team(Two()).average(weights, 0.25)  # pyright: ignore[reportArgumentType]
    for one, value in zip(weights, expected, strict=True):
        assert one.grad is not None and torch.equal(one.grad, value)
        assert one.grad.stride() == one.stride()
