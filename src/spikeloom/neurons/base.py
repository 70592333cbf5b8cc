"""What a unit is: the equation of a neuron as a frozen value, without tensors inside."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from spikeloom.base.fields import FAMILIES, Family
from spikeloom.base.registry import Registry

LOW_PRECISION = (torch.bfloat16, torch.float16)
"""Types in which products may be computed, but no state is kept."""

UNITS: Registry[type["Unit"]] = Registry("unit", "spikeloom.neurons", ("init", "step"))

Theta: TypeAlias = Mapping[str, Tensor]
"""Learnable quantities of a population by name: v_th, alpha. Absent means the unit's constant."""

State: TypeAlias = Any
"""What a unit carries from step to step: a NamedTuple of tensors, or None for a stateless unit."""


@runtime_checkable
class Unit(Protocol):
    """The equation of a neuron.

    `spiking` says whether outputs are spikes, `stateful` whether anything is carried over time,
    `learn` names the quantities that are trained, `per_channel` whether each channel has its own.

    What some rules ask for besides is declared by an attribute of the class that defines `step`, or
    of one derived from it; a rule that needs it refuses units without:

    - `trace_decay`: factor in [0, 1] by which all that a unit remembers of an input fades per step;
      None where no fixed number says so. It is the decay of a presynaptic trace (OTTT), and the
      discount of a rate.
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
        """Return the state before the first step, for a current of this shape."""
        ...

    def step(self, state: State, current: Tensor, theta: Theta) -> tuple[Tensor, State]:
        """Advance one step: the output and the new state."""
        ...

    def rate(self, current: Tensor, theta: Theta) -> Tensor:
        """Return the steady output rate under a constant current."""
        ...


FAMILIES[Unit] = Family(UNITS, ("spiking", "stateful", "learn", "per_channel", "init", "step"))


def declares(unit: object, name: str) -> bool:
    """Whether a unit has an attribute that speaks of its own equation.

    What a class says of its `step` does not hold for a derived class with another `step`.
    """
    stepped = False
    for kind in type(unit).__mro__:
        if name in vars(kind) or name in vars(kind).get("__annotations__", {}):
            return not stepped
        stepped = stepped or "step" in vars(kind)
    return name in getattr(unit, "__dict__", {})


def state_zeros(current: Tensor) -> Tensor:
    """Return zeros shaped like `current`, in float32 where `current` has less precision."""
    low = current.dtype in LOW_PRECISION
    return torch.zeros_like(current, dtype=torch.float32 if low else None)


def map_state(state: State, change: Any) -> State:
    """Apply `change` to every tensor of a state; the structure stays."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, tuple):
        parts = [map_state(part, change) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def detach_state(state: State) -> State:
    """Cut every gradient path through a state."""
    return map_state(state, Tensor.detach)
