"""How far the mathematics of rates is off for leaky units, and what is said of it."""

from collections.abc import Callable, Sequence

from spikeloom.nets.net import SpikingNet
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.reduction import decay_of

SAME = 1e-6
"""Two means over time whose weights differ by less are one: discounts given in a few digits."""


def clamp_error(unit: IF, slope: float | None = None) -> float:
    r"""Return how far a steady rate can lie from the clamp that a rule differentiates.

    .. math::
        E = \sup_c \left| \lim_{T \to \infty} \frac{1}{T} \sum_t s[t]
            - clamp\left(\frac{q c}{v_{th}}, 0, 1\right) \right|
          = \max\left( \min(1, q' f),\; 1 - q' \Big(\tfrac{1}{1-\alpha} - 1 + f\Big) \right)

    over all constant currents c, with :math:`q' = q (1 - \alpha)`, over :math:`1 - \alpha` where
    the unit scales its input so. The first term is where a neuron begins to fire: a current c holds
    the potential at :math:`c / (1 - \alpha)`, so that below :math:`f (1 - \alpha) v_{th}` it never
    does. The second is where it begins to fire at every step. With q = 1 this is
    :math:`(1 - \alpha) \max(f, 1 - f)`, at most 1. The same bound holds for the rate discounted by
    :math:`\alpha^{T-t}`: both lie below x by :math:`(1 - \alpha) v / v_{th}`, with v the mean
    potential for the one and the last potential for the other, and
    :math:`f - 1 \le v / v_{th} < f`.

    Args:
        unit: with a soft reset right after the spike, no refractory steps, no synaptic current.
        slope: q; None for the unit's own, 1 or, where it scales its input, :math:`1 - \alpha`.
    """
    leak, f = 1 - unit.alpha, unit.fire_fraction
    if leak == 0:
        return 0.0
    q = leak if slope is None or not unit.scale_input else slope
    return max(min(1.0, q * f), 1 - q * (1 / leak - 1 + f))


def leak_cautions(
    net: SpikingNet, rule: str, slope: Callable[[IF], float | None] = lambda unit: None
) -> list[str]:
    """Say how far the clamps of leaky units are off, each kind of unit once.

    Args:
        net: whose units have passed `refuse_units`.
        rule: its name.
        slope: q of a unit's clamp, as `clamp_error` takes it.
    """
    leaky: dict[IF, list[str]] = {}
    for site in net.sites:
        if isinstance(site.unit, IF) and site.unit.alpha != 1:
            leaky.setdefault(site.unit, []).append(site.name)
    lines = []
    for unit, names in leaky.items():
        where = f"layer {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "")
        silent = unit.fire_fraction * (1 if unit.scale_input else 1 - unit.alpha)
        halved = ", or fire_fraction = 0.5" if unit.fire_fraction == 1 else ""
        lines.append(
            f"rules.{rule}: alpha = {unit.alpha:.4g} in {where}: the rule differentiates a clamp, "
            f"which is off by up to {clamp_error(unit, slope(unit)):.2g} from the steady firing "
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
    """Say where the head's mean over time is not the one that a leaky unit's rate is.

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
