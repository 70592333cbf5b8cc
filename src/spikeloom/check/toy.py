"""The small task every rule is tried on, and the rules as cases of the battery."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.check.outcome import require
from spikeloom.heads.base import Head
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.base import Unit
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import Kernels
from spikeloom.rules.base import LearningRule, RuleReport

BITS, T = 8, 4
RATE = 0.03


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


def fresh(rule: LearningRule) -> LearningRule:
    """Return a rule of the same options that has learned nothing yet."""
    return dataclasses.replace(rule) if dataclasses.is_dataclass(rule) else copy.copy(rule)


class Toy:
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
    ) -> None:
        self.rule = fresh(case.rule)
        last = "f2" if head.maps else "[f2]"
        spec = parse(f"{self.rule.trials.body} {last}", unit=unit or LIF(alpha=0.5))
        if not self.rule.facts.spiking:
            spec, steps, head = spec.as_ann(), 1, head.baseline()
        execution = Execution(kernels=case.kernels)
        self.net = SpikingNet(spec, (BITS,), seed=seed, execution=execution).to(dtype)
        self.head = head.of(self.net, seed=2).to(dtype)
        x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=dtype)] * BITS)
        self.xs = x.expand(steps, *x.shape)
        self.target = (x[:, 0] != x[:, 1]).long()
        self.rows = torch.arange(len(x))
        self.rule.prepare(self.net, self.head.sites, self.batch())
        self.buffers = {name: one.clone() for name, one in self.net.named_buffers()}

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site, the head's last."""
        return (*self.net.sites, *self.head.sites)

    def batch(self, epoch: int = 0, rows: Tensor | None = None, copy: bool = False) -> Batch:
        """Return the samples of `rows` (all by default), as a view or a copy over time."""
        rows = self.rows if rows is None else rows
        xs = self.xs[0, rows].expand(len(self.xs), len(rows), BITS)
        return Batch(xs.clone() if copy else xs, self.target[rows], SampleRng(0, epoch, rows))

    def parameters(self) -> dict[str, Tensor]:
        """Return what is trained, by name: the net's, the head's and the rule's own."""
        found: dict[str, Tensor] = {f"net.{name}": p for name, p in self.net.named_parameters()}
        found |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return found | {f"rule.{n}": p for n, p in enumerate(self.rule.parameters())}

    def learn(
        self, batch: Batch | None = None, commit: Callable[[], None] = lambda: None
    ) -> RuleReport:
        """Let the rule learn from a batch (the whole task by default)."""
        return self.taught_by(self.rule, self.batch() if batch is None else batch, commit)

    def taught_by(
        self, rule: LearningRule, batch: Batch, commit: Callable[[], None] = lambda: None
    ) -> RuleReport:
        """Let a rule, prepared or in need of nothing, learn from a batch."""
        report = rule.learn(self.net, batch, self.head.bind(batch.target, batch.rng), commit)
        came = type(report).__name__
        require(isinstance(report, RuleReport), f"learn must return a RuleReport, got {came}")
        return report

    def rewind(self) -> None:
        """Bring back what moves when the net is used: running statistics, power iterations."""
        now = dict(self.net.named_buffers())
        for name, before in self.buffers.items():
            now[name].copy_(before)

    def clear(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters().values():
            parameter.grad = None

    def grads(self) -> dict[str, Tensor]:
        """Return copies of the gradients that exist."""
        found = self.parameters().items()
        return {name: p.grad.clone() for name, p in found if p.grad is not None}

    def train(
        self,
        epochs: int,
        *,
        frozen: bool = False,
        first: int = 0,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> torch.optim.Optimizer:
        """Train on the whole task at once; return the optimizer.

        Args:
            epochs: how often.
            frozen: whether the head alone is trained.
            first: number of the first epoch.
            optimizer: to go on with.
        """
        parts = self.parameters()
        if frozen:
            parts = {name: p for name, p in parts.items() if name.startswith("head.")}
        stepper = optimizer or torch.optim.Adam(parts.values(), RATE)

        def commit() -> None:
            stepper.step()
            self.rule.project()
            self.clear()

        for epoch in range(first, first + epochs):
            self.learn(self.batch(epoch), commit)
        return stepper

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the share of the task's samples that are classified right."""
        logits = self.head.logits(self.head.reduced(self.net(self.xs)))
        return (logits.argmax(1) == self.target).double().mean().item()


def idle_layers(toy: Toy) -> list[str]:
    """Return the layers of the net with a parameter whose gradient is zero everywhere."""
    idle = []
    for site in toy.net.sites:
        parts = [part for part in (site.synapse, site.norm, site.neuron) if part is not None]
        grads = [p.grad for part in parts for p in part.parameters()]
        if any(grad is None or not bool(grad.any()) for grad in grads):
            idle.append(site.name)
    return idle
