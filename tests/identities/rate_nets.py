"""Small nets for rules that learn through rates, and what they did while they ran."""

import torch

from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.heads.base import Head
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.readout import Loss
from spikeloom.nets.spec.grammar import parse

B = 5


class Problem:
    """A net, its head and one batch; the input is constant unless `events`."""

    def __init__(self, text, unit, *, steps=8, shape=(6,), seed=0, head=None, events=False, **rest):
        self.generator = torch.Generator().manual_seed(seed)
        self.net = SpikingNet(parse(text, unit=unit, **rest), shape, seed=seed).double()
        self.head: Head = (head or Softmax).of(self.net).double()
        size = (steps, B, *shape) if events else (B, *shape)
        x = torch.rand(size, generator=self.generator, dtype=torch.float64)
        xs = (x < 0.5).double() if events else (2 * x).expand(steps, *x.shape)
        target = torch.arange(B) % self.head.classes
        self.batch = Batch(xs, target, SampleRng(0, 0, torch.arange(B)))
        self.seen = {}

    def see(self, site, x_in, current, s_out):
        """Keep all steps of what is seen in time order, the last call of what is seen at once."""
        parts = self.seen.setdefault(site.name, ([], []))
        parts[0].append(current.detach())
        parts[1].append(s_out.detach())

    def learn(self, rule, objective=None):
        """Return the gradients by name."""
        rule.prepare(self.net, self.head.sites, self.batch)
        objective = objective or self.head.bind(self.batch.target, self.batch.rng)
        self.clear()
        rule.learn(self.net, self.batch, objective, lambda: None)
        return self.grads()

    def clear(self):
        for parameter in (*self.net.parameters(), *self.head.parameters()):
            parameter.grad = None

    def grads(self):
        return {
            name: torch.zeros_like(one) if one.grad is None else one.grad.clone()
            for name, one in self.net.named_parameters()
        }


class Along:
    """A loss that is linear in the features: their mean over time along a direction."""

    def __init__(self, direction, reduce=None):
        self.direction = direction

    def __call__(self, h, ops=None):
        return Loss(h, (h * self.direction).sum())

    def over(self, hs, ops=None):
        return self(hs.mean(0), ops)

    def weights(self, steps):
        return [1 / steps] * steps


def cosine(one, other):
    """Return the cosine of two gradients by name, all as one vector."""
    first = torch.cat([one[name].flatten() for name in one])
    second = torch.cat([other[name].flatten() for name in one])
    return float(first @ second / (first.norm() * second.norm()))
