"""The walk of whole trains, layer after layer."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from spikeloom.kernels.levels import pack
from spikeloom.kernels.runs import TrainOptions
from spikeloom.nets.how import How
from spikeloom.nets.module.build import Block
from spikeloom.nets.module.fit import fit_channels
from spikeloom.nets.module.norms import norm_theta
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import MeanCurrent, Visit, keep
from spikeloom.nets.walk.mean_current import run_by_mean
from spikeloom.nets.walk.saving import packing, recomputing
from spikeloom.nets.walk.walk import Walk, is_constant, kept_channels, low_pass, only_step
from spikeloom.neurons.base import Theta, Unit
from spikeloom.neurons.normed import Normed
from spikeloom.neurons.trains import run_train


class TrainWalk(Walk):
    """Layer after layer on whole trains [T, B, ...]; a constant train stays one tensor."""

    def __init__(self, *walking: Any) -> None:
        super().__init__(*walking)
        self._again: dict[str, Callable[[], Tensor]] = {}

    def current(self, site: Site, x: Tensor) -> Tensor:
        """Run the synapse once on all steps, once in all on a constant train."""
        how = self.how(site)
        if not how.packed:
            return self._current(site, x)
        if how.again and not is_constant(x):
            self._again[site.name] = _again(site, x)
        with packing():
            return self._current(site, x)

    def _current(self, site: Site, x: Tensor) -> Tensor:
        steps, once = x.shape[0], is_constant(x)
        flat, copies = (only_step(x), steps) if once else (x.flatten(0, 1), 1)
        if self.how(site).norm == "inside":
            current = self.ops.synapse(self.visit(site, copies), flat)
        elif not once and site.spec.norm == "batch_step" and site.norm and site.norm.training:
            current = self.ops.synapse(self.visit(site, copies), flat)
            parts = current.unflatten(0, (steps, -1)).unbind(0)
            return torch.stack([site.normalise(part) for part in parts])
        else:
            current = self.normalised(site, flat, copies=copies)
        if once:
            return current.unsqueeze(0).expand(steps, *current.shape)
        return current.unflatten(0, (steps, -1))

    def _normed(self, site: Site, currents: Tensor) -> Tensor:
        """Run a unit whose norm was left to it over a train of raw currents."""
        assert site.norm is not None and site.unit is not None
        how, theta, rate = self.how(site), self.theta(site), None
        copies = len(currents) if is_constant(currents) else 1
        once = currents.detach()[: len(currents) // copies]
        site.check_statistics(once[0], steps=len(currents))
        unit: Unit = Normed(site.unit)  # pyright: ignore[reportAssignmentType] - spikes as it does
        if how.inside(len(once)):
            of_norm, rate = norm_theta(site.norm, once, copies)
            theta = {**theta, **of_norm}
        else:
            unit, currents = site.unit, self._normalised_first(site, currents)
        return _ran(unit, currents, theta, how, rate)

    def _normalised_first(self, site: Site, currents: Tensor) -> Tensor:
        steps = currents.shape[0]
        if is_constant(currents):
            once = site.normalise(only_step(currents), steps=steps)
            return once.unsqueeze(0).expand(currents.shape)
        return site.normalise(currents.flatten(0, 1)).unflatten(0, (steps, -1))

    def fire(self, site: Site, x: Tensor, current: Tensor) -> Tensor:
        """Run the unit over the whole train."""
        out = current
        if site.neuron:
            out = self.ops.emit(self.visit(site), self._train(site, current))
        if self.observers:
            once = is_constant(current) and not (site.unit and site.unit.stateful)
            seen = (current[:1], out[:1]) if once else (current, out)
            self.report(site, x[:1] if is_constant(x) else x, *seen)
        steps = out.shape[0]
        drops = self.setting.training and site.spec.dropout > 0
        if drops and not site.spec.dropout_held:
            labels = [f"{site.name}/{t}" for t in range(steps)]
            out = out * torch.stack([self.mask(site, out[0], label) for label in labels])
        if is_constant(out) and steps > 1:
            out = out[:1]  # what follows keeps a constant train constant
        if drops and site.spec.dropout_held:
            out = out * self.mask(site, out[0], site.name)
        out = self.scaled(site, out)
        out = out.expand(steps, *out.shape[1:])
        if site.spec.psp is not None:
            out = low_pass(out, site.spec.psp.decay, site.spec.psp.scale)
        return out

    def _train(self, site: Site, currents: Tensor) -> Tensor:
        assert site.neuron is not None
        unit = site.neuron.unit
        if not unit.stateful:
            if is_constant(currents):
                out = unit.step(None, only_step(currents), self.theta(site))[0]
                return out.unsqueeze(0).expand(currents.shape[0], *out.shape)
            return unit.step(None, currents, self.theta(site))[0]
        how, theta, sequence = self.how(site), self.theta(site), self.ops.sequence
        if isinstance(sequence, MeanCurrent):
            return run_by_mean(sequence, self.visit(site), currents, theta, how)
        if sequence is not None:
            return sequence(self.visit(site), currents)
        if how.norm == "inside":
            return self._normed(site, currents)
        if self.ops.carry != keep:
            return self._by_step(site, currents)
        again = self._again.pop(site.name, None)
        with recomputing(currents, again) if again else nullcontext():
            return _ran(unit, currents, theta, how)

    def _by_step(self, site: Site, currents: Tensor) -> Tensor:
        """Run a unit whose state the rule changes from step to step."""
        assert site.unit is not None
        state, outs = None, []
        for t, current in enumerate(currents.split(1)):
            out, state = run_train(
                site.unit, current, self.theta(site), state, kernels=self.how(site).loop
            )
            state = self.ops.carry(Visit(site, t), state)
            outs.append(out)
        return torch.cat(outs)

    def fit(self, block: Block, turn: int, y: Tensor) -> Tensor:
        """Fit channels step by step, since "topk" chooses at the first active step."""
        if y.shape[2] == block.in_shape[0]:
            return y
        state, parts = None, []
        for step in (y[:1] if is_constant(y) else y).unbind(0):
            part, state = fit_channels(
                step, block.in_shape[0], block.spec.fit, kept_channels(self.plan, block), state
            )
            parts.append(part)
        fitted = torch.stack(parts)
        return fitted.expand(y.shape[0], *fitted.shape[1:])


def _ran(
    unit: Unit, currents: Tensor, theta: Theta, how: How, rate: Tensor | None = None
) -> Tensor:
    """Run a unit over a train as it was decided; `rate` is a norm's (`run_train`)."""
    options = TrainOptions(how.pool, final=False, spent=how.spare, rate=rate)
    return run_train(unit, currents, theta, kernels=how.loop, options=options)[0]


def _again(site: Site, x: Tensor) -> Callable[[], Tensor]:
    """Return how a site's currents are computed from its input, kept in few bits."""
    steps, kept = x.shape[0], pack(x.flatten(0, 1)) or x.flatten(0, 1)

    def compute() -> Tensor:
        flat = kept if isinstance(kept, Tensor) else kept.unpack()
        return site.synapse(flat).unflatten(0, (steps, -1))

    return compute
