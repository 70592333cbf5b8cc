"""Units whose rate is a clamp of their mean current: which are, and that they do what they say."""

from typing import NamedTuple

import torch
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.neurons.base import Theta, Unit
from spikeloom.neurons.declared import (
    FIRING_THRESHOLD,
    RATE,
    RATE_CLAMP,
    TRACE_DECAY,
    NoRateClamp,
)

TRIED = (-0.5, 0.25, 0.5, 0.75, 1.5)
"""Currents, as x = q c / v_th, at which a `rate` is compared with the clamp of its unit."""

FADED = 1e-30
"""Share of an initial potential that no longer counts."""

FARTHEST = 100.0
"""The largest initial potential, in thresholds, that may explain a unit's spikes."""

STEPS = 64
"""Steps for which a unit is compared with the equation of its clamp."""

CLOSE = 1e-4
"""How far a rate, or a potential in thresholds, may be off by rounding."""


class Clamped(NamedTuple):
    r"""What the mathematics of rates needs of a unit: :math:`a = clamp(q z / v_{th}, 0, 1)`.

    Args:
        decay: :math:`\lambda`, by which z is discounted.
        scale: q.
        level: f, in thresholds.
    """

    decay: float
    scale: float
    level: float


def clamped(unit: Unit) -> Clamped:
    """Return the clamp of a unit that has passed `refuse_units`."""
    decay, clamp = TRACE_DECAY.of(unit), RATE_CLAMP.of(unit)
    assert decay is not None and clamp is not None and not isinstance(clamp, NoRateClamp)
    return Clamped(decay, clamp.scale, clamp.level)


def refuse_units(net: SpikingNet, rule: str) -> None:
    """Refuse populations whose rate is no clamp of their mean current, or not the one they declare.

    Raises:
        UnsupportedNet: the message names the layer and what to change.
    """
    place, tried = f"rules.{rule}", []
    device = next((one.device for one in net.parameters()), None)
    for site in net.sites:
        unit = site.unit
        if unit is None or not unit.stateful:
            continue
        clamp = RATE_CLAMP.needed(unit, place, site.name)
        if isinstance(clamp, NoRateClamp):
            raise UnsupportedNet(
                f"{place}: expected {clamp.expected} in layer {site.name}, got {clamp.came}; "
                "change the unit."
            )
        decay = TRACE_DECAY.needed(unit, place, site.name)
        if not decay:
            raise UnsupportedNet(
                f"{place}: expected a fixed trace_decay above 0 in layer {site.name}, got "
                f"{decay} of {type(unit).__name__}; change the unit, or give NoRateClamp as its "
                "rate_clamp."
            )
        FIRING_THRESHOLD.needed(unit, place, site.name)
        if unit not in tried:
            _try(site, unit, place, device)
            tried.append(unit)


@torch.no_grad()
def _try(site: Site, unit: Unit, place: str, device: torch.device | None) -> None:
    """Refuse a unit that does not do as it declares."""
    assert site.neuron is not None
    theta = {name: value.double() for name, value in site.neuron.theta().items()}
    clamp, kind = clamped(unit), type(unit).__name__
    threshold = FIRING_THRESHOLD.needed(unit, place, site.name)(theta)
    v_th = torch.as_tensor(threshold, dtype=torch.float64, device=device)
    if not bool((v_th > 0).all()):
        raise UnsupportedNet(
            f"{place}: expected a firing_threshold above 0 in layer {site.name}, got "
            f"{float(v_th.min()):.3g} of {kind}; change it."
        )
    if (off := _rate_gap(unit, theta, v_th, clamp)) > CLOSE:
        raise UnsupportedNet(
            f"{place}: expected a rate that is the clamp of {kind} in layer {site.name}, got one "
            f"that is off by up to {off:.2g}; correct its rate, rate_clamp or firing_threshold."
        )
    if (step := _first_other_step(unit, theta, v_th, clamp)) is not None:
        raise UnsupportedNet(
            f"{place}: expected spikes of {kind} in layer {site.name} as trace_decay, rate_clamp "
            f"and firing_threshold declare them, got others (step {step} of a trial train); "
            "correct what it declares, or give NoRateClamp as its rate_clamp."
        )


def _rate_gap(unit: Unit, theta: Theta, v_th: Tensor, clamp: Clamped) -> float:
    """Return how far a unit's own `rate` is from its clamp at most; 0 for one without."""
    rate = RATE.of(unit)
    if rate is None:
        return 0.0
    x = v_th.new_tensor(TRIED).view(-1, *[1] * max(v_th.dim(), 1))
    return float((rate(x * v_th / clamp.scale, theta) - x.clamp(0, 1)).abs().max())


def _first_other_step(unit: Unit, theta: Theta, v_th: Tensor, clamp: Clamped) -> int | None:
    r"""Return the step from which on a unit's spikes are not those of its clamp; None for all.

    With :math:`U[t] = \lambda S[t-1] + q c[t]` and :math:`S[t] = U[t] - v_{th} s[t]`, there must be
    one initial potential v, within `FARTHEST` thresholds, so that at every step

    .. math:: s[t] = H(U[t] + \lambda^t v - f v_{th}).
    """
    current = v_th.new_zeros(1, *(v_th.shape or (1,)))
    state, charge = unit.init(current), torch.zeros_like(current)
    lowest, highest = current - FARTHEST * v_th, current + FARTHEST * v_th
    for t in range(1, STEPS + 1):
        x = (t * 0.6180339887) % 1 * 2.5 - 1  # spread evenly, in no simple order
        s, state = unit.step(state, current + x * v_th / clamp.scale, theta)
        charge = clamp.decay * charge + x * v_th
        share = max(clamp.decay**t, FADED)
        start, slack = (clamp.level * v_th - charge) / share, CLOSE * v_th / share
        lowest = torch.where(s > 0, torch.maximum(lowest, start - slack), lowest)
        highest = torch.where(s > 0, highest, torch.minimum(highest, start + slack))
        if not bool((lowest <= highest).all()) or not bool(((s == 0) | (s == 1)).all()):
            return t
        charge = charge - v_th * s
    return None
