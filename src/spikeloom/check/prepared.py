"""A rule prepared for a net and a head: the one place from which checks call a rule."""

import copy
import dataclasses
import inspect
from collections.abc import Callable, Collection
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeloom.base.types import Batch
from spikeloom.check.outcome import listed, require
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


def nothing() -> None:
    """Stand for a commit that moves no weight: gradients add up."""


def changed(found: Values, *kinds: str) -> set[str]:
    """Return the parameters that have a change of these kinds, in any commit."""
    return {key.split(kind)[0] for kind in kinds for key in found if kind in key}


def moving(found: Values) -> Values:
    """Return what is not zero everywhere."""
    return {key: value for key, value in found.items() if bool(value.any())}


class Noting(OwnLoop):
    """The battery's commit: notes direct changes, and makes those of the parameters `moved`."""

    direct: Values
    moved: Collection[str]

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        """Make the update; see `Commit`."""
        made: dict[str | nn.Parameter, Tensor | NewValue] = {}
        for one in accepted(updates, self.named, self.rule):
            value = one.value - one.parameter.detach() if one.replaces else one.value
            self.direct[one.name] = self.direct.get(one.name, 0) + value
            if one.name in self.moved:
                made[one.name] = NewValue(one.value) if one.replaces else one.value
        super().__call__(updates=made, memory=memory)


def taken(head: Head, labels: Tensor) -> Tensor:
    """Return labels as a head takes its targets: themselves, or as numbers by their one-hot code.

    Shape:
        labels: [B]; result: [B], or [B, K].
    """
    if head.labels:
        return labels
    return F.one_hot(labels, head.classes).to(torch.get_default_dtype())


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
        self.rule = dataclasses.replace(rule) if dataclasses.is_dataclass(rule) else copy.copy(rule)
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

    def names(self, *modules: nn.Module | None) -> list[str]:
        """Return the names of the parameters that modules have."""
        own = {id(p) for module in modules if module is not None for p in module.parameters()}
        return [name for name, p in self.parameters().items() if id(p) in own]

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
            objective = self.head.bind(taken(self.head, batch.target), batch.rng)
        loop = Noting(self.rule, self.memory, commit, self.net, self.head)
        loop.direct, loop.moved = self.direct, moved
        report = self.rule.learn(self.net, batch, objective, loop)
        self.memory = loop.memory
        reported = isinstance(report, RuleReport)
        require(reported, "learn", "a RuleReport", type(report).__name__, "return one")
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

    def update(self, batch: Batch | None = None) -> Values:
        """Learn from a batch as the training loop does, and return all that came of it.

        That is loss, logits, the changes of each commit, and the weights after the last.
        """
        came: list[Values] = []
        named = self.parameters()
        optimizer = torch.optim.SGD(named.values(), RATE, momentum=0.9)
        commit = self.committing(optimizer, lambda: came.append(self.changes()))
        report = self.learn(batch, commit, moved=named)
        later = ["", *(f" at commit {number}" for number in range(2, len(came) + 1))]
        pairs = zip(later, came, strict=False)
        found = {name + at: value for at, one in pairs for name, value in one.items()}
        return found | {"the loss": report.loss, "the logits": report.logits} | self.weights()

    def stepped(self, changes: Values | None = None) -> Values:
        """Return changes (by default those there) and the weights after them; then go back."""
        changes, named = self.changes() if changes is None else changes, self.parameters()
        for name, p in named.items():
            p.grad = changes[name + GRAD].clone() if name + GRAD in changes else None
        before = [(p, p.detach().clone()) for p in named.values()]
        torch.optim.SGD(named.values(), RATE, momentum=0.9).step()
        with torch.no_grad():
            for name, p in named.items():
                p += changes.get(name + DIRECT, 0)
            self.net.project()
            self.rule.project(self.net, self.memory)
            found = changes | self.weights()
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

    def rewind(self) -> None:
        """Bring back everything as it was at first: weights, buffers, what the rule remembers."""
        self.restore()
        self.clear()
        self.begin(self.rule)

    @torch.no_grad()
    def restore(self) -> None:
        """Bring back weights and buffers."""
        for name, value in self._kept().items():
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

    def require_changes(self) -> None:
        """Require a gradient or a direct change of every parameter.

        A rule without labels trains the weights it likes; what stays idle is seen layer by layer.
        """
        missing = sorted(set(self.parameters()) - self._served(self.changes()))
        held = not (missing and self.rule.facts.needs_labels)
        todo = "train it, or refuse such nets in prepare"
        require(held, listed(missing), "a gradient or an update", "neither", todo)

    def require_finite(self, found: Values) -> None:
        """Require values without NaN and infinity."""
        wild = [name for name, value in found.items() if not bool(torch.isfinite(value).all())]
        todo = "look for a division by 0, or for errors that grow without bound"
        require(not wild, listed(wild), "finite values", "NaN or infinity", todo)

    def require_movement(self, found: Values | None = None) -> None:
        """Require that no layer stays as it is; `found` as in `idle_layers`."""
        idle = self.idle_layers(found)
        learn = inspect.unwrap(type(self.rule).learn).__code__
        where = f"{Path(learn.co_filename).name}:{learn.co_firstlineno}"
        todo = f"write the rule's equation in learn, {where}"
        require(not idle, f"layers {listed(idle)}", "changes that are not zero", "zeros", todo)

    def idle_layers(self, found: Values | None = None) -> list[str]:
        """Return the layers with a parameter that no change found (by default, there) moves.

        Of a rule without labels, those where none moves.
        """
        served = self._served(moving(self.changes() if found is None else found))
        how = any if self.rule.facts.needs_labels else all
        sites = self.net.sites
        layers = {one.name: self.names(one.synapse, one.norm, one.neuron) for one in sites}
        return [one for one, own in layers.items() if own and how(p not in served for p in own)]

    def _served(self, found: Values) -> set[str]:
        """Return what has a change, and what needs none: biases beside a direct change."""
        served, direct = changed(found, GRAD, DIRECT), changed(found, DIRECT)
        maps = (set(self.names(site.synapse)) for site in self.sites)
        return served.union(*(one for one in maps if one & direct))

    def _kept(self) -> Values:
        found = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        return found | {f"head.{name}": value for name, value in self.head.state_dict().items()}
