"""Write a results page from the folders that `spikeloom compare` wrote.

Usage: python benchmarks/page.py FOLDER... > benchmarks/results/<date>_<hardware>.md

Folders of the same comparison run with different seeds are put together. The page shows the table,
every seed's accuracy, the command, and what it ran on: commit, processor, versions.
"""

import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import mean

from spikeloom.records.comparison import EntryRecord
from spikeloom.records.units import percent
from spikeloom.report.columns import COLUMNS, explained
from spikeloom.report.layers import few_steps
from spikeloom.report.numbers import count
from spikeloom.report.provenance import made_with
from spikeloom.report.records import read_comparison
from spikeloom.report.table import entry_rows, to_markdown


@dataclass
class Merged:
    """A comparison whose seeds were run in several folders."""

    commands: list[str]
    entries: dict[str, EntryRecord]


def merged(folders: list[Path]) -> dict[str, Merged]:
    """Return results by comparison, entries with the runs of all seeds in order."""
    results: dict[str, Merged] = {}
    for folder in folders:
        one = read_comparison(folder)
        known = results.setdefault(one.name, Merged([], {}))
        if one.command is not None and one.command not in known.commands:
            known.commands.append(one.command)
        for entry in one.entries:
            before = known.entries.get(entry.label)
            runs = (*(before.runs if before else ()), *entry.runs)
            runs = tuple(sorted(runs, key=lambda run: run.seed))
            known.entries[entry.label] = (before or entry).model_copy(update={"runs": runs})
    return results


def section(name: str, known: Merged) -> str:
    """Return one comparison as Markdown."""
    entries = [entry for entry in known.entries.values() if entry.runs]
    first = entries[0].runs[0]
    runs = [run for entry in entries for run in entry.runs]
    commands = "; ".join(known.commands)
    rows = [("entry", "seed", "test %", "val %", "train loss", "rate per step", "time s")]
    rows += [
        (
            entry.label,
            str(run.seed),
            f"{percent(run.test_accuracy):.2f}",
            f"{percent(run.val_accuracy or 0.0):.2f}",
            f"{run.curve[-1].loss:.4f}",
            f"{run.costs.rate_per_step:.3f}",
            f"{run.train_seconds:.1f}",
        )
        for entry in entries
        for run in entry.runs
    ]
    return "\n".join(
        [
            f"## {name}",
            "",
            f"Data `{first.data}`, {first.test_samples} test samples, {first.epochs} "
            f"epochs; costs metered on {first.costs.metered_samples} test samples.",
            "",
            *(f"- {line}" for line in made_with(runs, commands or None)),
            "",
            to_markdown(entry_rows(entries, COLUMNS)),
            "",
            "Every run:",
            "",
            to_markdown(rows),
            "",
            *layers(entries),
            *figures(entries),
        ]
    )


def layers(entries: list[EntryRecord]) -> list[str]:
    """Return the spike rate of every layer and pass, mean over seeds."""
    lines = ["Spikes per neuron and step, by layer and pass (mean over seeds):", ""]
    for entry in entries:
        costs = [run.costs for run in entry.runs]
        sites = [row.site for row in costs[0].layers if row.rate_per_step is not None]
        if sites:
            rates = {
                site: mean(
                    row.rate_per_step for cost in costs for row in cost.layers if row.site == site
                )
                for site in sites
            }
            text = ", ".join(f"{site}: {rate:.3f}" for site, rate in rates.items())
            lines.append(f"- {entry.label}: {text}")
    return [*lines, ""]


def figures(entries: list[EntryRecord]) -> list[str]:
    """Return what rules note of themselves, how rates settle, and products without zeros."""
    lines = []
    for entry in entries:
        runs = entry.runs
        ends = [run.curve[-1].notes for run in runs]
        texts = [f"{name} {mean(end[name] for end in ends):.3g}" for name in sorted(ends[0])]
        settled = [run.costs.settling for run in runs if run.costs.settling is not None]
        if len(settled) == len(runs):
            steps = few_steps(len(settled[0].residuals))
            gaps = [mean(one.residuals[t - 1] for one in settled) for t in steps]
            near = ", ".join(f"{gap:.3g} at {t}" for t, gap in zip(steps, gaps, strict=True))
            texts.append(f"mean abs(f(a) - a) after steps: {near}")
        products = [run.costs.training.nonzero for run in runs]
        tables = [one.table() for one in products if one is not None]
        if len(tables) == len(runs):
            kinds = ", ".join(
                f"{name.replace('_', ' ').upper()} {count(mean(one[name] for one in tables))}"
                for name in tables[0]
            )
            texts.append(f"products of training without zeros per sample: {kinds}")
        if texts:
            lines.append(f"- {entry.label}: {'; '.join(texts)}")
    return ["Figures of the last epoch and of training (means over seeds):", "", *lines, ""] * bool(
        lines
    )


def main() -> None:
    """Print the page."""
    results = merged([Path(name) for name in sys.argv[1:]])
    print(f"# Results of {date.today().isoformat()}\n")
    print("\n".join(f"- {line}" for line in explained(COLUMNS)), end="\n\n")
    for name, known in results.items():
        print(section(name, known))


if __name__ == "__main__":
    main()
