"""EE: how many times a net's energy its ANN takes, that ANN measured beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spikeloom.meters.energy import break_even_rate
from spikeloom.report.means import over

Record = dict[str, Any]


@dataclass(frozen=True)
class Efficiency:
    """A net's energies against those of the measured ReLU net of the same spec and data.

    Args:
        ann: label of the ANN.
        paper: EE by the formulas of Panda et al. 2020, int32, with the rate that enters a layer.
        paper_own_rate: the same with the rate of the layer's own neurons; None in older records.
        strict: EE by exact counts, fp32, zero operands skipped on both sides.
        with_memory: the same with memory accesses, both at their lower bounds and both at their
            upper bounds; None in older records.
        break_even: mean firing rate per neuron and step at which both would take the same strict
            energy, see `meters.energy.break_even_rate`; None in older records.
    """

    ann: str
    paper: float
    paper_own_rate: float | None
    strict: float
    with_memory: tuple[float, float] | None
    break_even: float | None


def measured_anns(entries: Sequence[Record]) -> dict[tuple[str, str], Record]:
    """Return the ANN of every net and data set: the first, a control where there is no other."""
    ran = [entry for entry in entries[::-1] if entry["runs"]]
    anns = [entry for entry in ran if not entry["runs"][0]["facts"]["spiking"]]
    anns.sort(key=lambda entry: entry["control"], reverse=True)
    return {(entry["runs"][0]["net"], entry["runs"][0]["data"]): entry for entry in anns}


def efficiency(entry: Record, anns: dict[tuple[str, str], Record]) -> Efficiency | None:
    """Return the efficiency of an entry; None for an ANN and where its ANN was not measured.

    Args:
        entry: with one run or more.
        anns: of `measured_anns`.
    """
    first = entry["runs"][0]
    ann = anns.get((first["ann_net"], first["data"]))
    if ann is None or not first["facts"]["spiking"]:
        return None
    paper = _energy(ann, "paper_int32", "net")
    own = _energy(entry, "paper_int32_output", "net")
    net, theirs = (_energy(one, "strict_fp32", "net") for one in (entry, ann))
    assert net is not None and theirs is not None and paper is not None  # every record has them
    driven = _energy(entry, "strict_fp32", "driven")
    return Efficiency(
        ann["label"],
        over_net(paper, _energy(entry, "paper_int32", "net") or 0.0),
        None if own is None else over_net(paper, own),
        over_net(theirs, net),
        _with_memory(entry, ann),
        None if driven is None else break_even_rate(_rate(entry), net, driven, theirs),
    )


def over_net(ann: float, net: float) -> float:
    """Return ANN over net; infinite for a dead net."""
    return ann / net if net else float("inf")


def dense_ann(energy: Record) -> float:
    """Return the energy of the spec's ReLU net by all its products, which nobody measured."""
    return energy["dense_ann"] if "dense_ann" in energy else energy["ann"]


def _with_memory(entry: Record, ann: Record) -> tuple[float, float] | None:
    bounds = [
        [_energy(one, "memory_aware_fp32", end) for one in (ann, entry)]
        for end in ("lower", "upper")
    ]
    ratios = [over_net(a, b) for a, b in bounds if a is not None and b is not None]
    return (ratios[0], ratios[1]) if len(ratios) == 2 else None


def _energy(entry: Record, name: str, key: str) -> float | None:
    """Return the mean over the runs in pJ; None where a record lacks it."""
    energies = [run["costs"]["energy"].get(name) or {} for run in entry["runs"]]
    if any(energy.get(key) is None for energy in energies):
        return None
    return over(entry, lambda cost: cost["energy"][name][key])


def _rate(entry: Record) -> float:
    return over(entry, lambda cost: cost.get("rate_per_step", 0.0))
