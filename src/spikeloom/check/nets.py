"""Small nets with every kind of layer, and a rule before each of them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch

from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.check.prepared import Prepared
from spikeloom.check.toy import Case, T
from spikeloom.heads.base import Head
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.net import NetSpec
from spikeloom.neurons.leaky import LIF

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


class Problem(Prepared):
    """A rule prepared for a net, with a head and a batch; the input stays the same over time.

    Args:
        case: the rule.
        spec: the net.
        execution: how it is computed.
        name: what stands for the net in messages.

    Raises:
        UnsupportedNet: the rule refuses the net.
    """

    def __init__(
        self, case: Case, spec: NetSpec, execution: Execution | None = None, name: str = ""
    ) -> None:
        kind: type[Head] = Softmax
        spiking = case.rule.facts.spiking
        self.spec, self.name = spec, name
        if not spiking:
            spec, kind = spec.as_ann(), kind.baseline()
        net = SpikingNet(spec, MAPS, seed=1, execution=execution).double()
        generator = torch.Generator().manual_seed(3)
        x = 2 * torch.rand(6, *MAPS, generator=generator, dtype=torch.float64)
        self.xs = x.expand(T if spiking else 1, *x.shape)
        self.target = torch.arange(len(x)) % 2
        super().__init__(case.rule, net, kind.of(net, seed=2).double(), self.batch())

    def batch(self, number: int = 0, *, copied: bool = False) -> Batch:
        """Return the batch; dropout differs from number to number.

        Args:
            number: of the batch.
            copied: whether the input is a copy for every step instead of one tensor seen T times.
        """
        rng = SampleRng(0, number, torch.arange(len(self.target)))
        return Batch(self.xs.clone() if copied else self.xs, self.target, rng, number)


Found = TypeVar("Found")


def nets_for(
    case: Case, first: Callable[[Problem], Found], execution: Execution | None = None
) -> Iterator[tuple[Problem, Found]]:
    """Yield the nets a rule trains; one that needs feedback gets its nets with an edge.

    Args:
        case: the rule.
        first: what to do with each at first; a net is left out where that ends in a refusal.
        execution: how the nets are computed.

    Returns:
        The rule before each net, and what `first` returned.
    """
    for name, (text, defaults) in LAYERS.items():
        options = {"unit": UNIT} | defaults
        edge = f'{{feedback = [{{source = 0, target = 0, layers = "{text.split()[0]}"}}]}} {text}'
        for one in (text,) if text.startswith("{") else (text, edge):
            try:
                problem = Problem(case, parse(one, **options), execution, name)
                found = first(problem)  # the net itself refuses batch_all in time order
            except UnsupportedNet:
                continue
            yield problem, found
            break


def specs_for(case: Case) -> Iterator[tuple[str, NetSpec]]:
    """Yield the names and specs of these nets."""
    for problem, _ in nets_for(case, Problem.learn):
        yield problem.name, problem.spec
