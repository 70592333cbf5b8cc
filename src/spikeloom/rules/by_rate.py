"""What rules that learn through firing rates share: refusals, and the simulation of the rates."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikeloom.base.autograd import backpropagate
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.norms import statistics
from spikeloom.nets.module.site import Site
from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.ops import OnWeights, Ops, Visit
from spikeloom.nets.readout import Loss, Objective
from spikeloom.nets.walk.edge_rates import EdgeRates
from spikeloom.nets.walk.walk import is_constant
from spikeloom.neurons.declared import FIRING_THRESHOLD, RATE
from spikeloom.neurons.reduction import RunningMean, decay_of
from spikeloom.rules.base import LearningRule, refuse_tail
from spikeloom.rules.clamps import refuse_units

FEW = 4
"""Steps below which rates are too coarse."""


class ThroughRates(LearningRule):
    """Base of rules whose loss stands on the rates, after T steps."""

    @property
    def loss_at(self) -> Literal["end", "step"]:
        """On the rates."""
        return "end"


class OnceWeights:
    """Effective weights, made once per batch: simulation and gradient see the same ones.

    Making them twice could give two values: a bounded norm advances its power iteration each time.
    """

    def __init__(self) -> None:
        self._made: dict[Synapse, Tensor] = {}

    @property
    def ops(self) -> Ops:
        """The seams to run a net with."""
        return Ops(synapse=OnWeights(self.synapse))

    def synapse(self, visit: Visit, x: Tensor) -> Tensor:
        r"""Apply the map of a site with weights.

        Shape:
            x: [N, \*in_shape]; result: [N, \*out_shape].
        """
        synapse = visit.site.synapse
        if synapse not in self._made:
            with torch.enable_grad():
                self._made[synapse] = synapse.effective_weight()
        return synapse.apply_map(x, self._made[synapse], synapse.bias)


@dataclass(frozen=True)
class Settled:
    r"""The rates after a simulation of T steps.

    They are means over time, discounted by :math:`\lambda^{T-t}` where the unit leaks.

    Args:
        features: what the head reads, already reduced over time where it says how.
        sources: rates at the start of each feedback edge, by its number.
        x: mean input.
        units: rates of spikes by site, where they were asked for.

    Shape:
        features: [B, D], or [T, B, D] where the head reads all steps; sources, units: [B, ...]; x:
            [B, \*in_shape].
    """

    features: Tensor
    sources: dict[int, Tensor]
    x: Tensor
    units: dict[str, Tensor]


@torch.no_grad()
def settle(
    net: SpikingNet,
    batch: Batch,
    weights: OnceWeights,
    shares: Sequence[float] | None = None,
    *,
    units: bool = False,
) -> Settled:
    """Simulate T steps and return the rates.

    Batch norms do not learn from single steps. The norm of the first layer uses the statistics of
    the mean input, all others use their running statistics.

    Args:
        net: the network.
        batch: its input.
        weights: effective weights of this batch.
        shares: weight of each step in what the head reads (`Objective.weights`); the features are
            then summed as they come. None keeps the features of all steps.
        units: whether to return the rates of all populations.
    """
    constant = is_constant(batch.xs)
    mean = RunningMean(decay_of(net.sites[0].unit))
    for frame in () if constant else batch.xs:
        mean.add(frame)
    x = batch.xs[0] if constant else mean.value
    ops, state, kept, total = weights.ops, None, [], None
    edges, rates = EdgeRates(net), _Rates()
    with _simulating(net, x, weights), net.observe(*([rates] if units else [])):
        held = None
        if constant and batch.steps > 1:
            held = net.hold(x, ops, steps=1, rng=batch.rng)
        for t, frame in enumerate(batch.xs.unbind(0)):
            h, state = net.step(frame, state, ops, rng=batch.rng, held=held)
            edges.add(state)
            if shares is None:
                kept.append(h)
            elif total is None:
                total = shares[t] * h.to(torch.promote_types(h.dtype, torch.float32))
            else:
                total.add_(h, alpha=shares[t])
    found = {name: one.value for name, one in rates.means.items()}
    return Settled(torch.stack(kept) if total is None else total, edges.values, x, found)


def loss_on_rates(
    settled: Settled, objective: Objective, shares: Sequence[float] | None
) -> tuple[Loss, Tensor]:
    r"""Return the loss on the rates and its gradient there; add the gradients of the head.

    .. math:: g = \sum_t \partial L / \partial s[t]

    Args:
        settled: the rates.
        objective: the loss.
        shares: as for `settle`.

    Shape:
        g: [B, D].
    """
    features = settled.features.requires_grad_()
    loss = objective.over(features) if shares is None else objective(features)
    backpropagate([loss.value])
    assert features.grad is not None
    g = features.grad.sum(0) if shares is None else sum(shares) * features.grad
    return Loss(loss.logits.detach(), loss.value.detach()), g


def refuse_equilibrium(net: SpikingNet, rule: str) -> None:
    """Refuse nets whose rates have no equilibrium that can be differentiated.

    Raises:
        UnsupportedNet: the message says what to add or change.
    """
    refuse_tail(net, rule)
    place = f"rules.{rule}"
    for number, edge in enumerate(net.spec.feedback):
        if edge.detach:
            came = f"detach = true on edge {number}"
            raise UnsupportedNet.of(place, "feedback that passes a gradient", came, "drop it")
    for site in net.sites:
        if site.spec.dropout and not site.spec.dropout_held:
            expected = f"one dropout mask for all steps in layer {site.name}"
            todo = "set dropout_held = true"
            raise UnsupportedNet.of(place, expected, "a fresh one at each", todo)
    refuse_units(net, rule)
    for site in net.sites:
        if site.unit is not None:
            RATE.needed(site.unit, place, site.name)


@torch.no_grad()
def cautions_of(net: SpikingNet, steps: int, rule: str) -> list[str]:
    """Return cautions: rates that are too coarse, feedback whose rates may not settle."""
    lines = []
    if steps < FEW:
        lines.append(
            f"rules.{rule}: firing rates at T = {steps} have a resolution of only 1/{steps}, and "
            f"this rule takes gradients of rates; use {FEW} steps or more."
        )
    for edge in net.plan.edges:
        synapse = edge.sites[-1].synapse
        target = net.plan.blocks[edge.spec.target].passes[0].sites[0]
        if edge.spec.restrict is not None or not edge.sites[-1].spec.weighted:
            continue
        threshold = FIRING_THRESHOLD.of(target.unit) if target.unit else None
        scale = 1.0 if threshold is None else float(torch.as_tensor(threshold({})).min())
        norm = float(torch.linalg.matrix_norm(synapse.effective_weight().flatten(1), 2)) / scale
        if norm >= 1:
            lines.append(
                f"rules.{rule}: feedback edge {edge.number} has norm {norm:.2f} relative to its "
                "threshold; only a norm below 1 guarantees that rates settle; set restrict on the "
                "edge, or raise v_th."
            )
    return lines


class _Rates:
    """Observer that averages the spikes of all populations over time."""

    def __init__(self) -> None:
        self.means: dict[str, RunningMean] = {}

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        if site.unit is not None:
            self.means.setdefault(site.name, RunningMean(decay_of(site.unit))).add(s_out[0])


@contextmanager
def still(net: SpikingNet) -> Iterator[None]:
    """Leave the running statistics of batch norms unchanged inside the block."""
    norms = [site.norm for site in net.sites if site.norm is not None]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    before = [None if count is None else count.clone() for count in counts]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for count, value in zip(counts, before, strict=True):
            if count is not None and value is not None:
                count.copy_(value)  # norms without momentum divide by it


@contextmanager
def _simulating(net: SpikingNet, x: Tensor, weights: OnceWeights) -> Iterator[None]:
    """Fix the statistics of batch norms inside the block, as `settle` says."""
    norms = [(site, site.norm) for site in net.sites if site.norm is not None]
    before = [(norm.training, norm.running_mean, norm.running_var) for _, norm in norms]
    try:
        for site, norm in norms:
            if norm.training and site.external and site.source is None:
                current = weights.ops.synapse(Visit(site), x)
                norm.running_mean, norm.running_var = statistics(norm, current)
            norm.eval()
        yield
    finally:
        for (_, norm), (training, mean, var) in zip(norms, before, strict=True):
            norm.train(training)
            norm.running_mean, norm.running_var = mean, var


def pulled(
    outs: Sequence[Tensor], grads: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Return vector-Jacobian products; zeros where nothing depends."""
    pairs = [(out, grad) for out, grad in zip(outs, grads, strict=True) if out.requires_grad]
    if not inputs or not pairs:
        return [torch.zeros_like(one) for one in inputs]
    found = torch.autograd.grad(
        [out for out, _ in pairs],
        list(inputs),
        [grad.to(out.dtype) for out, grad in pairs],
        retain_graph=True,
        allow_unused=True,
    )
    return [
        torch.zeros_like(one) if grad is None else grad
        for one, grad in zip(inputs, found, strict=True)
    ]
