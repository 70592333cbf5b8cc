"""The walk in layer order: each layer runs on the whole train before the next layer."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikeloom.kernels.levels import pack
from spikeloom.kernels.runs import TrainOptions
from spikeloom.nets.how import How
from spikeloom.nets.module.build import Block, Component, Edge
from spikeloom.nets.module.fit import fit_channels
from spikeloom.nets.module.norms import norm_theta
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import MeanCurrent, OwnBackward, Plain, Trains, Visit, keep
from spikeloom.nets.walk.loops import LoopWalk
from spikeloom.nets.walk.mean_current import run_by_mean
from spikeloom.nets.walk.own_backward import Recording, run_own
from spikeloom.nets.walk.saving import packing, recomputing
from spikeloom.nets.walk.walk import Walk, is_constant, kept_channels, low_pass, only_step
from spikeloom.neurons.base import Theta, Unit
from spikeloom.neurons.normed import Normed
from spikeloom.neurons.trains import run_train


class TrainWalk(Walk):
    """Runs layer after layer on whole trains [T, B, ...].

    A train that is constant over time stays an expanded view of one step, and is computed once.
    """

    def __init__(self, *walking: Any) -> None:
        super().__init__(*walking)
        self._again: dict[str, Callable[[], Tensor]] = {}
        self._start = 0

    def blocks(self, x: Tensor, first: int, end: int) -> Tensor:
        """Run blocks first..end-1; with feedback edges, component by component."""
        if not self.plan.edges:
            return super().blocks(x, first, end)
        for component in self.plan.components:
            if first <= component.first < end:
                fed = self._fed(component)
                if component.edges:
                    x = self._looped(component, x, fed)
                else:
                    x = super().blocks(x, component.first, component.end)
        return x

    def _fed(self, component: Component) -> dict[int, Tensor]:
        """Return what edges from earlier blocks add inside a component, by the edge's number.

        What they add to the component's first block is put into `added` instead.
        """
        inner: dict[int, Tensor] = {}
        for edge in self.plan.edges:
            source, target, delay = edge.spec.source, edge.spec.target, edge.spec.delay
            if source >= component.first or not component.holds(target):
                continue
            train = self._carried(edge, self.sent(edge))
            if len(train) <= delay:
                continue
            self._start = delay
            value = self.path(edge.sites, train[:-delay])
            self._start = 0
            if target == component.first:
                before = torch.zeros_like(value[:1]).expand(delay, *value.shape[1:])
                self.add(edge, torch.cat([before, value]))
            else:
                inner[edge.number] = value
        return inner

    def _carried(self, edge: Edge, train: Tensor) -> Tensor:
        if self.ops.carry == keep:
            return train
        steps = [self.ops.carry(Visit(edge.sites[0], t), x) for t, x in enumerate(train.unbind(0))]
        return torch.stack(steps)

    def _looped(self, component: Component, x: Tensor, fed: dict[int, Tensor]) -> Tensor:
        """Run a feedback loop; only its first synapse and norm run on all steps at once."""
        entrance, last = component.entrance, component.end - 1
        currents = self.current(entrance, x)
        if entrance.name in self.added:
            currents = currents + self.added[entrance.name]
        sequence = self.ops.sequence
        if isinstance(sequence, OwnBackward):

            def run(currents: Tensor) -> tuple[Tensor, Trains]:
                seen = Recording()
                # plain maps: autograd records nothing here, the rule computes the gradients
                ops = replace(self.ops, synapse=Plain(), sequence=None)
                setting = self.setting._replace(ops=ops, watched=True)
                walking = (self.plan, setting, {}, self.rng, (*self.observers, seen))
                trains = LoopWalk(*walking, component=component).run(x, currents)
                return trains[last], seen.trains(component, x)

            trains = {last: run_own(sequence, component, currents, run)}
        else:
            walking = (self.plan, self.setting, self._hows, self.rng, self.observers)
            trains = LoopWalk(*walking, component=component, fed=fed).run(x, currents)
        self.outputs.update(trains)
        return trains[last]

    def current(self, site: Site, x: Tensor) -> Tensor:
        """Run the synapse and the norm on all steps at once; for a constant train on one step."""
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
        """Run a unit over currents before the norm; its kernel applies the norm if that is faster.

        See `How.inside`.
        """
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
            out = self.ops.emit(self.visit(site), self._train(site, x, current))
        if self.observers:
            once = is_constant(current) and not (site.unit and site.unit.stateful)
            seen = (current[:1], out[:1]) if once else (current, out)
            self.report(site, x[:1] if is_constant(x) else x, *seen)
        steps = out.shape[0]
        drops = self.setting.training and site.spec.dropout > 0
        if drops and not site.spec.dropout_held:
            labels = [f"{site.name}/{t}" for t in range(self._start, self._start + steps)]
            out = out * torch.stack([self.mask(site, out[0], label) for label in labels])
        if is_constant(out) and steps > 1:
            out = out[:1]  # what follows treats all steps alike, except the low-pass at the end
        if drops and site.spec.dropout_held:
            out = out * self.mask(site, out[0], site.name)
        out = self.scaled(site, out)
        out = out.expand(steps, *out.shape[1:])
        if site.spec.psp is not None:
            carry = None if self.ops.carry == keep else partial(self._psp, site)
            out = low_pass(out, site.spec.psp.decay, site.spec.psp.scale, carry)
        return out

    def _psp(self, site: Site, t: int, value: Tensor) -> Tensor:
        return self.ops.carry(Visit(site, self._start + t), value)

    def _train(self, site: Site, x: Tensor, currents: Tensor) -> Tensor:
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
        if isinstance(sequence, OwnBackward):
            return self._by_rule(sequence, site, x, currents)
        if sequence is not None:
            return sequence(self.visit(site), currents)
        if how.norm == "inside":
            return self._normed(site, currents)
        if self.ops.carry != keep:
            return self._by_step(site, currents)
        again = self._again.pop(site.name, None)
        with recomputing(currents, again) if again else nullcontext():
            return _ran(unit, currents, theta, how)

    def _by_rule(self, sequence: OwnBackward, site: Site, x: Tensor, currents: Tensor) -> Tensor:
        """Run a unit with its own forward pass and the rule's backward pass."""
        assert site.unit is not None
        unit, theta, how = site.unit, self.theta(site), self.how(site)

        def run(currents: Tensor) -> tuple[Tensor, Trains]:
            out = _ran(unit, currents, theta, how)
            return out, Trains({site.name: x.detach()}, {site.name: currents}, {site.name: out})

        return run_own(sequence, Component((site,)), currents, run)

    def _by_step(self, site: Site, currents: Tensor) -> Tensor:
        """Run a unit step by step, since the rule changes its state between steps."""
        assert site.unit is not None
        state, outs = None, []
        for t, current in enumerate(currents.split(1)):
            out, state = run_train(
                site.unit, current, self.theta(site), state, kernels=self.how(site).loop
            )
            state = self.ops.carry(Visit(site, self._start + t), state)
            outs.append(out)
        return torch.cat(outs)

    def fit(self, block: Block, turn: int, y: Tensor) -> Tensor:
        """Fit channels step by step, since "topk" chooses them at the first active step."""
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
    """Run a unit over a train as `how` says; `rate` belongs to a norm (see `TrainOptions`)."""
    options = TrainOptions(how.pool, final=False, spent=how.spare, rate=rate)
    return run_train(unit, currents, theta, kernels=how.loop, options=options)[0]


def _again(site: Site, x: Tensor) -> Callable[[], Tensor]:
    """Return a function that computes a site's currents again; it keeps the input packed."""
    steps, kept = x.shape[0], pack(x.flatten(0, 1)) or x.flatten(0, 1)

    def compute() -> Tensor:
        flat = kept if isinstance(kept, Tensor) else kept.unpack()
        return site.synapse(flat).unflatten(0, (steps, -1))

    return compute
