"""What an entry of a results file amounts to: means over the runs that ended well."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Means:
    """Means over seeds.

    Args:
        label: of the entry.
        runs: number of runs.
        failed: number of runs that failed.
        accuracy: on the test part, in percent.
        deviation: of the accuracy over seeds, in percentage points; None for one seed.
        energy: strict convention, fp32, in uJ per inference.
        energy_paper: paper's convention, int32, in uJ per inference.
        spikes: per inference; None for a net without spikes.
        memory: peak of one training batch, in MB (10^6 bytes).
        latency: of predicting one sample, in ms; None in records that lack it.
        seconds: of training.
    """

    label: str
    runs: int
    failed: int
    accuracy: float
    deviation: float | None
    energy: float
    energy_paper: float
    spikes: float | None
    memory: float
    latency: float | None
    seconds: float


def means(entry: Record) -> Means:
    """Return the means of an entry with one run or more; those of format 1 serve as well."""
    runs = entry["runs"]
    accuracies = [100 * run["test_accuracy"] for run in runs]
    timed = all("inference" in run["costs"] for run in runs)
    spiking = runs[0]["facts"]["spiking"]
    return Means(
        label=entry["label"],
        runs=len(runs),
        failed=len(entry.get("errors", ())),
        accuracy=mean(accuracies),
        deviation=stdev(accuracies) if len(runs) > 1 else None,
        energy=over(entry, lambda cost: cost["energy"]["strict_fp32"]["net"]) / 1e6,
        energy_paper=over(entry, lambda cost: cost["energy"]["paper_int32"]["net"]) / 1e6,
        spikes=over(entry, lambda cost: cost["spikes"]["mean"]) if spiking else None,
        memory=over(entry, lambda cost: cost["training"]["peak_bytes"]) / 1e6,
        latency=over(entry, lambda cost: cost["inference"]["ms_per_sample"]) if timed else None,
        seconds=mean(run["train_seconds"] for run in runs),
    )


def over(entry: Record, read: Callable[[Record], float]) -> float:
    """Return the mean over an entry's runs of a figure of their cost records."""
    return mean(read(run["costs"]) for run in entry["runs"])


def competing(entries: list[Record]) -> list[Means]:
    """Return the entries that may win: complete ones, no controls."""
    return [
        means(entry)
        for entry in entries
        if entry["runs"] and not entry["control"] and not entry.get("error")
    ]
