"""Recordings: outputs, states and potentials of every step of a train."""

from typing import NamedTuple

import torch
from torch import Tensor

from spikeloom.neurons.base import LOW_PRECISION, State, Theta, Unit, map_state
from spikeloom.neurons.declared import CHARGED
from spikeloom.neurons.trains import state_leaves


class Recording(NamedTuple):
    """Result of `Neuron.record`; gradients pass through all of it.

    Shape:
        out, u and every tensor of states: [T, B, ...].
    """

    out: Tensor
    """Outputs: the spikes."""
    states: State
    """States after each step, in the form of the unit's state; None for a unit without state.

    For IF and LIF it is a `SpikingState`: ``states.v`` is the potential after the reset, or before
    it with order "next_step".
    """
    u: Tensor | None
    """Potentials that were compared with the firing level; None if `charged` is not declared."""

    @property
    def last(self) -> State:
        """State after the last step, to continue with."""
        return map_state(self.states, lambda train: train[-1])


def record_train(unit: Unit, currents: Tensor, theta: Theta, state: State = None) -> Recording:
    """Take a unit through a train by its reference loop and keep every step.

    Args:
        unit: the equation.
        currents: input.
        theta: trained quantities.
        state: before the first step; None for the initial state.

    Shape:
        currents: [T, B, ...].
    """
    if not unit.stateful:
        return Recording(unit.step(None, currents, theta)[0], None, None)
    state = unit.init(currents[0]) if state is None else state
    charged = CHARGED.of(unit)
    outs: list[Tensor] = []
    steps: list[list[Tensor]] = []
    potentials: list[Tensor] = []
    for current in currents.unbind(0):
        if charged is not None:
            potentials.append(charged(state, current, theta))
        out, state = unit.step(state, current, theta)
        outs.append(out.to(current.dtype) if current.dtype in LOW_PRECISION else out)
        steps.append(state_leaves(state))
    trains = iter([torch.stack(leaf) for leaf in zip(*steps, strict=True)])
    return Recording(
        torch.stack(outs),
        map_state(state, lambda _: next(trains)),
        torch.stack(potentials) if potentials else None,
    )
