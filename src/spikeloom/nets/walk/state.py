"""What passes along a walk: the state of a net, what a constant input lets it keep, observers."""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Protocol, TypeVar

from torch import Tensor

from spikeloom.nets.module.fit import FitState
from spikeloom.nets.module.site import Site
from spikeloom.neurons.base import State

S = TypeVar("S")


class Observer(Protocol):
    """Watches sites; meters are observers."""

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Take note of one firing.

        Args:
            site: where.
            x_in: what the synapse received, as often as it ran: fewer steps than `current` has
                where a constant input was used again, None where it ran no time at all.
            current: what the unit received.
            s_out: what it gave, before dropout, gain and low-pass.

        Shape:
            x_in: [t, B, ...]; current, s_out: [T', B, ...], T' = 1 in time order.
        """
        ...


@dataclass(frozen=True)
class NetState:
    """All a network carries from step to step: a value, by name of site or edge."""

    t: int = 0
    units: dict[str, State] = field(default_factory=dict)
    psp: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    fits: dict[str, FitState] = field(default_factory=dict)
    feedback: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """What a constant input makes constant: currents and outputs by site, computed once."""

    currents: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Return all values, in a fixed order."""
        return [*self.currents.values(), *self.outputs.values()]

    def leaves(self) -> "Held":
        """Return the same values cut from their graph, collecting gradients of their own."""

        def leaf(value: Tensor) -> Tensor:
            return value.detach().requires_grad_(value.requires_grad)

        return Held(
            {name: leaf(value) for name, value in self.currents.items()},
            {name: leaf(value) for name, value in self.outputs.items()},
        )


def pick_rows(state: S, rows: Tensor) -> S:
    """Return a state of some samples: every tensor inside, cut down along its first axis.

    Args:
        state: a `NetState`, a unit's state, or whatever dicts, tuples and dataclasses hold them.
        rows: places in the batch.

    Shape:
        rows: [N].
    """
    picked: object = state
    if isinstance(state, Tensor):
        picked = state.index_select(0, rows)
    elif isinstance(state, dict):
        picked = {key: pick_rows(value, rows) for key, value in state.items()}
    elif isinstance(state, tuple):
        parts = [pick_rows(value, rows) for value in state]
        picked = type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    elif is_dataclass(state) and not isinstance(state, type):
        parts = {one.name: pick_rows(getattr(state, one.name), rows) for one in fields(state)}
        picked = replace(state, **parts)
    return picked  # pyright: ignore[reportReturnType] - of the type that came in
