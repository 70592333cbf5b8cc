"""What a rule calls when an update is due: gradients, direct changes and memory as one event."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ConfigError, NumericalError, ShapeError
from spikeloom.nets.module.net import SpikingNet
from spikeloom.rules.memory import Memory

if TYPE_CHECKING:
    from spikeloom.rules.base import LearningRule


@dataclass(frozen=True, eq=False)
class NewValue:
    """The new value of a parameter, in the place of a change that is added to it.

    Every process must bring the same; what it is computed from is averaged by `Batch.across`.
    """

    value: Tensor


Updates: TypeAlias = Mapping[str | nn.Parameter, Tensor | NewValue]
"""Direct changes, by parameter or by its name (net.<name>, head.<name>): what is added, or a
`NewValue`."""


class Commit:
    """One update, taken over as a whole or not at all."""

    @property
    def memory(self) -> Memory:
        """What the rule remembers now."""
        raise NotImplementedError

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        """Make the update: what is in `.grad`, direct changes, and the new memory.

        Args:
            updates: changes that no optimizer touches: no momentum, no decay, no clip. Over several
                processes they are averaged, weighted by samples; bounds hold afterwards. Such a
                parameter must have no gradient. Frozen ones stay as they are.
            memory: what the rule remembers from now on; None for no change.

        Raises:
            ConfigError, ShapeError: a name, shape, type or leaf that does not exist.
            NumericalError: a value is not finite. Nothing was taken over.
        """
        raise NotImplementedError


class Within(Commit):
    """The commit for a rule inside another, whose memory is a part of the other's.

    Args:
        outer: the commit of the other.
        name: of the part.
    """

    def __init__(self, outer: Commit, name: str) -> None:
        self.outer, self.name = outer, name

    @property
    def memory(self) -> Memory:
        """What the inner rule remembers now."""
        return self.outer.memory[self.name]

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        """Make the update; see `Commit`."""
        whole = None if memory is None else self.outer.memory.replace({self.name: memory})
        self.outer(updates=updates, memory=whole)


class PlainCommit(Commit):
    """The commit of a training loop that passes a plain function.

    Raises:
        ConfigError: the rule keeps a memory or changes weights itself, which a function cannot do.
    """

    def __init__(self, step: Callable[[], None], rule: "LearningRule") -> None:
        self.step, self.rule = step, rule

    @property
    def memory(self) -> Memory:
        """Refuse: a plain function holds no memory."""
        raise self._refusal("that holds the rule's memory")

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        """Call the function, for an update of gradients alone."""
        if updates is not None or memory is not None:
            raise self._refusal("that takes direct changes and memory")
        self.step()

    def _refusal(self, what: str) -> ConfigError:
        todo = "pass OwnLoop(rule, memory, step, net, head)"
        return ConfigError.of(self.rule.place(), f"a commit {what}", "a plain function", todo)


class OwnLoop(Commit):
    """The commit of a training loop of your own, in one process.

    Args:
        rule: what learns.
        memory: what its `prepare` returned.
        step: makes the step of your optimizer and clears gradients; `rule.parameters(memory)` are
            to be trained too.
        net: what is trained.
        head: its head.

    Pass the same object to every `learn`; the rule reads ``commit.memory``.
    """

    def __init__(
        self,
        rule: "LearningRule",
        memory: Memory | None,
        step: Callable[[], None],
        net: SpikingNet,
        head: nn.Module | None = None,
    ) -> None:
        self.rule, self.step, self.net = rule, step, net
        self._memory = Memory() if memory is None else memory
        self.named = named_parameters(rule, self._memory, net, head)

    @property
    def memory(self) -> Memory:
        """What the rule remembers now."""
        return self._memory

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        """Make the update; see `Commit`."""
        changes = accepted(updates, self.named, self.rule)
        check_memory(memory, self._memory, self.rule)
        new = self._memory if memory is None else memory
        self.step()
        apply(changes)
        self.net.project()
        self.rule.project(self.net, new)
        self._memory = new


@dataclass(frozen=True, eq=False)
class Change:
    """A direct change of one parameter: added to it, or in its place."""

    name: str
    parameter: nn.Parameter
    value: Tensor
    replaces: bool


def named_parameters(
    rule: "LearningRule", memory: Memory, net: nn.Module, head: nn.Module | None
) -> list[tuple[str, nn.Parameter]]:
    """Return all parameters by name: net.<name>, head.<name>, and rule.<path in the memory>.

    Raises:
        ConfigError: the rule trains what is no leaf of its memory.
    """
    modules = {"net": net} if head is None else {"net": net, "head": head}
    named = [*nn.ModuleDict(modules).named_parameters()]  # shared ones once
    paths = {id(leaf.value): path for path, leaf in memory.leaves()}
    for parameter in rule.parameters(memory):
        if id(parameter) not in paths:
            raise ConfigError.of(
                f"{rule.place()}: parameters", "leaves of the memory", "another", "keep it there"
            )
        named.append((f"rule.{paths[id(parameter)]}", parameter))
    return named


def resolved(
    updates: Updates | None, named: Sequence[tuple[str, nn.Parameter]], place: str
) -> list[Change]:
    """Return direct changes by parameter, frozen ones left out.

    Raises:
        ConfigError: an unknown parameter, or one that has a gradient too.
        ShapeError: another shape or type than the parameter's.
    """
    by_name, names = dict(named), {id(one): name for name, one in named}
    changes: list[Change] = []
    for key, value in (updates or {}).items():
        name = key if isinstance(key, str) else names.get(id(key), "")
        if name not in by_name:
            came = f"'{key}'" if isinstance(key, str) else f"one of shape {list(key.shape)}"
            todo = "name one as net.named_parameters() does, with net. before it"
            raise ConfigError.of(f"{place}: updates", "parameters of net and head", came, todo)
        parameter, replaces = by_name[name], isinstance(value, NewValue)
        value = value.value if isinstance(value, NewValue) else value
        wanted, came = (f"{x.dtype} {list(x.shape)}" for x in (parameter, value))
        if wanted != came:
            raise ShapeError.of(f"{place}: updates of '{name}'", wanted, came)
        if parameter.grad is not None:
            todo = "keep backward passes from it (detach), or let the optimizer have it"
            where = f"{place}: updates of '{name}'"
            raise ConfigError.of(where, "a parameter without gradient", "one with", todo)
        if parameter.requires_grad:
            changes.append(Change(name, parameter, value.detach(), replaces))
    return changes


def accepted(
    updates: Updates | None, named: Sequence[tuple[str, nn.Parameter]], rule: "LearningRule"
) -> list[Change]:
    """Return direct changes that can be made: `resolved`, and finite.

    Raises:
        ConfigError, ShapeError: as `resolved`.
        NumericalError: one is not finite; the message names it.
    """
    if not updates:
        return []
    place = rule.place()
    changes = resolved(updates, named, place)
    for one in changes:
        if not bool(torch.isfinite(one.value).all()):
            todo = "lower the learning rate or check the input"
            where = f"{place}: updates of '{one.name}'"
            raise NumericalError.of(where, "finite values", "NaN or infinity", todo)
    return changes


def check_memory(memory: Memory | None, before: Memory, rule: "LearningRule") -> None:
    """Refuse a memory that cannot follow another; None follows any.

    Raises:
        ConfigError: other leaves, or leaves of another kind.
        NumericalError: a value is not finite.
    """
    fault = None if memory is None else memory.fault_after(before, rule.place())
    if fault is not None:
        raise fault


@torch.no_grad()
def apply(changes: Sequence[Change]) -> None:
    """Make direct changes."""
    for one in changes:
        if one.replaces:
            one.parameter.copy_(one.value)
        else:
            one.parameter.add_(one.value)
