"""Detects later changes of a user's module; changes that its net cannot follow are errors."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.weight_norm import WeightNorm

from spikeloom.base.torch_private import children_of, hooks_of
from spikeloom.nets.from_torch.graph import settings
from spikeloom.nets.from_torch.layers import check, place, refusal

MAKERS = (BasePruningMethod, WeightNorm)
"""Hooks of torch that compute a weight before each forward; `lent.made` computes the same."""


class Plan(Protocol):
    """What a net was made from; two plans are equal if their nets would be the same."""

    @property
    def dropouts(self) -> list[tuple[str, nn.Module]]:
        """Place of each dropout, and the module whose mode turns it on and off."""
        ...


class Mode(nn.Module):
    """A child of the net that shares its training mode with a module of the user.

    That module turns a dropout on and off. Code that sets or restores the modes of all modules of
    the net thus sets the mode of the user's module too.
    """

    owner: nn.Module

    def __init__(self, owner: nn.Module) -> None:
        # not a child: the net lists the owner's parameters under other names already
        object.__setattr__(self, "owner", owner)
        training = owner.training
        super().__init__()
        self.training = training  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def training(self) -> bool:
        """Training mode of the user's module."""
        return self.owner.training

    @training.setter
    def training(self, mode: bool) -> None:
        self.owner.training = mode


class Link:
    """Connects a net to the user's module, to detect changes of the module.

    Args:
        module: the user's module.
        again: makes the plan of a module.
        plan: plan that the net was made from.
    """

    def __init__(self, module: nn.Module, again: Callable[[nn.Module], Plan], plan: Plan) -> None:
        self.module = module
        self.again = again
        self.plan = plan
        self.seen = [_Seen(path, part) for path, part in module.named_modules()]

    def check(self, training: bool) -> None:
        """Raise an error if the module has changed in a way that the net cannot follow.

        Args:
            training: training mode of the net.

        Raises:
            UnsupportedNet: a changed setting, layer, hook or mode; the message names the place.
        """
        changed = next((name for seen in self.seen if (name := seen.changed())), None)
        if changed is not None:
            if self.again(self.module) != self.plan:
                raise refusal(
                    changed, "what the net was made from", "another", "call from_torch again"
                )
            self.seen = [_Seen(path, part) for path, part in self.module.named_modules()]
        for where, owner in self.plan.dropouts:
            if owner.training != training:
                modes = ["evaluation", "training"]
                raise refusal(
                    where,
                    f"the net's mode, {modes[training]}",
                    modes[owner.training],
                    "switch both: net.train() and net.eval() do",
                )


class _Seen:
    """Settings, children, parameter shapes and hooks of one module at some time."""

    def __init__(self, path: str, module: nn.Module) -> None:
        self.where = place(path, module)
        self.module = module
        self.kind = type(module)
        self.values = dict(vars(module))
        self.children = children_of(module)
        self.shapes = _shapes(module)
        self.hooks = _hooks(module)

    def changed(self) -> str | None:
        """Return what changed in the module, for the message; None if nothing."""
        module, before = self.module, self.values
        now = vars(module)
        before["training"] = module.training  # a change of mode is checked in `Link.check`
        if not _equal(now, before):
            for name in {**settings(before), **settings(now)}:
                if not _equal(before.get(name, self), now.get(name, self)):
                    return f"{self.where}, {name}"
        same = type(module) is self.kind and _shapes(module) == self.shapes
        same = same and children_of(module) == self.children
        return None if same and _hooks(module) == self.hooks else self.where


def _equal(first: object, second: object) -> bool:
    try:
        return first is second or bool(first == second)
    except (RuntimeError, TypeError, ValueError):  # e.g. arrays
        return False


def _shapes(module: nn.Module) -> list[object]:
    named = module.named_parameters(recurse=False, remove_duplicate=False)
    return [(name, parameter.shape) for name, parameter in named]


def _hooks(module: nn.Module) -> list[int]:
    return [id(hook) for hook in hooks_of(module)]


def check_followed(module: nn.Module) -> None:
    """Refuse modules that a net could not follow: hooks, lazy layers, changing parametrisations.

    Raises:
        UnsupportedNet: names the place.
    """
    for path, part in module.named_modules():
        if ".parametrizations" in f".{path}":
            continue
        where = place(path, part)
        if isinstance(part, LazyModuleMixin):
            todo = "run your module once first"
            raise refusal(where, "a layer with its sizes", "a lazy one", todo)
        hooks = hooks_of(part)
        weighted = isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
        # happens if a user prunes a net's synapse, which shares the dicts of the layer
        if weighted and not hasattr(part, "weight"):
            todo = "prune, norm and parametrise the layers of your module, not the net's synapses"
            raise refusal(where, "a layer with a weight", "one that lost it", todo)
        norms = isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))
        strange = [one for one in hooks if not (isinstance(one, MAKERS) and (weighted or norms))]
        if strange:
            name = getattr(strange[0], "__qualname__", type(strange[0]).__name__)
            todo = "remove them: a net computes its layers by itself and would never call them"
            raise refusal(where, "a module without hooks", name, todo)
        if parametrize.is_parametrized(part):
            _check_steady(where, part)


def _check_steady(where: str, layer: nn.Module) -> None:
    """Refuse a parametrisation that is random, or changes at each access of the weight."""
    makers = [part for made in layer.parametrizations.values() for part in made.modules()]  # pyright: ignore
    modes = [(part, part.training) for part in makers]
    buffers = [(one, one.clone()) for part in makers for one in part.buffers(recurse=False)]
    tensors = [*layer.parameters(), *layer.buffers()]
    if any(one.is_meta for one in tensors):
        return  # no values to compare
    devices = {one.device for one in tensors if one.is_cuda}
    try:
        for part in makers:
            part.training = True
        with torch.no_grad(), torch.random.fork_rng(devices):
            first, second = (
                [getattr(layer, name).clone() for name in layer.parametrizations]  # pyright: ignore
                for _ in range(2)
            )
            same = all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
            same = same and all(torch.equal(one, kept) for one, kept in buffers)
    finally:
        for part, training in modes:
            part.training = training
        with torch.no_grad():
            for one, kept in buffers:
                one.copy_(kept)
    names = ", ".join(type(part).__name__ for part in makers[1:])
    todo = "a net reads a weight once or once per step: remove_parametrizations makes it plain"
    check(where, same, "a weight that is the same at every reading", names, todo)
