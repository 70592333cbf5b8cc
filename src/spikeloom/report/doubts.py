"""Reasons to doubt an accuracy: it still improves, or a control is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean

from spikeloom.records.comparison import EntryRecord
from spikeloom.records.units import percent
from spikeloom.report.means import level, means

LAST = 5
"""The improvement of the last epochs is measured over one part in so many of all epochs."""


@dataclass(frozen=True)
class Doubt:
    """One reason not to rely on an entry's accuracy.

    Args:
        label: of the entry.
        mark: in two or three words.
        reason: the rest of the sentence that begins with the label.
    """

    label: str
    mark: str
    reason: str


def doubts(entries: Sequence[EntryRecord]) -> list[Doubt]:
    """Return why accuracies of a table may not be what its rules can reach.

    An entry *still improves* if its best validation accuracy of the last fifth of its epochs lies
    above the best one before by more than two standard errors of such a difference, mean over
    seeds. An entry is *below a control* if the best control on the same data is more accurate by
    more than `means.level` allows.
    """
    found = []
    for entry in entries:
        if not entry.runs or entry.control:
            continue
        label = entry.label
        better = _better_control(entry, entries)
        if better is not None:
            apart = means(better).accuracy - means(entry).accuracy
            reason = f"is {apart:.1f} points below the control '{better.label}'"
            found.append(Doubt(label, "below a control", reason))
        gain = gain_at_the_end(entry)
        if gain is not None:
            points, last, epochs = gain
            reason = (
                f"still improves: {points:+.1f} points of validation accuracy in the last {last} "
                f"of {epochs} epochs; train longer"
            )
            found.append(Doubt(label, "still improves", reason))
    return found


def gain_at_the_end(entry: EntryRecord) -> tuple[float, int, int] | None:
    """Return how far validation accuracy rose in the last epochs, where that is more than chance.

    Returns:
        Percentage points, the number of last epochs, and of all epochs; None where the rise is
        within two standard errors, or where records hold too few epochs.
    """
    curves = [[epoch.val_accuracy for epoch in run.curve] for run in entry.runs]
    epochs = min(map(len, curves), default=0)
    last = max(1, epochs // LAST)
    if epochs < 2 * LAST:
        return None
    before = mean(max(curve[:-last]) for curve in curves)
    after = mean(max(curve[-last:]) for curve in curves)
    samples = sum(run.val_samples or 0 for run in entry.runs)
    if not samples:
        return None
    middle = (before + after) / 2
    error = sqrt(2 * middle * (1 - middle) / samples)
    return (percent(after - before), last, epochs) if after - before > 2 * error else None


def _better_control(entry: EntryRecord, entries: Sequence[EntryRecord]) -> EntryRecord | None:
    """Return the best control on the same data, if it is better than an entry."""
    ours = means(entry)
    controls = [
        one
        for one in entries
        if one.control and one.runs and one.runs[0].data == entry.runs[0].data
    ]
    best = max(controls, key=lambda one: means(one).accuracy, default=None)
    if best is None or means(best).accuracy <= ours.accuracy or level(ours, means(best)):
        return None
    return best
