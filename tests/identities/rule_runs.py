"""Small problems on which sums are exact, and gradients of a rule as a dict.

Weights are multiples of 1/8, inputs of 1/4, alpha is 1/2, B, K and T are powers of two and the
loss is squared error: every product and sum of a net with two hidden layers then fits into
float64, in any order, so that what is equal in theory is equal to the bit.
"""

import torch
from torch import Tensor

from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Triangle

B, K, T = 4, 4, 4
UNIT = LIF(alpha=0.5, surrogate=Triangle(1.0, 1.0))
MAPS = (2, 4, 4)

EXACT = {
    "dense": ("f12 f8 f4", (6,)),
    "conv": ("c4 P c6 f4", MAPS),
    "stride": ("c4s2 f8 f4", MAPS),
}
CLOSE = {
    "deep": ("f12 f10 f8 f6 f4", (6,)),
    "backres": ("c4 [c4]x3 P f6 f4", MAPS),
    "backres pair": ("c4 [c4 c4]x2 f4", MAPS),
    "residual": ('c4 [c4 c4]{join="add"} P f4', MAPS),
    "classic residual": (
        'c4 [c4 c4]{join="before_unit",shortcut="c4k1{unit=\\"none\\"}"} f4',
        MAPS,
    ),
    "residual on the input": ('[c2]{join="add"} c4 f4', MAPS),
    "batch norm": ('c4{norm="batch_step"} P c4{norm="batch_step"} f4', MAPS),
    "weight norm": ('c4{norm="weight",gain=2.74} P c4{norm="weight",gain=2.74} f4', MAPS),
    "hybrid": ('c4{unit="relu"} P c4 f8 f4', MAPS),
    "hybrid residual": ('[c2{unit="relu"}]{join="add"} c4 f4', MAPS),
    "linear front": ('c4{unit="none"} c4 f4', MAPS),
    "dropout": ("f12{dropout=0.25} f8{dropout=0.5} f4", (6,)),
    "low-pass": ("f12{psp={decay=0.5,scale=0.5}} f8 f4", (6,)),
    "transposed": ("c4s2 t3k2s2p0 f4", MAPS),
}
NETS = EXACT | CLOSE


class Problem:
    """A net with its head, and batches for it."""

    def __init__(self, name, *, unit=UNIT, view=False, steps=T, seed=0, **head_options):
        text, shape = NETS[name]
        self.exact = name in EXACT
        self.net = SpikingNet(parse(text, unit=unit), shape).double()
        self.head = Softmax.of(self.net, **({"mse": 1.0} | head_options)).double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in (*self.net.parameters(), *self.head.parameters()):
                if parameter.numel() > 1:  # not the trained scalars of a unit
                    scale = 8 if parameter.dim() < 2 or parameter.shape[1] < 16 else 4
                    bits = torch.randint(-scale, scale + 1, parameter.shape, generator=generator)
                    parameter.copy_(bits / 8)
        frames = torch.randint(0, 9, (steps, B, *shape), generator=generator).double() / 4
        if view:
            frames = frames[:1].expand(steps, B, *shape)
        target = torch.randint(0, K, (B,), generator=generator)
        self.batch = Batch(frames, target, SampleRng(0, 0, torch.arange(B)))

    def with_input(self, xs: Tensor) -> "Problem":
        self.batch = Batch(xs, self.batch.target, self.batch.rng)
        return self

    def objective(self):
        return self.head.bind(self.batch.target, self.batch.rng)

    def named(self):
        yield from (("net." + name, p) for name, p in self.net.named_parameters())
        yield from (("head." + name, p) for name, p in self.head.named_parameters())

    def clear(self) -> None:
        for _, parameter in self.named():
            parameter.grad = None

    def grads(self) -> dict[str, Tensor]:
        found = {name: p.grad.clone() for name, p in self.named() if p.grad is not None}
        assert len(found) == len(list(self.named()))
        assert any(bool(part.any()) for name, part in found.items() if name.startswith("net."))
        return found

    def learn(self, rule, commit=lambda: None) -> dict[str, Tensor]:
        """Return the gradients one call of the rule leaves, from none."""
        self.clear()
        rule.prepare(self.net, self.head.sites, self.batch)
        self.report = rule.learn(self.net, self.batch, self.objective(), commit)
        return self.grads()

    def same(self, one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
        """Compare gradients: to the bit on exact problems, else up to rounding."""
        assert set(one) == set(other)
        for name, part in one.items():
            if self.exact:
                assert torch.equal(part, other[name]), name
            else:
                scale = part.abs().max().item() + 1e-3
                assert (part - other[name]).abs().max().item() < 1e-12 * scale, name


class Spikes:
    """Notes what stateful units fire, by site, over a whole sequence."""

    def __init__(self):
        self.trains: dict[str, Tensor] = {}

    def see(self, site, x_in, current, s_out):
        if site.unit is not None and site.unit.stateful:
            before = [self.trains[site.name]] if site.name in self.trains else []
            self.trains[site.name] = torch.cat([*before, s_out.detach()])


def total(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Add gradients up."""
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def scaled(grads: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    return {name: part * factor for name, part in grads.items()}
