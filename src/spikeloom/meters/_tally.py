"""Sums of one site over the open batch, and their record when it closes."""

from dataclasses import dataclass, fields
from math import prod

import torch
from torch import Tensor

from spikeloom.meters._pairs import formula, pairs
from spikeloom.meters._signal import Operands
from spikeloom.meters.record import SiteOperations
from spikeloom.nets.module.site import Site
from spikeloom.neurons.declared import STEP_OPERATIONS, StepOperations

MOST = StepOperations(multiplies=3, adds=1, compares=2)
"""Charged for a unit that declares no operations: those of LIF with everything it can have."""


@dataclass
class Sums:
    """Sums of one site over the open batch, per sample."""

    effective: Tensor
    ac: Tensor
    mac: Tensor
    mac_dense: Tensor
    ac_folded: Tensor
    mac_folded: Tensor
    activity: Tensor
    spikes_out: Tensor
    spike_input: Tensor

    @classmethod
    def zeros(cls, samples: int, device: torch.device) -> "Sums":
        def zero() -> Tensor:
            return torch.zeros(samples, dtype=torch.float64, device=device)

        parts = {one.name: zero() for one in fields(cls) if one.name != "spike_input"}
        return cls(**parts, spike_input=torch.ones(samples, dtype=torch.bool, device=device))


@dataclass
class Tally:
    """One site in the open batch."""

    site: Site
    sums: Sums
    evaluations: int = 0
    unit_steps: int = 0


def closed(tally: Tally, operands: Operands, again: int, samples: int) -> SiteOperations:
    """Turn a batch's sums into the record of its site.

    Args:
        tally: of the site.
        operands: of what kind they are.
        again: how often each evaluation would run without reuse of what is constant.
        samples: of the batch.
    """
    site, sums = tally.site, tally.sums
    synapse, unit = site.synapse, site.unit
    weighted = site.spec.weighted
    total = {
        one.name: int(getattr(sums, one.name).sum())
        for one in fields(sums)
        if one.name not in ("activity", "spike_input")
    }
    biased = synapse.bias is not None or site.norm is not None
    outputs = prod(site.out_shape)
    neuron_steps = outputs * tally.unit_steps * samples
    multiplies, adds, compares = _state_operations(site)
    return SiteOperations(
        name=site.name,
        kind=site.spec.kind,
        role=site.role,
        unit="none" if unit is None else "spiking" if unit.spiking else "analog",
        operands=operands,
        inputs=prod(synapse.in_shape),
        neurons=outputs,
        weights=sum(one.numel() for one in (synapse.weight, synapse.bias) if one is not None)
        if weighted
        else 0,
        formula=formula(synapse),
        pairs=pairs(synapse),
        samples=samples,
        evaluations=tally.evaluations * samples,
        map_steps=tally.evaluations * again * samples,
        unit_steps=tally.unit_steps * samples,
        ac_recomputed=total["ac"] * again,
        mac_recomputed=total["mac"] * again,
        activity=float(sums.activity.sum()),
        spike_input=bool(sums.spike_input.all()),
        bias_ac=outputs * tally.evaluations * samples if biased else 0,
        state_mac=multiplies * neuron_steps,
        state_ac=adds * neuron_steps,
        state_compare=compares * neuron_steps,
        **total,
    )


def _state_operations(site: Site) -> tuple[int, int, int]:
    """Return multiply-accumulates, additions and comparisons per neuron and step.

    They are those that a unit declares (`step_operations`), and one multiply-accumulate of a
    low-pass behind it. A stateful unit that declares none is charged `MOST`.
    """
    unit = site.unit
    if unit is None or not unit.stateful:
        return 0, 0, 0
    cost = STEP_OPERATIONS.of(unit) or MOST
    return cost.multiplies + (site.spec.psp is not None), cost.adds, cost.compares
