"""The energies of every entry in every reading, for the page."""

from collections.abc import Sequence

from spikeloom.records.comparison import EntryRecord
from spikeloom.records.units import microjoules
from spikeloom.report.efficiency import (
    Anns,
    efficiency,
    energy_by_paper,
    measured_anns,
    net_by_own_rates,
    rate_of,
    strict_energy,
    with_memory,
)
from spikeloom.report.entries import Entry
from spikeloom.report.html.sections import table
from spikeloom.report.layers import rate_text
from spikeloom.report.means import energy_of
from spikeloom.report.numbers import joules, times

HEADINGS = (
    "energy, µJ",
    "ANN / SNN energy",
    "energy with memory access, µJ",
    "ANN / SNN energy with memory access",
    "energy by paper, µJ",
    "ANN / SNN energy by paper",
    "energy by paper, own rates, µJ",
    "ANN / SNN energy by paper, own rates",
    "firing rate per step",
    "firing rate at break-even",
)

NOTE = (
    "<p>Per sample, means over seeds; a model, not a measurement. Energy: operations counted "
    "exactly, 32-bit floats. With memory access: each potential is read and written once a step at "
    "least; for each operation a weight and a potential at most. By paper: eq. 8-11 of Panda et "
    "al. 2020, 32-bit integers, with the rate of the spikes that enter a layer, and with the rate "
    "of the layer's own neurons, since “firing neurons per layer” can be read either way. ANN / "
    "SNN energy: the measured ReLU net of the same layers over this net; – where it was not "
    "measured. Firing rate at break-even: the mean rate at which this net would take the energy of "
    "its ANN, all rates scaled alike; “none” where the part that does not depend on rates takes "
    "more than the ANN.</p>"
)


def energy(entries: Sequence[Entry]) -> str:
    """Tabulate energies and their ratios to the ANN; empty where nothing ran."""
    records = [entry.record() for entry in entries]
    anns = measured_anns(records)
    rows = [[record.label, *_cells(record, anns)] for record in records if record.runs]
    return NOTE + table("energy, every reading", HEADINGS, rows) if rows else ""


def _cells(entry: EntryRecord, anns: Anns) -> list[str]:
    found = efficiency(entry, anns)
    spiking = entry.runs[0].facts.spiking
    memory = with_memory(entry)
    apart = found.with_memory if found else None
    return [
        _joules(strict_energy(entry)),
        _times(found and found.strict),
        " to ".join(map(_joules, memory)) if memory else "–",
        " to ".join(map(times, apart)) if apart else "–",
        _joules(energy_by_paper(entry)),
        _times(found and found.paper),
        _joules(energy_of(entry, net_by_own_rates)) if spiking else "–",
        _times(found and found.paper_own_rate),
        f"{rate_of(entry):.3f}" if spiking else "–",
        rate_text(found.break_even) if found and found.break_even is not None else "–",
    ]


def _joules(value: float | None) -> str:
    return "–" if value is None else joules(microjoules(value))


def _times(value: float | None) -> str:
    return "–" if value is None else times(value)
