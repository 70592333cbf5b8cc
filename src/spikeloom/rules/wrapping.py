"""Rules around a rule: the gradients of the inner one are changed before each update."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from spikeloom.base.autograd import add_gradient
from spikeloom.base.citation import Citation
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.readout import Objective
from spikeloom.rules.base import LearningRule, RuleFacts, RuleReport
from spikeloom.rules.commit import Commit, Updates, Within
from spikeloom.rules.memory import Memory

INNER = "inner"
"""Name of the inner rule's part of the memory."""


@dataclass(frozen=True)
class Wrapping(LearningRule):
    """Base of rules that take another one as an option, e.g. ``inner = {name = "bptt"}``.

    A wrapper behaves as its inner rule and has its facts, except for title and source. It changes
    gradients and direct changes in `before_update`. A memory of its own is added in `prepare`.

    Args:
        inner: the rule that learns.
    """

    inner: LearningRule

    def refined(self, facts: RuleFacts) -> RuleFacts:
        """Return the inner rule's facts under this one's title and source."""
        return replace(self.inner.facts, title=facts.title, source=facts.source)

    def sources(self) -> tuple[Citation, ...]:
        """Return the publications behind both."""
        return (*super().sources(), *self.inner.sources())

    @property
    def loss_at(self) -> Literal["end", "step"]:
        """As the inner rule's."""
        return self.inner.loss_at

    def commits(self, steps: int) -> int:
        """Return the inner rule's."""
        return self.inner.commits(steps)

    def cautions(self, net: SpikingNet, steps: int) -> Iterable[str]:
        """Return the inner rule's."""
        return self.inner.cautions(net, steps)

    def prepare(self, net: SpikingNet, head_sites: tuple[Site, ...], sample: Batch) -> Memory:
        """Return a memory that holds the inner rule's."""
        return Memory({INNER: self.inner.prepare(net, head_sites, sample) or Memory()})

    def learn(
        self, net: SpikingNet, batch: Batch, objective: Objective, commit: Commit
    ) -> RuleReport:
        """Let the inner rule learn; its updates pass through `before_update`."""
        passing = _Passing(commit, self, net)
        try:
            return self.inner.learn(net, batch, objective, passing)
        finally:
            passing.give_back()

    def before_update(
        self, net: SpikingNet, commit: Commit, updates: Updates | None
    ) -> Updates | None:
        """Change what the inner rule left in `.grad`, and return the direct changes to make.

        Args:
            net: what is trained; `.grad` of its parameters holds what is new alone.
            commit: of this rule, with its memory.
            updates: of the inner rule.
        """
        return updates

    def parameters(self, memory: Memory) -> Iterable[nn.Parameter]:
        """Return what the inner rule trains, and all parameters of this one."""
        inner = {id(one) for one in memory[INNER].parameters()}
        own = [one for one in memory.parameters() if id(one) not in inner]
        return [*self.inner.parameters(memory[INNER]), *own]

    def project(self, net: SpikingNet, memory: Memory) -> None:
        """Project as the inner rule does."""
        self.inner.project(net, memory[INNER])

    def accepts(self, before: LearningRule) -> bool:
        """Whether both rules accept what they find."""
        return isinstance(before, type(self)) and self.inner.accepts(before.inner)


class _Passing(Within):
    """Commit of the inner rule: the wrapper sees its gradients without those that came before."""

    def __init__(self, outer: Commit, rule: Wrapping, net: SpikingNet) -> None:
        super().__init__(outer, INNER)
        self.rule, self.net = rule, net
        self._kept: list[tuple[nn.Parameter, Tensor]] = []
        self._set_aside()

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        updates = self.rule.before_update(self.net, self.outer, updates)
        self.give_back()
        super().__call__(updates=updates, memory=memory)
        self._set_aside()

    def _set_aside(self) -> None:
        self._kept = [(one, one.grad) for one in self.net.parameters() if one.grad is not None]
        for one, _ in self._kept:
            one.grad = None

    def give_back(self) -> None:
        """Add the gradients that were there before."""
        for one, grad in self._kept:
            add_gradient(one, grad)
        self._kept = []
