"""State of a net between steps, values that a constant input keeps constant, and observers."""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Protocol, TypeVar

from torch import Tensor

from spikeloom.nets.module.fit import FitState
from spikeloom.nets.module.site import Site
from spikeloom.neurons.base import State

S = TypeVar("S")


class Observer(Protocol):
    """Protocol of objects that watch the sites of a net while it runs, e.g. meters."""

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Read the tensors of one call of a site.

        Args:
            site: the site.
            x_in: input of the synapse, once for each time the synapse ran. For a constant input
                the synapse runs once for all steps; None if it did not run in this call.
            current: input of the unit.
            s_out: output of the unit, before dropout, gain and low-pass.

        Shape:
            x_in: [t, B, ...], t the number of runs of the synapse; current, s_out: [T', B, ...],
            T' = T for a whole train and 1 for a single step.
        """
        ...


@dataclass(frozen=True)
class NetState:
    """Everything a network carries from one step to the next.

    Args:
        t: number of steps done.
        units: states of the units, by site name.
        psp: outputs of the low-pass filters, by site name; "input" for the network's input.
        masks: dropout masks that hold for all steps, by site name.
        fits: channels chosen by fit = "topk", by "block.pass".
        feedback: outputs that still travel along a feedback edge, oldest first, by edge number.
    """

    t: int = 0
    units: dict[str, State] = field(default_factory=dict)
    psp: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    fits: dict[str, FitState] = field(default_factory=dict)
    feedback: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """Currents and outputs that a constant input keeps constant, by site name; computed once."""

    currents: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Return all values, in a fixed order."""
        return [*self.currents.values(), *self.outputs.values()]

    def leaves(self) -> "Held":
        """Return the same values detached from their graph, as leaves that collect gradients."""

        def leaf(value: Tensor) -> Tensor:
            return value.detach().requires_grad_(value.requires_grad)

        return Held(
            {name: leaf(value) for name, value in self.currents.items()},
            {name: leaf(value) for name, value in self.outputs.items()},
        )


def pick_rows(state: S, rows: Tensor) -> S:
    """Return the state of some samples of a batch: every tensor is indexed along its first axis.

    Args:
        state: a `NetState`, a unit's state, or dicts, tuples and dataclasses of them.
        rows: indices in the batch.

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
