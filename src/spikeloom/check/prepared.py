"""A rule prepared for a net and a head: the one place from which checks call a rule."""

import copy
import dataclasses
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from spikeloom.base.types import Batch
from spikeloom.check.outcome import require
from spikeloom.heads.base import Head
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.readout import Objective
from spikeloom.rules.base import LearningRule, RuleReport
from spikeloom.rules.commit import NewValue, OwnLoop, Updates, accepted, named_parameters
from spikeloom.rules.memory import Memory

RATE = 0.03

Values = dict[str, Tensor]
"""Tensors by name: changes, weights, or all that an update leaves."""

GRAD, DIRECT = ".grad", ".update"
"""Behind the name of a parameter: its gradient, and what a rule adds to it itself."""


def fresh(rule: LearningRule) -> LearningRule:
    """Return a rule of the same options that has learned nothing yet."""
    return dataclasses.replace(rule) if dataclasses.is_dataclass(rule) else copy.copy(rule)


def nothing() -> None:
    """Stand for a commit that moves no weight: gradients add up."""


def changed(found: Values, *kinds: str) -> set[str]:
    """Return the parameters that have a change of these kinds, in any commit."""
    return {key.split(kind)[0] for kind in kinds for key in found if kind in key}


def moving(found: Values) -> Values:
    """Return what is not zero everywhere."""
    return {key: value for key, value in found.items() if bool(value.any())}


