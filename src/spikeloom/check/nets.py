"""Small nets with every kind of layer, and a rule before each of them."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.check.prepared import Prepared
from spikeloom.check.toy import Case, T, built
from spikeloom.heads.base import Head
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.execution import Execution
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.net import NetSpec
from spikeloom.neurons.leaky import LIF

MAPS = (2, 4, 4)
"""Input of the nets."""

UNIT = LIF(alpha=0.5)
TRAINED = LIF(alpha=0.5, learn=("v_th",))

EDGE = "source = 1, target = 0, restrict = 0.5"
SPARSE = 'restrict_norm = "frobenius", mask = {density = 0.5}'

LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("f6 f5 f2", {}),
    "convolution": ("c3 c4 f2", {}),
    "convolution of 1x1": ("c3 c4k1 f2", {}),
    "strided convolution": ("c3 c4s2 f2", {}),
    "transposed convolution": ("c3 t4s2 f2", {}),
    "average pools": ("c3 P c4 G f2", {}),
    "max pool": ("c3 M c4 f2", {}),
    "upsampling": ("c3 U c4 f2", {}),
    "no synapse": ("c3 I c4 f2", {}),
    "batch_step": ("c3 c4 f5 f2", {"norm": "batch_step", "bias": False}),
    "batch_all": ("c3 c4 f5 f2", {"norm": "batch_all", "bias": False}),
    "standardised": ("c3 t4 c4k1 f5 f2", {"norm": "weight"}),
    "repeated block": ("c3 [c3]x2 f2", {}),
    "joined block": ('c3 [c4 c3]{join = "add"} f2', {}),
    "trained thresholds": ("c3 c4 f2", {"unit": TRAINED, "amplitude": "v_th"}),
    "dropout": ("c3 c4 f2", {"dropout": 0.3}),
    "feedback": (f'{{feedback = [{{{EDGE}, layers = "c3"}}]}} c3 c4 f2', {}),
    "sparse feedback": (f'{{feedback = [{{{EDGE}, layers = "f6", {SPARSE}}}]}} f6 f5 f2', {}),
}
"""Nets by name, with what their layers are by default.

A bias before a batch norm would have a gradient of rounding alone.
"""


class Problem(Prepared):
    """A rule prepared for a net, with a head and a batch; the input stays the same over time.

    Args:
        case: the rule.
        spec: the net.
        execution: how it is computed.
    """

    def __init__(self, case: Case, spec: NetSpec, execution: Execution | None = None) -> None:
        spiking = case.rule.facts.spiking
        net = built(case, spec, MAPS, execution).double()
        kind: type[Head] = Softmax if spiking else Softmax.baseline()
        generator = torch.Generator().manual_seed(3)
        x = 2 * torch.rand(6, *MAPS, generator=generator, dtype=torch.float64)
        self.xs = x.expand(T if spiking else 1, *x.shape)
        self.target = torch.arange(len(x)) % 2
        super().__init__(case.rule, net, kind.of(net, seed=2).double(), self.batch())

    def batch(self, number: int = 0, *, copied: bool = False) -> Batch:
        """Return the batch, its input as a copy over time if asked; the number sets dropout."""
        rng = SampleRng(0, number, torch.arange(len(self.target)))
        return Batch(self.xs.clone() if copied else self.xs, self.target, rng, number)


Found = TypeVar("Found")


def on_net(
    case: Case, name: str, first: Callable[[Problem], Found], execution: Execution | None = None
) -> tuple[Problem, Found] | None:
    """Return a rule before the net `name`, and what `first` gives for it; None if it refuses.

    A rule that needs feedback gets the net with an edge.
    """
    text, defaults = LAYERS[name]
    edge = f'{{feedback = [{{source = 0, target = 0, layers = "{text.split()[0]}"}}]}} {text}'
    for one in (text,) if text.startswith("{") else (text, edge):
        try:
            problem = Problem(case, parse(one, **{"unit": UNIT} | defaults), execution)
            return problem, first(problem)  # the net itself refuses batch_all in time order
        except UnsupportedNet:
            continue
    return None


def specs_for(case: Case) -> Iterator[tuple[str, NetSpec]]:
    """Yield the names and specs of the nets that a rule trains."""
    for name in LAYERS:
        trained = on_net(case, name, Problem.learn)
        if trained:
            yield name, trained[0].net.spec
