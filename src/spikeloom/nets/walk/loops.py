"""The walk through a feedback loop in layer order: the blocks inside run step by step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spikeloom.nets.module.build import Component
from spikeloom.nets.module.site import Site
from spikeloom.nets.walk.state import Held, NetState
from spikeloom.nets.walk.walk import StepWalk, is_constant


class LoopWalk(StepWalk):
    r"""Runs the blocks of one component over all steps.

    The first synapse depends on no feedback, so its current is computed before, for all steps.

    Args:
        walking: as for `Walk`, in layer order.
        component: with feedback edges inside.
        fed: values that edges from earlier blocks add, by the edge's number; the first value
            belongs to step `delay`.

    Shape:
        fed: [T - delay, B, ...].
    """

    def __init__(
        self, *walking: Any, component: Component, fed: Mapping[int, Tensor] | None = None
    ) -> None:
        super().__init__(*walking, before=NetState())
        self.component = component
        self.edges = component.edges
        self._fed = fed or {}
        self._constant = False

    def run(self, x: Tensor, currents: Tensor) -> dict[int, Tensor]:
        r"""Return the output trains of the blocks that send feedback, by block number.

        The component's last block is among them.

        Args:
            x: input of the first block.
            currents: current of its first layer, after the norm.

        Shape:
            x, currents, results: [T, B, ...].
        """
        component, name = self.component, self.component.entrance.name
        self._constant = is_constant(x)
        trains: dict[int, list[Tensor]] = {}
        for step, current in zip(x.unbind(0), currents.unbind(0), strict=True):
            self.held = Held({name: current})
            self.feed()
            self.blocks(step, component.first, component.end)
            for number, out in self.outputs.items():
                trains.setdefault(number, []).append(out)
            self.advance()
        # joining along the batch axis keeps the memory layout of images
        return {
            number: torch.cat(outs).unflatten(0, (len(outs), -1)) for number, outs in trains.items()
        }

    def feed(self) -> None:
        """Add the values of the loop's own edges, then those of edges from earlier blocks."""
        super().feed()
        for number, train in self._fed.items():
            edge, t = self.plan.edges[number], self.before.t
            if t >= edge.spec.delay:
                self.add(edge, train[t - edge.spec.delay])

    def advance(self) -> None:
        """Go on to the next step."""
        self.before = self.after()
        self.units, self.psp, self.added, self.outputs = {}, {}, {}, {}

    def reused(self, site: Site) -> bool:
        """Whether the input is constant, so that this current was computed for step 0."""
        return self._constant and super().reused(site)
