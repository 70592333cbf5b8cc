"""The small task every rule is tried on, and the rules as cases of the battery."""

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.check.prepared import RATE, Prepared
from spikeloom.heads.base import Head, Reduction
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.net import NetSpec
from spikeloom.neurons.base import Unit
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import Kernels
from spikeloom.rules.base import LearningRule

BITS, T = 8, 4


@dataclass(frozen=True)
class Case:
    """One rule with its options, under test.

    Args:
        name: of the rule.
        rule: with options.
        kernels: which loops take neurons through time in its toys.
    """

    name: str
    rule: LearningRule = field(compare=False)
    kernels: Kernels = "reference"

    def __str__(self) -> str:
        return repr(self.rule)


def cases_of(name: str, kind: type[LearningRule]) -> list[Case]:
    """Return a rule with its defaults, if all its options have one, and the variants it names.

    Raises:
        ConfigError: neither exists, or the class is no rule.
    """
    where = f"rules.{name}"
    if not (isinstance(kind, type) and issubclass(kind, LearningRule)):
        raise ConfigError.of(where, "a LearningRule", repr(kind), "derive from it")
    options = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    none = dataclasses.MISSING
    bare = [one for one in options if one.default is none and one.default_factory is none]
    needed = [one.name for one in bare if one.init]
    tried = [*([] if needed else [{}]), *kind.trials.variants]
    if not tried:
        came = f"options without a default ({', '.join(needed)})"
        todo = "give trials = Trials(variants=...)"
        raise ConfigError.of(where, "defaults or variants to check", came, todo)
    try:
        return [Case(name, kind(**one)) for one in tried]
    except (TypeError, ConfigError) as fault:  # a rule that checks its fields says ConfigError
        expected = "trials.variants to name its options"
        raise ConfigError.of(where, expected, f"'{fault}'", "fix them") from None


def built(
    case: Case, spec: NetSpec, shape: tuple[int, ...], execution: Execution | None, seed: int = 1
) -> SpikingNet:
    """Return a net as a rule trains it: of ReLUs where it trains no spiking nets."""
    spec = spec if case.rule.facts.spiking else spec.as_ann()
    return SpikingNet(spec, shape, seed=seed, execution=execution)


class Toy(Prepared):
    """A net, a head and all 256 samples of a task: the parity of the first two of eight bits.

    No linear map of random features of this width solves it, so whoever solves it has trained
    hidden layers; the learning check asserts that.

    Args:
        case: the rule, already prepared for the net afterwards.
        dtype: of weights and input.
        steps: T, where the rule trains spiking nets.
        unit: neurons of every hidden layer.
        head: kind of head.
        seed: of the net's weights.
        reduce: how the head reduces a train.
    """

    def __init__(
        self,
        case: Case,
        *,
        dtype: torch.dtype = torch.float64,
        steps: int = T,
        unit: Unit | None = None,
        head: type[Head] = Softmax,
        seed: int = 1,
        reduce: Reduction = "mean",
    ) -> None:
        facts, body = case.rule.facts, case.rule.trials.body
        last = "f2" if head.maps else "[f2]"
        spec = parse(f"{body} {last}", unit=unit or LIF(alpha=0.5))
        net = built(case, spec, (BITS,), Execution(case.kernels), seed).to(dtype)
        kind = head if facts.spiking else head.baseline()
        x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=dtype)] * BITS)
        self.xs = x.expand(steps if facts.spiking else 1, *x.shape)
        self.target = (x[:, 0] != x[:, 1]).long()
        self.rows = torch.arange(len(x))
        behind = kind.of(net, seed=2, reduce=reduce).to(dtype)
        super().__init__(case.rule, net, behind, self.batch())

    def batch(
        self,
        epoch: int = 0,
        rows: Tensor | None = None,
        copy: bool = False,
        steps: int | None = None,
    ) -> Batch:
        """Return the samples of `rows` (all by default), as a view or a copy over time."""
        rows = self.rows if rows is None else rows
        xs = self.xs[0, rows].expand(steps or len(self.xs), len(rows), BITS)
        return Batch(xs.clone() if copy else xs, self.target[rows], SampleRng(0, epoch, rows))

    def train(
        self,
        epochs: int,
        *,
        frozen: bool = False,
        first: int = 0,
        optimizer: torch.optim.Optimizer | None = None,
        rows: Tensor | None = None,
    ) -> torch.optim.Optimizer:
        """Train on `rows` (all by default) at once, from epoch `first` on; return the optimizer.

        Where hidden layers are frozen, the head alone is in the optimizer, and they take no direct
        changes either.
        """
        parts = self.parameters()
        if frozen:
            parts = {name: p for name, p in parts.items() if name.startswith("head.")}
        stepper = optimizer or torch.optim.Adam(parts.values(), RATE)
        commit = self.committing(stepper)
        for epoch in range(first, first + epochs):
            self.learn(self.batch(epoch, rows), commit, moved=parts)
        return stepper

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the share of the task's samples that are classified right."""
        logits = self.head.logits(self.head.reduced(self.net(self.xs)))
        return (logits.argmax(1) == self.target).double().mean().item()


def reaches_every_layer(case: Case) -> bool:
    """Return whether the rule's gradients reach every hidden layer of the plain toy."""
    toy = Toy(case)
    toy.learn()
    return not toy.idle_layers()
