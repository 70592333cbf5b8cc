"""Units whose rate is a clamp of their mean current: how they are recognised and tested."""

from typing import NamedTuple

import torch
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.neurons.base import Theta, Unit
from spikeloom.neurons.declared import FIRING_THRESHOLD, RATE, RATE_CLAMP, TRACE_DECAY, NoRateClamp

TRIED = (-0.5, 0.25, 0.5, 0.75, 1.5)
"""Currents, as x = q c / v_th, at which a `rate` is compared with the clamp of its unit."""

FADED = 1e-30
"""Share of an initial potential below which it no longer counts."""

FARTHEST = 100.0
"""The largest initial potential, in thresholds, that may explain a unit's spikes."""

STEPS = 64
"""Steps for which a unit is compared with the equation of its clamp."""

CLOSE = 1e-4
"""How far a rate, or a potential in thresholds, may be off by rounding."""


class Clamped(NamedTuple):
    r"""The clamp of a unit, :math:`a = clamp(q z / v_{th}, 0, 1)`.

    Args:
        decay: :math:`\lambda`, by which z is discounted.
        scale: q.
        level: f, the potential at which it fires, in thresholds.
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
    """Refuse populations whose rate is no clamp of their mean current, or another than declared.

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
            expected = f"{clamp.expected} in layer {site.name}"
            raise UnsupportedNet.of(place, expected, clamp.came, "change the unit")
        decay = TRACE_DECAY.needed(unit, place, site.name)
        if not decay:
            expected = f"a fixed trace_decay above 0 in layer {site.name}"
            todo = "change the unit, or give NoRateClamp as its rate_clamp"
            raise UnsupportedNet.of(place, expected, f"{decay} of {type(unit).__name__}", todo)
        FIRING_THRESHOLD.needed(unit, place, site.name)
        if unit not in tried:
            _try(site, unit, place, device)
            tried.append(unit)


@torch.no_grad()
def _try(site: Site, unit: Unit, place: str, device: torch.device | None) -> None:
    """Refuse a unit whose rate or spikes differ from what it declares."""
    assert site.neuron is not None
    theta = {name: value.double() for name, value in site.neuron.theta().items()}
    clamp, kind = clamped(unit), type(unit).__name__
    threshold = FIRING_THRESHOLD.needed(unit, place, site.name)(theta)
    v_th = torch.as_tensor(threshold, dtype=torch.float64, device=device)
    if not bool((v_th > 0).all()):
        expected = f"a firing_threshold above 0 in layer {site.name}"
        raise UnsupportedNet.of(place, expected, f"{float(v_th.min()):.3g} of {kind}")
    if (off := _rate_gap(unit, theta, v_th, clamp)) > CLOSE:
        expected = f"a rate that is the clamp of {kind} in layer {site.name}"
        todo = "correct its rate, rate_clamp or firing_threshold"
        raise UnsupportedNet.of(place, expected, f"one that is off by up to {off:.2g}", todo)
    if (step := _first_other_step(unit, theta, v_th, clamp)) is not None:
        raise UnsupportedNet.of(
            place,
            f"spikes of {kind} in layer {site.name} as trace_decay, rate_clamp and "
            "firing_threshold declare them",
            f"others (step {step} of a trial train)",
            "correct what it declares, or give NoRateClamp as its rate_clamp",
        )


def _rate_gap(unit: Unit, theta: Theta, v_th: Tensor, clamp: Clamped) -> float:
    """Return the largest distance of a unit's own `rate` from its clamp; 0 without a `rate`."""
    rate = RATE.of(unit)
    if rate is None:
        return 0.0
    x = v_th.new_tensor(TRIED).view(-1, *[1] * max(v_th.dim(), 1))
    return float((rate(x * v_th / clamp.scale, theta) - x.clamp(0, 1)).abs().max())


def _first_other_step(unit: Unit, theta: Theta, v_th: Tensor, clamp: Clamped) -> int | None:
    r"""Return the first step at which no clamp gives a unit's spikes; None if one gives them all.

    With :math:`U[t] = \lambda S[t-1] + q c[t]` and :math:`S[t] = U[t] - v_{th} s[t]`, there must be
    one initial potential v, within `FARTHEST` thresholds, so that at every step

    .. math:: s[t] = H(U[t] + \lambda^t v - f v_{th}).
    """
    number = torch.arange(1, STEPS + 1, dtype=v_th.dtype, device=v_th.device)
    t = number.view(-1, *[1] * max(v_th.dim(), 1))
    x = (t * 0.6180339887) % 1 * 2.5 - 1  # spread evenly, in no simple order
    currents = x * v_th / clamp.scale
    state, trains = unit.init(currents[:1]), []
    for current in currents.split(1):
        s, state = unit.step(state, current, theta)
        trains.append(s)
    s = torch.cat(trains)
    past = clamp.decay ** (number[:, None] - number).clamp(min=0)  # of a step from another
    into = torch.tensordot(past.tril(), (x * v_th).expand_as(s), 1)
    charge = into - torch.tensordot(past.tril(-1), s * v_th, 1)
    share = (clamp.decay**t).clamp(min=FADED)
    start, slack = (clamp.level * v_th - charge) / share, CLOSE * v_th / share
    far = (FARTHEST * v_th).expand_as(start)
    lowest = torch.where(s > 0, torch.maximum(-far, start - slack), -far).cummax(0).values
    highest = torch.where(s > 0, far, torch.minimum(far, start + slack)).cummin(0).values
    wrong = ((lowest > highest) | ((s != 0) & (s != 1))).flatten(1).any(1)
    return int(wrong.nonzero()[0]) + 1 if bool(wrong.any()) else None
