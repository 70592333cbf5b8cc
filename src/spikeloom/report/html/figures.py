"""What the figures show, as plain numbers; the page's script only draws them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

from spikeloom.records.costs import LayerRecord
from spikeloom.records.run import EpochRecord, RunRecord, validation
from spikeloom.records.samples import SamplesRecord
from spikeloom.records.units import megabytes, microjoules
from spikeloom.report.entries import Entry
from spikeloom.report.means import FEWEST_RUNS_TIMED, latency_of, means, scores_of
from spikeloom.report.pick import level_with_cheaper, pareto
from spikeloom.tasks.metric import ACCURACY, Metric

Drawn = dict[str, Any]
"""Numbers as the page's script reads them."""

DIGITS = 5
"""Significant digits of what is drawn."""

SAMPLE_BUDGET = 6_000_000
"""Characters that all sample traces together may take in the page."""

_TELLS = 6
"""Decimals of a percentage to which two means are compared; the rest is rounding error."""


@dataclass(frozen=True)
class Cost:
    """One cost that scores are plotted against.

    Args:
        key: its name in the page.
        word: its name in the table's column of fronts; empty for costs that have no place there.
        title: with the unit.
        read: takes it from a run's record; None where that lacks it.
        spiking: whether only spiking nets have it.
        runs: how many an entry must have for it to be a figure.
        tile: how the tiles above the page write it; empty for costs that have none.
    """

    key: str
    word: str
    title: str
    read: Callable[[RunRecord], float | None]
    spiking: bool = False
    runs: int = 1
    tile: str = ""


def _latency(run: RunRecord) -> float | None:
    found = latency_of(run)
    return None if found is None else found[0]


COSTS = (
    Cost(
        "strict",
        "energy",
        "energy (µJ per sample)",
        lambda run: microjoules(run.costs.energy.strict_fp32.net),
        tile="{:.3g} µJ",
    ),
    Cost(
        "memory",
        "memory",
        "training memory (MB, peak of one batch)",
        lambda run: megabytes(run.costs.training.peak_bytes),
        tile="{:.1f} MB",
    ),
    Cost(
        "seconds",
        "time",
        "training time (s)",
        lambda run: run.train_seconds,
        runs=FEWEST_RUNS_TIMED,
        tile="{:.1f} s",
    ),
    Cost(
        "paper",
        "",
        "energy by the paper's formulas (µJ per sample)",
        lambda run: microjoules(run.costs.energy.paper_int32.net),
    ),
    Cost("spikes", "", "spikes per sample", lambda run: run.costs.spikes.mean, True),
    Cost("latency", "", "prediction time (ms per sample)", _latency),
)


def cost_of(entry: Entry, cost: Cost) -> float | None:
    """Return the mean over the runs; None where the entry has no such cost."""
    if len(entry.runs) < cost.runs or (cost.spiking and not entry.spiking):
        return None
    values = [value for run in entry.runs if (value := cost.read(run)) is not None]
    return mean(values) if len(values) == len(entry.runs) else None


def front(entries: Sequence[Entry], cost: Cost) -> list[list[int]]:
    """Return the Pareto fronts of scores against a cost, one per data set.

    An entry is on the front if no other on the same data is at least as good and at least as
    cheap, and better in one of the two. Controls and entries with failed runs take no part.

    Returns:
        For each data set the numbers of the entries, from the cheapest.
    """
    fields: dict[str, list[int]] = {}
    prices: dict[int, float] = {}
    for number, entry in enumerate(entries):
        price = cost_of(entry, cost)
        if price is not None and entry.competes:
            prices[number] = price
            fields.setdefault(entry.data, []).append(number)
    fronts = []
    for field in fields.values():
        places = [(round(ranked(entries[one]), _TELLS), prices[one]) for one in field]
        kept = [field[place] for place in pareto(places)]
        fronts.append(sorted(kept, key=lambda one: (prices[one], one)))
    return fronts


