"""Energy with memory accesses, as an interval: a model, not a measurement."""

from dataclasses import dataclass

import numpy as np

from spikeloom.base.checks import expect
from spikeloom.base.fields import Checked
from spikeloom.meters.energy import INT32, EnergyTable
from spikeloom.meters.record import OperationRecord, SiteOperations


@dataclass(frozen=True)
class EnergyMemory(Checked):
    """Price of one SRAM access, piecewise linear in the buffer's size and clamped at its end.

    Args:
        points: pairs of (bytes, pJ per access), sizes rising.
        source: who gives the figures.

    Raises:
        ConfigError: sizes that do not rise.

    Source:
        Lemaire et al. 2022 as implemented in SpikingJelly. Horowitz's figures are per 64-bit
        access; here a 32-bit access has the same price.

    Example:
        >>> EnergyMemory().price(20 * 1024)
        15.0
    """

    points: tuple[tuple[float, float], ...] = (
        (0, 0.0),
        (8 * 1024, 10.0),
        (32 * 1024, 20.0),
        (1024 * 1024, 100.0),
    )
    source: str = "Horowitz 2014; Lemaire et al. 2022 (full price per 32-bit access)"

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = [size for size, _ in self.points]
        rising = sizes == sorted(set(sizes)) and bool(sizes)
        expect(rising, "meters.memory.points", "rising buffer sizes", sizes, "sort them")

    def price(self, size: float) -> float:
        """Return the pJ of one access to a buffer of `size` bytes."""
        sizes, prices = zip(*self.points, strict=True)
        return float(np.interp(size, sizes, prices))


@dataclass(frozen=True)
class Interval:
    """Lower and upper bound, in pJ."""

    lower: float
    upper: float


def memory_accesses(
    record: OperationRecord, table: EnergyTable = INT32, memory: EnergyMemory | None = None
) -> Interval:
    r"""Bound the energy of memory accesses of one inference.

    With the price p(n) of an access to a buffer of n bytes, W and V the bytes of a layer's weights
    and potentials,

    .. math::
        lower = \sum_l 2\, p(V_l)\, \#(neuron, step), \qquad
        upper = \sum_l \max\bigl(lower_l, (p(W_l) + 2 p(V_l))\, \#operations\bigr)

    The lower bound reads and writes each potential once per step and holds weights for free; the
    upper bound reads a weight and reads and writes a potential for each operation, nothing used
    twice. An analog layer's "potential" is its sum; its steps are its evaluations. Pools are
    left out.

    Args:
        record: what the meter saw.
        table: sets the word width.
        memory: prices of accesses.

    Source:
        spikeloom's minimal model; prices see `EnergyMemory`.
    """
    prices = memory or EnergyMemory()
    lower = upper = 0.0
    for site in record.sites:
        low, high = _bounds(site, table.bits / 8, prices)
        lower += low / record.samples
        upper += high / record.samples
    return Interval(lower, upper)


def _bounds(site: SiteOperations, word: float, memory: EnergyMemory) -> tuple[float, float]:
    potential = 2 * memory.price(site.neurons * word)
    weight = memory.price(site.weights * word)
    if site.unit == "none" and not site.weights:
        return 0.0, 0.0  # a pool: no sums of its own
    steps = site.unit_steps if site.unit == "spiking" else site.evaluations
    low = potential * site.neurons * steps
    return low, max(low, (weight + potential) * (site.ac + site.mac))
