"""Reasons to doubt a score: it still improves, or a control is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from spikeloom.records.comparison import EntryRecord
from spikeloom.records.run import validation
from spikeloom.report.means import level, means

LAST = 5
"""The improvement of the last epochs is measured over one part in so many of all epochs."""


@dataclass(frozen=True)
class Doubt:
    """One reason not to rely on an entry's score.

    Args:
        label: of the entry.
        mark: in two or three words.
        reason: the rest of the sentence that begins with the label.
    """

    label: str
    mark: str
    reason: str


def doubts(entries: Sequence[EntryRecord]) -> list[Doubt]:
    """Return why scores of a table may not be what its rules can reach.

    An entry *still improves* if its best validation score of the last fifth of its epochs is better
    than the best one before by more than two standard errors of such a difference, mean over
    seeds. An entry is *below a control* if the best control on the same data is better by more than
    `means.level` allows.
    """
    found = []
    for entry in entries:
        if not entry.runs or entry.control:
            continue
        label = entry.label
        better = _better_control(entry, entries)
        if better is not None:
            apart = means(better).rank - means(entry).rank
            below = means(entry).metric.gained(apart)
            reason = f"is {below} below the control '{better.label}'"
            found.append(Doubt(label, "below a control", reason))
        gain = gain_at_the_end(entry)
        if gain is not None:
            by, last, epochs = gain
            metric = entry.runs[0].first
            sign = "+" if metric.best == "high" else "-"
            reason = (
                f"still improves: {sign}{metric.gained(by)} of validation "
                f"{metric.word} in the last {last} of {epochs} epochs; train longer"
            )
            found.append(Doubt(label, "still improves", reason))
    return found


def gain_at_the_end(entry: EntryRecord) -> tuple[float, int, int] | None:
    """Return by how much the validation score got better in the last epochs, if beyond chance.

    The standard error is that of shares of samples, or of the gains over three seeds or more.

    Returns:
        The gain in the metric's unit, the number of last epochs, and of all epochs; None where it
        is within two standard errors, or where records hold too few epochs, samples or seeds.
    """
    metric = entry.runs[0].first
    key = validation(metric.name)
    curves = [[metric.rank(epoch[key]) for epoch in run.curve] for run in entry.runs]
    epochs = min(map(len, curves), default=0)
    last = max(1, epochs // LAST)
    if epochs < 2 * LAST:
        return None
    before = mean(max(curve[:-last]) for curve in curves)
    after = mean(max(curve[-last:]) for curve in curves)
    samples = sum(run.val_samples or 0 for run in entry.runs)
    if metric.of_samples and samples:
        middle = (before + after) / 2
        error = sqrt(2 * middle * (1 - middle) / samples)
    elif not metric.of_samples and len(curves) > 2:
        gains = [max(curve[-last:]) - max(curve[:-last]) for curve in curves]
        error = stdev(gains) / sqrt(len(gains))
    else:
        return None
    gain = after - before
    return (metric.shown(gain), last, epochs) if gain > 2 * error else None


def _better_control(entry: EntryRecord, entries: Sequence[EntryRecord]) -> EntryRecord | None:
    """Return the best control on the same data, if it is better than an entry."""
    ours = means(entry)
    controls = [
        one
        for one in entries
        if one.control and one.runs and one.runs[0].data == entry.runs[0].data
    ]
    best = max(controls, key=lambda one: means(one).rank, default=None)
    if best is None or means(best).rank <= ours.rank or level(ours, means(best)):
        return None
    return best
