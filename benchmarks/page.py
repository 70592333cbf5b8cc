"""Write a results page from the folders that `spikeloom compare` wrote.

Usage: python benchmarks/page.py FOLDER... > benchmarks/results/<date>_<hardware>.md

Folders of the same comparison run with different seeds are put together. The page shows the table,
every seed's accuracy, the command, and what it ran on: commit, processor, versions.
"""

import json
import sys
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

from spikeloom.report.columns import COLUMNS, explained
from spikeloom.report.layers import few_steps
from spikeloom.report.numbers import count
from spikeloom.report.provenance import made_with
from spikeloom.report.table import entry_rows, to_markdown


def merged(folders: list[Path]) -> dict[str, dict[str, Any]]:
    """Return results by comparison, entries with the runs of all seeds in order."""
    results: dict[str, dict[str, Any]] = {}
    for folder in folders:
        one = json.loads((folder / "results.json").read_text())
        known = results.setdefault(one["name"], {"commands": {}, "entries": {}})
        known["commands"][one.get("command")] = None
        for entry in one["entries"]:
            kept = known["entries"].setdefault(entry["label"], entry | {"runs": []})
            kept["runs"] += entry["runs"]
    for known in results.values():
        for entry in known["entries"].values():
            entry["runs"].sort(key=lambda run: run["seed"])
    return results


def section(name: str, known: dict[str, Any]) -> str:
    """Return one comparison as Markdown."""
    entries = [entry for entry in known["entries"].values() if entry["runs"]]
    first = entries[0]["runs"][0]
    runs = [run for entry in entries for run in entry["runs"]]
    commands = "; ".join(filter(None, known["commands"]))
    rows = [("entry", "seed", "test %", "val %", "train loss", "rate per step", "time s")]
    rows += [
        (
            entry["label"],
            str(run["seed"]),
            f"{100 * run['test_accuracy']:.2f}",
            f"{100 * run['val_accuracy']:.2f}",
            f"{run['curve'][-1]['loss']:.4f}",
            f"{run['costs']['rate_per_step']:.3f}",
            f"{run['train_seconds']:.1f}",
        )
        for entry in entries
        for run in entry["runs"]
    ]
    return "\n".join(
        [
            f"## {name}",
            "",
            f"Data `{first['data']}`, {first['test_samples']} test samples, {first['epochs']} "
            f"epochs; costs metered on {first['costs']['metered_samples']} test samples.",
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


def layers(entries: list[dict[str, Any]]) -> list[str]:
    """Return the spike rate of every layer and pass, mean over seeds."""
    lines = ["Spikes per neuron and step, by layer and pass (mean over seeds):", ""]
    for entry in entries:
        costs = [run["costs"] for run in entry["runs"]]
        sites = [row["site"] for row in costs[0]["layers"] if row["rate_per_step"] is not None]
        if sites:
            rates = {
                site: mean(
                    row["rate_per_step"]
                    for cost in costs
                    for row in cost["layers"]
                    if row["site"] == site
                )
                for site in sites
            }
            text = ", ".join(f"{site}: {rate:.3f}" for site, rate in rates.items())
            lines.append(f"- {entry['label']}: {text}")
    return [*lines, ""]


def figures(entries: list[dict[str, Any]]) -> list[str]:
    """Return what rules note of themselves, how rates settle, and products without zeros."""
    lines = []
    for entry in entries:
        runs = entry["runs"]
        ends = [run["curve"][-1].get("notes", {}) for run in runs]
        texts = [f"{name} {mean(end[name] for end in ends):.3g}" for name in sorted(ends[0])]
        settled = [run["costs"].get("settling") for run in runs]
        if all(settled):
            steps = few_steps(len(settled[0]["residuals"]))
            gaps = [mean(one["residuals"][t - 1] for one in settled) for t in steps]
            near = ", ".join(f"{gap:.3g} at {t}" for t, gap in zip(steps, gaps, strict=True))
            texts.append(f"mean abs(f(a) - a) after steps: {near}")
        products = [run["costs"]["training"].get("nonzero") for run in runs]
        if all(products):
            kinds = ", ".join(
                f"{name.replace('_', ' ').upper()} {count(mean(one[name] for one in products))}"
                for name in products[0]
            )
            texts.append(f"products of training without zeros per sample: {kinds}")
        if texts:
            lines.append(f"- {entry['label']}: {'; '.join(texts)}")
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
