"""Units: the equation of a neuron as a frozen dataclass without tensors."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from spikeloom.base.fields import FAMILIES, Family
from spikeloom.base.registry import Registry

LOW_PRECISION = (torch.bfloat16, torch.float16)
"""Types for products under autocast; a state always has more precision."""

UNITS: Registry[type["Unit"]] = Registry("unit", "spikeloom.neurons", ("init", "step"))

Theta: TypeAlias = Mapping[str, Tensor]
"""Trained quantities by name, e.g. v_th; for an absent one the unit uses its constant."""

State: TypeAlias = Any
"""State between two steps: tensors in tuples, lists, dicts or dataclasses; None if stateless."""


@runtime_checkable
class Unit(Protocol):
    """The equation of a neuron.

    `spiking`: outputs are spikes. `stateful`: there is a state between steps. `learn`: names of the
    trained quantities. `per_channel`: each channel has its own value of them.

    `learn` may name any attributes; training starts at their values, and `step` gets the trained
    values in `theta`. A quantity named alpha is trained as the logistic of its parameter, so that
    it stays in (0, 1).

    Everything else that rules, meters and initial weights need is listed in `neurons.declared`. No
    other attribute of a unit is read, whatever its name.
    """

    spiking: ClassVar[bool]
    stateful: ClassVar[bool]

    @property
    def learn(self) -> tuple[str, ...]:
        """Names of the trained quantities."""
        ...

    @property
    def per_channel(self) -> bool:
        """Whether a trained quantity has one value per channel."""
        ...

    def init(self, current: Tensor) -> State:
        """Return the state before the first step, for a current of this shape [B, ...]."""
        ...

    def step(self, state: State, current: Tensor, theta: Theta) -> tuple[Tensor, State]:
        """Return the output of one step, [B, ...] as the current, and the new state."""
        ...

    def rate(self, current: Tensor, theta: Theta) -> Tensor:
        """Return the steady output rate under a constant current."""
        ...


FAMILIES[Unit] = Family(UNITS, ("spiking", "stateful", "learn", "per_channel", "init", "step"))


def declares(unit: object, name: str) -> bool:
    """Whether a unit has an attribute that describes its own `step`.

    An attribute of a base class does not count if a derived class has replaced `step` since.
    """
    stepped = False
    for kind in type(unit).__mro__:
        if name in vars(kind) or name in vars(kind).get("__annotations__", {}):
            return not stepped
        stepped = stepped or "step" in vars(kind)
    return name in getattr(unit, "__dict__", {})


def state_zeros(current: Tensor) -> Tensor:
    """Return zeros shaped like `current`, in float32 at least."""
    low = current.dtype in LOW_PRECISION
    return torch.zeros_like(current, dtype=torch.float32 if low else None)


def state_full(current: Tensor, value: float) -> Tensor:
    """Return `value` everywhere, shaped like `current`, in float32 at least."""
    low = current.dtype in LOW_PRECISION
    return torch.full_like(current, value, dtype=torch.float32 if low else None)


def map_state(state: State, change: Any) -> State:
    """Apply `change` to every tensor of a state; return the same structure."""
    if isinstance(state, Tensor):
        return change(state)
    if state is None:
        return None
    if isinstance(state, tuple):
        parts = [map_state(part, change) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if isinstance(state, list):
        return [map_state(part, change) for part in state]
    if isinstance(state, dict):
        return {key: map_state(part, change) for key, part in state.items()}
    if is_dataclass(state) and not isinstance(state, type):
        parts = {one.name: map_state(getattr(state, one.name), change) for one in fields(state)}
        return replace(state, **parts)
    return state


def detach_state(state: State) -> State:
    """Detach every tensor of a state."""
    return map_state(state, Tensor.detach)
