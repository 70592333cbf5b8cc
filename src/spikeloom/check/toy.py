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
    if not (isinstance(kind, type) and issubclass(kind, LearningRule)):
        raise ConfigError(f"rules.{name}: expected a LearningRule, got {kind!r}; derive from it.")
    parts = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    needed = [
        part.name
        for part in parts
        if part.init
        and part.default is dataclasses.MISSING
        and part.default_factory is dataclasses.MISSING
    ]
    options = [*([] if needed else [{}]), *kind.trials.variants]
    if not options:
        raise ConfigError(
            f"rules.{name}: expected defaults or variants to check, got options without a default "
            f"({', '.join(needed)}); give trials = Trials(variants=...)."
        )
    try:
        return [Case(name, kind(**one)) for one in options]
    except (TypeError, ConfigError) as fault:  # a rule that checks its fields says ConfigError
        raise ConfigError(
            f"rules.{name}: expected trials.variants to name its options, got '{fault}'; fix them."
        ) from None


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
        if not facts.spiking:
            spec, steps, head = spec.as_ann(), 1, head.baseline()
        execution = Execution(kernels=case.kernels)
        net = SpikingNet(spec, (BITS,), seed=seed, execution=execution).to(dtype)
        x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=dtype)] * BITS)
        self.xs = x.expand(steps, *x.shape)
        self.target = (x[:, 0] != x[:, 1]).long()
        self.rows = torch.arange(len(x))
        super().__init__(
            case.rule, net, head.of(net, seed=2, reduce=reduce).to(dtype), self.batch()
        )

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
        """Train on samples at once; return the optimizer.

        Args:
            epochs: how often.
            frozen: whether the head alone is trained; hidden layers take no direct changes either.
            first: number of the first epoch.
            optimizer: to go on with.
            rows: which samples; all by default.
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
