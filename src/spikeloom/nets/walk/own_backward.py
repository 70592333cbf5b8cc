"""Components whose backward pass the rule writes itself (`nets.ops.OwnBackward`)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.base.autograd import refuse_second
from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.module.build import Component
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import OwnBackward, Trains

Run = Callable[[Tensor], tuple[Tensor, Trains]]
"""From the currents of a component's first site to its output and the trains of its sites."""


class Recording:
    """An observer that keeps inputs, currents and outputs of the sites of a component."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[list[Tensor], ...]] = {}

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Keep the tensors of one call of a site."""
        lists = self._seen.setdefault(site.name, ([], [], []))
        for kept, value in zip(lists, (x_in, current, s_out), strict=True):
            if value is not None:
                kept.append(value)

    def trains(self, component: Component, x: Tensor) -> Trains:
        r"""Return all as trains; an edge whose delay is T or more has a train of 0 steps.

        Args:
            component: the component that ran.
            x: input of its first site. It is passed because a constant input was seen only once.

        Shape:
            x: [T, B, \*in_shape].
        """

        def of(row: int) -> dict[str, Tensor]:
            trains = {}
            for site in component.sites:
                shape = site.out_shape if row else site.synapse.in_shape
                nothing = x.new_zeros((0, x.shape[1], *shape))
                trains[site.name] = torch.cat(self._seen.get(site.name, ([nothing],) * 3)[row])
            return trains

        return Trains(of(0) | {component.entrance.name: x.detach()}, of(1), of(2))


def run_own(sequence: OwnBackward, component: Component, currents: Tensor, run: Run) -> Tensor:
    """Run a component with the net's forward pass and the rule's backward pass.

    Args:
        sequence: the rule's backward pass.
        component: the component.
        currents: current of its first site, after the norm.
        run: the forward pass.

    Shape:
        currents: [T, B, ...]; result: [T, B, ...].
    """
    job = _Job(sequence, component)
    out: Tensor = _Own.apply(  # pyright: ignore[reportAssignmentType]
        job, run, currents, *job.trained.values()
    )
    return out


def _trained_inside(component: Component) -> dict[str, nn.Parameter]:
    """Return the parameters whose gradients the rule must supply, by a name for messages.

    These are all parameters after the current of the component's first site.
    """
    found: dict[nn.Parameter, str] = {}
    for site in component.sites:
        modules: dict[str, nn.Module | None] = {"neuron": site.neuron}
        if site is not component.entrance:
            modules |= {"synapse": site.synapse, "norm": site.norm}
        for name, module in modules.items():
            for key, value in module.named_parameters() if module is not None else ():
                if value.requires_grad:
                    found.setdefault(value, f"{site.name} {name}.{key}")
    return {name: value for value, name in found.items()}


class _Job:
    """Values other than tensors that the forward pass leaves to the backward pass."""

    def __init__(self, sequence: OwnBackward, component: Component) -> None:
        self.sequence, self.component = sequence, component
        self.trained = _trained_inside(component)

    def gradients(self, trains: Trains, grad: Tensor) -> Iterable[Tensor]:
        """Yield the rule's gradients: of the current, then of the parameters in order.

        Raises:
            UnsupportedNet: the rule gave no gradient for a parameter, which would stay untrained.
        """
        given = self.sequence.backward(self.component, trains, grad)
        yield given.currents
        for name, value in self.trained.items():
            if value not in given.trained:
                raise UnsupportedNet(
                    f"net layer {name}: expected its gradient from the rule's own backward pass, "
                    "got none; add it to Gradients.trained, or refuse the net in prepare."
                )
            yield given.trained[value]


class _Own(torch.autograd.Function):
    """Forward: the net's own. Backward: the rule's function, from the saved trains."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, job: _Job, run: Run, currents: Tensor, *trained: Tensor
    ) -> Tensor:
        out, trains = run(currents)
        ctx.job, ctx.names = job, tuple(trains.inputs)
        ctx.save_for_backward(*(part[name] for part in trains for name in ctx.names))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102
        refuse_second("nets.ops.OwnBackward", "its backward pass has no graph; use bptt")
        kept = iter(ctx.saved_tensors)
        trains = Trains(*({name: next(kept) for name in ctx.names} for _ in Trains._fields))
        return None, None, *ctx.job.gradients(trains, grads[0])
