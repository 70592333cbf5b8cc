"""A rule prepared for a net and a head: the one place from which checks call a rule."""

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikeloom.base.types import Batch
from spikeloom.check.outcome import require
from spikeloom.heads.base import Head
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.readout import Objective
from spikeloom.rules.base import LearningRule, RuleReport

RATE = 0.03

Values = dict[str, Tensor]
"""Tensors by name: gradients, weights, or all that an update leaves."""


def fresh(rule: LearningRule) -> LearningRule:
    """Return a rule of the same options that has learned nothing yet."""
    return dataclasses.replace(rule) if dataclasses.is_dataclass(rule) else copy.copy(rule)


def nothing() -> None:
    """Stand for a commit that moves no weight: gradients add up."""


class Prepared:
    """A rule of its own, prepared for a net and a head.

    Args:
        rule: options; the rule itself is a fresh one.
        net: what it trains.
        head: behind the net.
        sample: a batch as it will come; also what is learned where no other batch is given.

    Raises:
        UnsupportedNet: the rule refuses the net.
    """

    def __init__(self, rule: LearningRule, net: SpikingNet, head: Head, sample: Batch) -> None:
        self.net, self.head, self.sample = net, head, sample
        self.begin(rule)
        self._start = {name: value.detach().clone() for name, value in self._kept().items()}

    def begin(self, rule: LearningRule) -> None:
        """Take a fresh rule, which remembers nothing."""
        self.rule = fresh(rule)
        self.prepare()

    def prepare(self) -> None:
        """Let the rule see the net, the head and a batch."""
        self.rule.prepare(self.net, self.head.sites, self.sample)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site, the head's last."""
        return (*self.net.sites, *self.head.sites)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by name: the net's, the head's and the rule's own."""
        found = {f"net.{name}": p for name, p in self.net.named_parameters()}
        found |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return found | {f"rule.{row}": p for row, p in enumerate(self.rule.parameters())}

    def learn(
        self,
        batch: Batch | None = None,
        commit: Callable[[], None] = nothing,
        objective: Objective | None = None,
    ) -> RuleReport:
        """Let the rule learn from a batch, by the head's loss where no other is given."""
        batch = self.sample if batch is None else batch
        if objective is None:
            objective = self.head.bind(batch.target, batch.rng)
        report = self.rule.learn(self.net, batch, objective, commit)
        came = type(report).__name__
        require(isinstance(report, RuleReport), f"learn must return a RuleReport, got {came}")
        return report

    def committing(
        self, optimizer: torch.optim.Optimizer, before: Callable[[], None] = nothing
    ) -> Callable[[], None]:
        """Return a commit as the training loop's: step, project, forget the gradients."""

        def commit() -> None:
            before()
            optimizer.step()
            self.project()
            self.clear()

        return commit

    def project(self) -> None:
        """Bring what is trained back into its bounds."""
        self.net.project()
        self.rule.project()

    def update(self, batch: Batch | None = None) -> Values:
        """Learn from a batch as the training loop does, and return all that came of it.

        Returns:
            Loss, logits, the gradients of each commit, and the weights after the optimizer's step.
        """
        found: Values = {}
        count = 0

        def note() -> None:
            nonlocal count
            count += 1
            later = "" if count == 1 else f" at commit {count}"
            found.update({f"{name}.grad{later}": p for name, p in self.grads().items()})

        optimizer = torch.optim.SGD(self.parameters().values(), RATE, momentum=0.9)
        report = self.learn(batch, self.committing(optimizer, note))
        found |= {"the loss": report.loss, "the logits": report.logits}
        return found | self.weights()

    def stepped(self, grads: Values | None = None) -> Values:
        """Return gradients, and the weights after an optimizer's step by them; then go back.

        Args:
            grads: what to put into `.grad`; by default what is there, as it lies in memory.
        """
        if grads is not None:
            for name, p in self.parameters().items():
                p.grad = grads[name].clone() if name in grads else None
        found = {f"{name}.grad": p for name, p in self.grads().items()}
        before = [(p, p.detach().clone()) for p in self.parameters().values()]
        torch.optim.SGD(self.parameters().values(), RATE, momentum=0.9).step()
        self.project()
        found |= self.weights()
        with torch.no_grad():
            for p, value in before:
                p.copy_(value)
        return found

    def weights(self) -> Values:
        """Return copies of what is trained."""
        named = self.parameters().items()
        return {f"{name} after the step": p.detach().clone() for name, p in named}

    def memory(self) -> Values:
        """Return a copy of what the rule remembers between batches."""
        return {name: value.clone() for name, value in self.rule.state_dict().items()}

    def remember(self, memory: Values) -> None:
        """Let the rule go on from what it, or another one, remembered."""
        if memory:
            self.rule.load_state_dict({name: value.clone() for name, value in memory.items()})

    def buffers(self) -> Values:
        """Return copies of what moves when the net is used: statistics, power iterations."""
        return {name: one.clone() for name, one in self.net.named_buffers()}

    def rewind(self) -> None:
        """Bring back everything as it was at first: weights, buffers, what the rule remembers."""
        self.restore()
        self.clear()
        self.begin(self.rule)

    @torch.no_grad()
    def restore(self, *, buffers: bool = True) -> None:
        """Bring back weights and, unless told otherwise, buffers."""
        moving = set() if buffers else {f"net.{name}" for name, _ in self.net.named_buffers()}
        for name, value in self._kept().items():
            if name not in moving:
                value.copy_(self._start[name])

    def clear(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters().values():
            parameter.grad = None

    def grads(self) -> Values:
        """Return copies of the gradients that exist."""
        found = self.parameters().items()
        return {name: p.grad.clone() for name, p in found if p.grad is not None}

    def missing(self) -> list[str]:
        """Return what should have a gradient and has none.

        A rule without labels trains the weights it likes; what stays idle is seen layer by layer.
        """
        if not self.rule.facts.needs_labels:
            return []
        return sorted(set(self.parameters()) - set(self.grads()))

    def idle_layers(self) -> list[str]:
        """Return the layers of the net with a parameter whose gradient is zero everywhere.

        Of a rule without labels, those where all are.
        """
        idle = []
        how = any if self.rule.facts.needs_labels else all
        for site in self.net.sites:
            parts = [part for part in (site.synapse, site.norm, site.neuron) if part is not None]
            grads = [p.grad for part in parts for p in part.parameters()]
            if grads and how(grad is None or not bool(grad.any()) for grad in grads):
                idle.append(site.name)
        return idle

    def _kept(self) -> Values:
        found = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        return found | {f"head.{name}": value for name, value in self.head.state_dict().items()}
