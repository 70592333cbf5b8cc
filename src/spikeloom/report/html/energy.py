"""The energies of every entry in every reading, for the page."""

from collections.abc import Sequence
from html import escape

from spikeloom.report.efficiency import Record, efficiency, measured_anns
from spikeloom.report.entries import Entry
from spikeloom.report.html.sections import table
from spikeloom.report.layers import PJ, rate_text
from spikeloom.report.means import over
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
    rows = []
    for record in records:
        if record["runs"]:
            cells = "".join(f"<td>{cell}</td>" for cell in _cells(record, anns))
            label = escape(record["label"])
            rows.append(f'<tr><th scope="row" class="label">{label}</th>{cells}</tr>')
    return NOTE + table("energy, every reading", HEADINGS, rows) if rows else ""


def _cells(entry: Record, anns: dict[tuple[str, str], Record]) -> list[str]:
    found = efficiency(entry, anns)
    spiking = entry["runs"][0]["facts"]["spiking"]
    memory = [_energy(entry, "memory_aware_fp32", end) for end in ("lower", "upper")]
    apart = found.with_memory if found else None
    rate = over(entry, lambda cost: cost.get("rate_per_step", 0.0))
    return [
        _joules(_energy(entry, "strict_fp32", "net")),
        _times(found and found.strict),
        " to ".join(map(_joules, memory)) if None not in memory else "–",
        " to ".join(map(times, apart)) if apart else "–",
        _joules(_energy(entry, "paper_int32", "net")),
        _times(found and found.paper),
        _joules(_energy(entry, "paper_int32_output", "net")) if spiking else "–",
        _times(found and found.paper_own_rate),
        f"{rate:.3f}" if spiking else "–",
        rate_text(found.break_even) if found and found.break_even is not None else "–",
    ]


def _energy(entry: Record, name: str, key: str) -> float | None:
    energies = [run["costs"]["energy"].get(name) for run in entry["runs"]]
    return over(entry, lambda cost: cost["energy"][name][key]) if all(energies) else None


def _joules(value: float | None) -> str:
    return "–" if value is None else joules(value / PJ)


def _times(value: float | None) -> str:
    return "–" if value is None else times(value)