class Noting(OwnLoop):
    """The battery's commit: notes direct changes, and makes those of parameters that may move.

    Args:
        prepared: whose rule learns.
        step: what becomes of gradients.
        moved: names of the parameters that direct changes move.
    """

    def __init__(
        self, prepared: "Prepared", step: Callable[[], None], moved: Collection[str]
    ) -> None:
        super().__init__(prepared.rule, prepared.memory, step, prepared.net, prepared.head)
        self.prepared, self.moved = prepared, moved

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        """Make the update; see `Commit`."""
        made: dict[str, Tensor | NewValue] = {}
        direct = self.prepared.direct
        for one in accepted(updates, self.named, self.rule):
            value = one.value - one.parameter.detach() if one.replaces else one.value
            direct[one.name] = direct.get(one.name, 0) + value
            if one.name in self.moved:
                made[one.name] = NewValue(one.value) if one.replaces else one.value
        super().__call__(updates=made, memory=memory)


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
        self.direct: Values = {}
        self.begin(rule)
        self._start = {name: value.detach().clone() for name, value in self._kept().items()}

    def begin(self, rule: LearningRule) -> None:
        """Take a fresh rule, which remembers nothing."""
        self.rule = fresh(rule)
        self.prepare()

    def prepare(self) -> None:
        """Let the rule see the net, the head and a batch."""
        self.memory = self.rule.prepare(self.net, self.head.sites, self.sample) or Memory()

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site, the head's last."""
        return (*self.net.sites, *self.head.sites)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by name: the net's, the head's and the rule's own."""
        return dict(named_parameters(self.rule, self.memory, self.net, self.head))

    def learn(
        self,
        batch: Batch | None = None,
        commit: Callable[[], None] = nothing,
        objective: Objective | None = None,
        *,
        moved: Collection[str] = (),
    ) -> RuleReport:
        """Let the rule learn from a batch; nothing moves: gradients and direct changes add up.

        Args:
            batch: the sample by default.
            commit: what becomes of gradients.
            objective: the head's loss by default.
            moved: names of parameters whose direct changes are made all the same.
        """
        batch = self.sample if batch is None else batch
        if objective is None:
            objective = self.head.bind(batch.target, batch.rng)
        loop = Noting(self, commit, moved)
        report = self.rule.learn(self.net, batch, objective, loop)
        self.memory = loop.memory
        came = type(report).__name__
        require(isinstance(report, RuleReport), f"learn must return a RuleReport, got {came}")
        return report

    def committing(
        self, optimizer: torch.optim.Optimizer, before: Callable[[], None] = nothing
    ) -> Callable[[], None]:
        """Return what a commit does with gradients: step, and forget them."""

        def commit() -> None:
            before()
            optimizer.step()
            self.clear()

        return commit

    def project(self) -> None:
        """Bring what is trained back into its bounds."""
        self.net.project()
        self.rule.project(self.net, self.memory)

    def update(self, batch: Batch | None = None) -> Values:
        """Learn from a batch as the training loop does, and return all that came of it.

        Returns:
            Loss, logits, the changes of each commit, and the weights after the optimizer's step.
        """
        found: Values = {}
        count = 0

        def note() -> None:
            nonlocal count
            count += 1
            later = "" if count == 1 else f" at commit {count}"
            found.update({name + later: value for name, value in self.changes().items()})

        named = self.parameters()
        optimizer = torch.optim.SGD(named.values(), RATE, momentum=0.9)
        report = self.learn(batch, self.committing(optimizer, note), moved=named)
        found |= {"the loss": report.loss, "the logits": report.logits}
        return found | self.weights()

    def stepped(self, changes: Values | None = None) -> Values:
        """Return changes, and the weights after an optimizer's step by them; then go back.

        Args:
            changes: to make; by default what is there, gradients as they lie in memory.
        """
        named = self.parameters()
        if changes is not None:
            for name, p in named.items():
                p.grad = changes[name + GRAD].clone() if name + GRAD in changes else None
        found = self.changes() if changes is None else dict(changes)
        before = [(p, p.detach().clone()) for p in named.values()]
        torch.optim.SGD(named.values(), RATE, momentum=0.9).step()
        with torch.no_grad():
            for name, p in named.items():
                if name + DIRECT in found:
                    p += found[name + DIRECT]
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

    def remember(self, memory: Memory) -> None:
        """Let the rule go on from what it, or another one, remembered."""
        self.memory = self.memory.with_values_of(memory)

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
        """Forget all gradients and direct changes."""
        self.direct.clear()
        for parameter in self.parameters().values():
            parameter.grad = None

    def changes(self) -> Values:
        """Return copies of what the rule changes: gradients, and what it adds itself."""
        named = self.parameters().items()
        found = {name + GRAD: p.grad.clone() for name, p in named if p.grad is not None}
        return found | {name + DIRECT: value for name, value in self.direct.items()}

    def missing(self) -> list[str]:
        """Return what should have a gradient or a direct change and has neither.

        A rule without labels trains the weights it likes; what stays idle is seen layer by layer.
        """
        if not self.rule.facts.needs_labels:
            return []
        return sorted(set(self.parameters()) - self._served(self.changes()))

    def idle_layers(self, found: Values | None = None) -> list[str]:
        """Return the layers of the net with a parameter that stays as it is.

        Of a rule without labels, those where all do.

        Args:
            found: changes, of all commits; by default those that are there.
        """
        served = self._served(moving(self.changes() if found is None else found))
        names = {id(p): name for name, p in self.parameters().items()}
        idle = []
        how = any if self.rule.facts.needs_labels else all
        for site in self.net.sites:
            parts = [part for part in (site.synapse, site.norm, site.neuron) if part is not None]
            there = [names[id(p)] for part in parts for p in part.parameters()]
            if there and how(name not in served for name in there):
                idle.append(site.name)
        return idle

    def _served(self, found: Values) -> set[str]:
        """Return what has a change, and what needs none: biases beside a direct change."""
        served, direct = changed(found, GRAD, DIRECT), changed(found, DIRECT)
        names = {id(p): name for name, p in self.parameters().items()}
        for site in self.sites:
            map_ = {names[id(p)] for p in site.synapse.parameters()}
            if map_ & direct:
                served |= map_
        return served

    def _kept(self) -> Values:
        found = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        return found | {f"head.{name}": value for name, value in self.head.state_dict().items()}