def unsettled(entries: Sequence[Entry], cost: Cost, line: Sequence[int]) -> set[int]:
    """Return the entries of a front that are level with another; see `report.pick.unsettled`."""
    data = entries[line[0]].data
    prices = {
        number: price
        for number, one in enumerate(entries)
        if one.competes and one.data == data and (price := cost_of(one, cost)) is not None
    }
    scores = {number: means(entries[number].record()) for number in prices}
    return level_with_cheaper(scores, prices).intersection(line)


def figure_data(entries: Sequence[Entry]) -> Drawn:
    """Return everything the page's script draws, ready for JSON."""
    shared = _shared_samples(entries)
    data = {
        "entries": [
            {
                "label": entry.label,
                "control": entry.control,
                "rival": not entry.control and entry.error is None,
                "state": entry.state,
                "spiking": entry.spiking,
                "data": entry.data,
                "drawn": entry.drawn,
                "words": _words(entry),
            }
            for entry in entries
        ],
        "curves": [_curve(entry) for entry in entries],
        "points": [_point(entry) for entry in entries],
        "metric": _metric(entries),
        "floor": _floor(entries),
        "costs": [
            {"key": cost.key, "title": cost.title, "fronts": front(entries, cost)}
            for cost in COSTS
            if any(cost_of(entry, cost) is not None for entry in entries)
        ],
        "rates": _rates(entries),
        "steps": [_steps(entry) for entry in entries],
    }
    return _rounded(data) | {
        "samples": [
            None if entry.samples is None else _samples(entry.samples, shared) for entry in entries
        ]
    }


def _words(entry: Entry) -> str:
    """Return what the filter looks for."""
    rule, net = (entry.runs[0].rule, entry.runs[0].net) if entry.runs else (None, None)
    parts = (entry.label, entry.state, entry.data, entry.block, rule, net)
    control = "control" if entry.control else ""
    return " ".join(part for part in (*parts, control) if part)


def _band(rows: Sequence[Sequence[float]]) -> Drawn:
    """Return mean, smallest and largest at every place; rows may differ in length."""
    columns = [
        [row[place] for row in rows if place < len(row)] for place in range(max(map(len, rows)))
    ]
    figures = {"mean": mean, "low": min, "high": max}
    return {name: [read(column) for column in columns] for name, read in figures.items()}


def _curve(entry: Entry) -> Drawn | None:
    curves = [one.curve for one in (*entry.runs, *entry.unfinished) if one.curve]
    if not curves:
        return None
    bands = {}
    names = ("loss", judged((entry,)).name)
    for key in (*names, *map(validation, names)):
        rows = ([_figure(epoch, key) for epoch in one] for one in curves)
        known = [[value for value in row if value is not None] for row in rows]
        if list(map(len, known)) == list(map(len, curves)):
            bands[key] = _band(known)
    longest = max(curves, key=len)
    seconds = []
    for curve in curves:
        total = 0.0
        seconds.append([total := total + epoch.seconds for epoch in curve])
    stages = [
        [place, epoch.rule]
        for place, epoch in enumerate(longest)
        if place == 0 or epoch.stage != longest[place - 1].stage
    ]
    return bands | {
        "seconds": _band(seconds)["mean"],
        "seeds": len(curves),
        "stages": stages if len(stages) > 1 else [],
        "planned": max((one.planned for one in entry.unfinished), default=0),
    }


def _figure(epoch: EpochRecord, key: str) -> float | None:
    return epoch[key] if key in epoch else None  # noqa: SIM401 - a record is no mapping


def _point(entry: Entry) -> Drawn | None:
    if not entry.runs:
        return None
    values = scores_of(entry)
    return {
        entry.runs[0].first.name: mean(values),
        "spread": stdev(values) if len(values) > 1 else 0.0,
        "seeds": len(values),
        **{cost.key: cost_of(entry, cost) for cost in COSTS},
    }


