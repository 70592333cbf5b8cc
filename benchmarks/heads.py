"""Heads side by side, from folders that `spikeloom compare` wrote: paired by seed, against updates.

Usage: python benchmarks/heads.py FOLDER... > table.md

A row is paired with the softmax row of as many updates: both runs of a seed begin with the same
body and logits and see the same batches. Test accuracies are those of the last epoch, read once;
accuracies against updates are on the validation part, means over seeds.
"""

import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from spikeloom.heads.stochmax import RHO_RIVALS, RHO_TARGET
from spikeloom.records.comparison import EntryRecord
from spikeloom.records.units import percent
from spikeloom.report.numbers import count
from spikeloom.report.records import read_comparison
from spikeloom.report.table import to_markdown

MARKS = (100, 200, 300, 500, 1000)
"""Updates after which the validation accuracy is shown."""


def recipe_of(entry: EntryRecord) -> dict[str, Any]:
    """Return the recipe of an entry's runs."""
    recipe = entry.runs[0].recipe
    assert recipe is not None
    return recipe


def updates_per_epoch(entry: EntryRecord) -> int:
    """Return the batches of an epoch; the recipes here have one stage and name their train_size."""
    recipe = recipe_of(entry)
    return -(-recipe["data"]["train_size"] // recipe["stages"][0]["batch"])


def baseline(entry: EntryRecord, entries: list[EntryRecord]) -> EntryRecord:
    """Return the softmax row of as many epochs."""
    return next(
        other
        for other in entries
        if recipe_of(other)["head"]["name"] == "softmax"
        and other.runs[0].epochs == entry.runs[0].epochs
    )


def spread(values: list[float], sign: str = "") -> str:
    """Return mean and standard deviation."""
    return f"{mean(values):{sign}.2f} ± {stdev(values):.2f}" if len(values) > 1 else "-"


def paired(entry: EntryRecord, other: EntryRecord) -> list[float]:
    """Return the differences of test accuracy in points, seed by seed."""
    accuracy = {run.seed: run.test_accuracy for run in other.runs}
    return [percent(run.test_accuracy - accuracy[run.seed]) for run in entry.runs]


def summary(entries: list[EntryRecord]) -> str:
    """Return one line per row: accuracy, gain over softmax, masks and spikes."""
    head = ("row", "learning rate", "test %", "against softmax, points", "seeds ahead")
    rows = [(*head, "rho of targets", "rho of rivals", "spikes")]
    for entry in entries:
        runs, other = entry.runs, baseline(entry, entries)
        gains = paired(entry, other)
        ends = [run.curve[-1].notes for run in runs]
        rho = [
            f"{mean(end[name] for end in ends):.2f}" if name in ends[0] else "-"
            for name in (RHO_TARGET, RHO_RIVALS)
        ]
        spikes = count(mean(run.costs.spikes.mean for run in runs))
        rows.append(
            (
                entry.label,
                f"{recipe_of(entry)['stages'][0]['optimizer']['lr']:g}",
                spread([percent(run.test_accuracy) for run in runs]),
                "-" if entry is other else spread(gains, "+"),
                "-" if entry is other else f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
                *rho,
                spikes if runs[0].facts.spiking else "-",
            )
        )
    return to_markdown(rows)


def against_updates(entries: list[EntryRecord]) -> str:
    """Return the validation accuracy after some numbers of updates, means over seeds."""
    rows = [("validation % after updates", *(f"{mark:,}" for mark in MARKS))]
    for entry in entries:
        cells = []
        for mark in MARKS:
            epoch = mark // updates_per_epoch(entry) - 1
            curves = [run.curve for run in entry.runs if epoch < len(run.curve)]
            cells.append(
                f"{mean(percent(curve[epoch].val_accuracy) for curve in curves):.2f}"
                if curves
                else "-"
            )
        rows.append((entry.label, *cells))
    return to_markdown(rows)


def main() -> None:
    """Print the tables of every folder."""
    for folder in map(Path, sys.argv[1:]):
        results = read_comparison(folder)
        entries = [entry for entry in results.entries if entry.runs]
        print(f"## {results.name}\n\n{summary(entries)}\n\n{against_updates(entries)}\n")


if __name__ == "__main__":
    main()
