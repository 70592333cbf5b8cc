"""The error of the clamp for leaky units, and the cautions about it."""

from collections.abc import Callable, Sequence

from spikeloom.nets.module.net import SpikingNet
from spikeloom.neurons.base import Unit
from spikeloom.neurons.reduction import decay_of
from spikeloom.rules.clamps import Clamped, clamped

SAME = 1e-6
"""Means over time whose weights differ by less count as equal: decays are given in few digits."""


def clamp_error(unit: Unit, slope: float | None = None) -> float:
    r"""Return how far a steady rate can lie from the clamp that a rule differentiates.

    .. math::
        E = \sup_c \left| \lim_{T \to \infty} \frac{1}{T} \sum_t s[t]
            - clamp\left(\frac{p c}{v_{th}}, 0, 1\right) \right|
          = \max\left( \min(1, p' f),\; 1 - p' \Big(\tfrac{1}{1-\alpha} - 1 + f\Big) \right)

    over all constant currents c, with :math:`p' = p (1 - \alpha) / q` and q the unit's
    `RateClamp.scale`. The first term is where a neuron begins to fire: a current c holds the
    potential at :math:`q c / (1 - \alpha)`, so that below :math:`f (1 - \alpha) v_{th} / q` it
    never does. The second is where it begins to fire at every step. With p = q this is
    :math:`(1 - \alpha) \max(f, 1 - f)`, at most 1. The same bound holds for the rate discounted by
    :math:`\alpha^{T-t}`: both lie below x by :math:`(1 - \alpha) v / v_{th}`, with v the mean
    potential for the one and the last potential for the other, and
    :math:`f - 1 \le v / v_{th} < f`.

    Args:
        unit: which declares a `rate_clamp` and its `trace_decay`, :math:`\alpha`.
        slope: p; None for the unit's own, q.
    """
    return _error(clamped(unit), slope)


def _error(clamp: Clamped, slope: float | None) -> float:
    leak, f = 1 - clamp.decay, clamp.level
    if leak == 0:
        return 0.0
    p = leak if slope is None else slope * (leak / clamp.scale)
    return max(min(1.0, p * f), 1 - p * (1 / leak - 1 + f))


def leak_cautions(
    net: SpikingNet, rule: str, slope: Callable[[Clamped], float | None] = lambda clamp: None
) -> list[str]:
    """Return the error of the clamp for each kind of leaky unit, in words.

    Args:
        net: whose units have passed `refuse_units`.
        rule: its name.
        slope: of a unit's clamp, as `clamp_error` takes it.
    """
    leaky: dict[Clamped, list[str]] = {}
    for site in net.sites:
        if site.unit is not None and site.unit.stateful and (clamp := clamped(site.unit)).decay < 1:
            leaky.setdefault(clamp, []).append(site.name)
    lines = []
    for clamp, names in leaky.items():
        where = f"layer {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "")
        silent = clamp.level * (1 - clamp.decay) / clamp.scale
        halved = ", or fire_fraction = 0.5" if clamp.level == 1 else ""
        lines.append(
            f"rules.{rule}: alpha = {clamp.decay:.4g} in {where}: the rule differentiates a clamp, "
            f"which is off by up to {_error(clamp, slope(clamp)):.2g} from the steady firing "
            f"rate at any T; an input below {silent:.2g} v_th per step never causes a spike; use "
            f"unit 'if', for which the clamp is exact, or an alpha nearer to 1{halved}."
        )
    return lines


def reduction_cautions(
    net: SpikingNet,
    shares: Sequence[float] | None,
    rule: str,
    size: Callable[[Sequence[float]], str],
) -> list[str]:
    """Return a caution where the head averages over time with other weights than a leaky unit.

    Args:
        net: the network.
        shares: weight of each step in what the head reads; None where it reads all.
        rule: its name.
        size: what it does to gradients, from the weight of each step in the unit's rate.
    """
    last = net.plan.blocks[-1].upstream if net.plan.blocks else None
    if shares is None or last is None or (decay := decay_of(last.unit)) == 1:
        return []
    steps = len(shares)
    rate = discounted(decay, steps)
    apart = sum(abs(read / sum(shares) - one) for read, one in zip(shares, rate, strict=True)) / 2
    if apart < SAME:
        return []
    return [
        f"rules.{rule}: the head's mean over T = {steps} steps and the rates of layer {last.name} "
        f"(discounted by alpha = {decay:.4g} per step) can differ by {apart:.2g}: {size(rate)}; "
        f"set head.reduce = 'weighted' and head.decay = {decay:.4g}, or use unit 'if'."
    ]


def discounted(decay: float, steps: int) -> tuple[float, ...]:
    r"""Return the weights :math:`\lambda^{T-t} / \sum_s \lambda^{T-s}` of T steps in a rate."""
    weights = [decay**age for age in range(steps - 1, -1, -1)]
    return tuple(weight / sum(weights) for weight in weights)