def _floor(entries: Sequence[Entry]) -> float:
    """Return where the axis of scores begins, so that one bad entry does not flatten the rest.

    Whatever is worse is named under the figure. Of metrics that are good where low, the axis is
    turned round.
    """
    rivals = [one for one in entries if one.competes]
    values = [ranked(one) for one in rivals or entries if one.runs]
    if not values:
        return 0.0
    metric = judged(entries)
    apart = 1.0 if metric.unit == "%" else 0.01 * (max(map(abs, values)) or 1.0)
    best = max(values)
    least = best - 3 * (best - median(values)) - 3 * apart
    spread = max((stdev(rows) for one in rivals if len(rows := scores_of(one)) > 1), default=0.0)
    low = min(value for value in values if value >= least) - spread
    floor = metric.rank(low - 0.1 * (best - low) - 0.2 * apart)
    return floor if metric.least is None else max(metric.shown(metric.least), floor)


def ranked(entry: Entry) -> float:
    """Return the mean score of an entry, as what is higher for better ones."""
    return entry.runs[0].first.rank(mean(scores_of(entry)))


def judged(entries: Iterable[Entry]) -> Metric:
    """Return the metric that decides among entries."""
    records = (one for entry in entries for one in (*entry.runs, *entry.unfinished))
    return next((one.first for one in records), ACCURACY)


def _metric(entries: Sequence[Entry]) -> Drawn:
    """Return what the script writes beside scores."""
    metric = judged(entries)
    named = {"name": metric.name, "word": metric.word, "unit": metric.unit}
    return named | {"best": metric.best, "scale": metric.shown(1)}


def _rates(entries: Sequence[Entry]) -> Drawn:
    """Return firing rates per entry, layer and pass, with what is wrong with a layer."""
    sites: dict[str, str] = {}
    rows = []
    for number, entry in enumerate(entries):
        if not entry.spiking:
            continue
        verdicts = _verdicts(entry)
        cells = {}
        for layer in _spiking_layers(entry.runs[0]):
            name = layer.site
            sites.setdefault(name, layer.kind)
            rates = [
                one.rate_per_step
                for run in entry.runs
                for one in run.costs.layers
                if one.site == name and one.rate_per_step is not None
            ]
            cells[name] = {
                "rate": mean(rates),
                "low": min(rates),
                "high": max(rates),
                "neurons": layer.neurons,
                "verdict": "dead" if max(rates) == 0 else verdicts.get(name, ""),
            }
        if cells:
            rows.append({"entry": number, "cells": cells})
    ordered = sorted(sites, key=_site_order)
    return {"sites": [{"name": name, "kind": sites[name]} for name in ordered], "rows": rows}


def _spiking_layers(run: RunRecord) -> list[LayerRecord]:
    return [layer for layer in run.costs.layers if layer.rate_per_step is not None]


def _verdicts(entry: Entry) -> dict[str, str]:
    """Return the last word on each site's health; a bad one of any seed stands."""
    verdicts: dict[str, str] = {}
    for run in entry.runs:
        latest = {layer.site: layer for epoch in run.curve for layer in epoch.health or ()}
        verdicts |= {site: layer.verdict for site, layer in latest.items() if not layer.healthy}
    return verdicts


def _site_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Order "2.0.1" before "10.0.0", and names without numbers last."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split("."))


def _steps(entry: Entry) -> Drawn | None:
    """Return the score on the test part after 1..T steps of one pass."""
    rows = [list(map(run.first.shown, row)) for run in entry.runs if (row := run.over_steps())]
    return _band(rows) if rows else None


def _shared_samples(entries: Sequence[Entry]) -> int:
    """Return how many samples of every entry fit into the budget; one always does."""
    first = [_samples(one.samples, 1) for one in entries if one.samples is not None]
    size = sum(len(json.dumps(traces["samples"])) for traces in first)
    return max(1, SAMPLE_BUDGET // max(size, 1))


def _samples(record: SamplesRecord, most: int) -> Drawn:
    return {
        "steps": record.steps,
        "classes": record.classes,
        "samples": [_rounded(sample.table()) for sample in record.samples[:most]],
    }


def _rounded(value: Any) -> Any:
    """Round every number to the digits that can be seen."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value
