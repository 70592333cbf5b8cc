"""EE: energy of the measured ANN over that of the net."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from spikeloom.meters.break_even import break_even_rate
from spikeloom.records.comparison import EntryRecord
from spikeloom.records.costs import Energies
from spikeloom.report.means import energy_of, over

Anns = Mapping[tuple[str, str], EntryRecord]
"""The measured ANN by net and data set."""


@dataclass(frozen=True)
class Efficiency:
    """A net's energies against those of the measured ReLU net of the same spec and data.

    Args:
        paper: EE by the formulas of Panda et al. 2020, int32, with the rate that enters a layer.
        paper_own_rate: the same with the rate of the layer's own neurons; None in older records.
        strict: EE by exact counts, fp32, zero operands skipped on both sides.
        with_memory: the same with memory accesses, both at their lower bounds and both at their
            upper bounds; None in older records.
        break_even: mean firing rate per neuron and step at which both would take the same strict
            energy, see `meters.break_even.break_even_rate`; None in older records.
    """

    paper: float
    paper_own_rate: float | None
    strict: float
    with_memory: tuple[float, float] | None
    break_even: float | None


def measured_anns(entries: Sequence[EntryRecord]) -> Anns:
    """Return the ANN of every net and data set: the first, a control where there is no other."""
    ran = [entry for entry in entries[::-1] if entry.runs]
    anns = [entry for entry in ran if not entry.runs[0].facts.spiking]
    anns.sort(key=lambda entry: entry.control, reverse=True)
    return {(entry.runs[0].net, entry.runs[0].data): entry for entry in anns}


def efficiency(entry: EntryRecord, anns: Anns) -> Efficiency | None:
    """Return the efficiency of an entry; None for an ANN and where its ANN was not measured.

    Args:
        entry: with one run or more.
        anns: of `measured_anns`.
    """
    first = entry.runs[0]
    ann = anns.get((first.ann_net, first.data))
    if ann is None or not first.facts.spiking:
        return None
    paper, net, theirs = energy_by_paper(ann), strict_energy(entry), strict_energy(ann)
    own = energy_of(entry, net_by_own_rates)
    driven = energy_of(entry, lambda energy: energy.strict_fp32.driven)
    return Efficiency(
        over_net(paper, energy_by_paper(entry)),
        None if own is None else over_net(paper, own),
        over_net(theirs, net),
        _with_memory(entry, ann),
        None if driven is None else break_even_rate(rate_of(entry), net, driven, theirs),
    )


def over_net(ann: float, net: float) -> float:
    """Return ANN over net; infinite for a dead net."""
    return ann / net if net else float("inf")


def strict_energy(entry: EntryRecord) -> float:
    """Return the net's energy by exact counts in pJ, mean over the runs."""
    return over(entry, lambda cost: cost.energy.strict_fp32.net)


def energy_by_paper(entry: EntryRecord) -> float:
    """Return the net's energy by the paper's formulas in pJ, mean over the runs."""
    return over(entry, lambda cost: cost.energy.paper_int32.net)


def net_by_own_rates(energy: Energies) -> float | None:
    """Return the net's energy by the paper's formulas with the rates of a layer's own neurons."""
    return None if energy.paper_int32_output is None else energy.paper_int32_output.net


def with_memory(entry: EntryRecord) -> tuple[float, float] | None:
    """Return the bounds of the net's energy with memory accesses, means over the runs."""
    bounds = [run.costs.energy.memory_aware_fp32 for run in entry.runs]
    known = [one for one in bounds if one is not None]
    if len(known) < len(bounds):
        return None
    return mean(one.lower for one in known), mean(one.upper for one in known)


def rate_of(entry: EntryRecord) -> float:
    """Return the mean firing rate per neuron and step, mean over the runs."""
    return over(entry, lambda cost: cost.rate_per_step)


def _with_memory(entry: EntryRecord, ann: EntryRecord) -> tuple[float, float] | None:
    net, theirs = with_memory(entry), with_memory(ann)
    if net is None or theirs is None:
        return None
    return over_net(theirs[0], net[0]), over_net(theirs[1], net[1])
