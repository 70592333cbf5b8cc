"""Small nets with every kind of layer, and a rule before each of them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.check.toy import Case, T, fresh
from spikeloom.heads.base import Head
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.net import NetSpec
from spikeloom.neurons.leaky import LIF
from spikeloom.rules.base import RuleReport

MAPS = (2, 4, 4)
"""Input of the nets."""

UNIT = LIF(alpha=0.5)


class Sample(NamedTuple):
    """A net as text with what its layers are by default; its input is two maps of 4x4."""

    text: str
    defaults: dict[str, Any] = {}


LAYERS: dict[str, Sample] = {
    "linear": Sample("f6 f5 f2"),
    "convolution": Sample("c3 c4 f2"),
    "convolution of 1x1": Sample("c3 c4k1 f2"),
    "strided convolution": Sample("c3 c4s2 f2"),
    "transposed convolution": Sample("c3 t4s2 f2"),
    "average pools": Sample("c3 P c4 G f2"),
    "max pool": Sample("c3 M c4 f2"),
    "upsampling": Sample("c3 U c4 f2"),
    "no synapse": Sample("c3 I c4 f2"),
    "batch_step": Sample("c3 c4 f5 f2", {"norm": "batch_step", "bias": False}),
    "batch_all": Sample("c3 c4 f5 f2", {"norm": "batch_all", "bias": False}),
    "standardised": Sample("c3 t4 c4k1 f5 f2", {"norm": "weight"}),
    "repeated block": Sample("c3 [c3]x2 f2"),
    "joined block": Sample('c3 [c4 c3]{join = "add"} f2'),
    "trained thresholds": Sample(
        "c3 c4 f2", {"unit": LIF(alpha=0.5, learn=("v_th",)), "amplitude": "v_th"}
    ),
    "dropout": Sample("c3 c4 f2", {"dropout": 0.3}),
    "feedback": Sample(
        '{feedback = [{source = 1, target = 0, layers = "c3", restrict = 0.5}]} c3 c4 f2'
    ),
    "sparse feedback": Sample(
        '{feedback = [{source = 1, target = 0, layers = "f6", restrict = 0.5, '
        'restrict_norm = "frobenius", mask = {density = 0.5}}]} f6 f5 f2'
    ),
}
"""By name. A bias before a batch norm would have a gradient of rounding alone."""


class Problem:
    """A rule prepared for a net, with a head and a batch; the input stays the same over time.

    Args:
        case: the rule.
        spec: the net.
        execution: how it is computed.
        copied: whether the input is a copy for every step instead of one tensor seen T times.

    Raises:
        UnsupportedNet: the rule refuses the net.
    """

    def __init__(
        self, case: Case, spec: NetSpec, execution: Execution | None = None, *, copied: bool = False
    ) -> None:
        self.rule = fresh(case.rule)
        kind: type[Head] = Softmax
        spiking = self.rule.facts.spiking
        if not spiking:
            spec, kind = spec.as_ann(), kind.baseline()
        self.net = SpikingNet(spec, MAPS, seed=1, execution=execution).double()
        self.head = kind.of(self.net, seed=2).double()
        generator = torch.Generator().manual_seed(3)
        x = 2 * torch.rand(6, *MAPS, generator=generator, dtype=torch.float64)
        xs = x.expand(T if spiking else 1, *x.shape)
        self.xs = xs.clone() if copied else xs
        self.target = torch.arange(len(x)) % 2
        self.rule.prepare(self.net, self.head.sites, self.batch(0))

    def batch(self, number: int) -> Batch:
        """Return the batch; dropout differs from number to number."""
        rng = SampleRng(0, number, torch.arange(len(self.target)))
        return Batch(self.xs, self.target, rng, number)

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return what is trained, by name."""
        found = {f"net.{name}": one for name, one in self.net.named_parameters()}
        found |= {f"head.{name}": one for name, one in self.head.named_parameters()}
        return found | {f"rule.{row}": one for row, one in enumerate(self.rule.parameters())}

    def learn(self, number: int = 0, commit: Callable[[], None] = lambda: None) -> RuleReport:
        """Let the rule learn from the batch."""
        batch = self.batch(number)
        objective = self.head.bind(batch.target, batch.rng)
        return self.rule.learn(self.net, batch, objective, commit)


def specs_for(case: Case) -> Iterator[tuple[str, NetSpec]]:
    """Yield the nets a rule trains; one that needs feedback gets its nets with an edge."""
    for name, (text, defaults) in LAYERS.items():
        options = {"unit": UNIT} | defaults
        first = text.split()[0]
        edge = f'{{feedback = [{{source = 0, target = 0, layers = "{first}"}}]}} {text}'
        for one in (text,) if text.startswith("{") else (text, edge):
            spec = parse(one, **options)
            try:
                Problem(case, spec).learn()  # the net itself refuses batch_all in time order
            except UnsupportedNet:
                continue
            yield name, spec
            break
