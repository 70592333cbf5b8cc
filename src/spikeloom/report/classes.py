"""Accuracy per class, shown wherever the classes of the test part are unbalanced."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from spikeloom.report.means import spread_text
from spikeloom.report.table import to_text

Record = dict[str, Any]

UNBALANCED = 1.5
"""Test data are unbalanced where the largest class has more than so many times the smallest's
samples; a class without samples makes them so too."""

MOST_CLASSES = 10
"""Classes that all have a column; of more, the `LEAST_SHOWN` least recognised are named."""

LEAST_SHOWN = 3

NOTE = (
    "balanced: the mean of the accuracies of all classes, so that every class has the same weight; "
    "random answers give 1/K."
)


def class_names(labels: Sequence[str]) -> list[str]:
    """Return number and name of each class, the number alone where the name says no more."""
    return [
        f"{number} {label}" if label and label != str(number) else str(number)
        for number, label in enumerate(labels)
    ]


def unbalanced(samples: Sequence[int]) -> bool:
    """Whether classes differ so much in size that one accuracy hides what happens to the small.

    Args:
        samples: number of each class.
    """
    return max(samples, default=0) > UNBALANCED * min(samples, default=0)


def shares(correct: Sequence[int], samples: Sequence[int]) -> list[float | None]:
    """Return the share of right answers of each class; None for a class without samples."""
    return [good / of if of else None for good, of in zip(correct, samples, strict=True)]


def balanced_accuracy(correct: Sequence[int], samples: Sequence[int]) -> float:
    """Return the mean of the shares of classes that have samples.

    Example:
        >>> balanced_accuracy([90, 5, 0], [90, 10, 0])
        0.75
    """
    return mean(share for share in shares(correct, samples) if share is not None)


def balanced_line(correct: Sequence[int], samples: Sequence[int]) -> str | None:
    """Say in a line what a plain accuracy hides; None where classes are of one size."""
    if not unbalanced(samples):
        return None
    whole = 100 * balanced_accuracy(correct, samples)
    return f"balanced accuracy {whole:.2f} % ({_sizes(samples)}). {NOTE}"


def class_lines(entries: Sequence[Record]) -> list[str]:
    """Lay out the accuracy per class of entries on unbalanced test data, a line per entry.

    Args:
        entries: as in results.json.

    Returns:
        Nothing where no entry has unbalanced test data, or the records do not say (before
        `per_class` was recorded).
    """
    told = [entry for entry in entries if _counted(entry)]
    lines: list[str] = []
    for samples in dict.fromkeys(_samples(entry) for entry in told):
        rows = [entry for entry in told if _samples(entry) == samples]
        labels = rows[0]["runs"][0].get("classes") or []
        names = class_names(labels if len(labels) == len(samples) else [""] * len(samples))
        lines += ["", f"accuracy per class, in %: {_sizes(samples)}"]
        lines += to_text(_table(rows, names, samples)).splitlines()
    return [*lines, NOTE] if lines else []


def _counted(entry: Record) -> bool:
    runs = entry["runs"]
    if not runs or not all(run.get("per_class") for run in runs):
        return False
    samples = _samples(entry)
    alike = all(tuple(run["per_class"]["samples"]) == samples for run in runs)
    return alike and unbalanced(samples)


def _samples(entry: Record) -> tuple[int, ...]:
    return tuple(entry["runs"][0]["per_class"]["samples"])


def _sizes(samples: Sequence[int]) -> str:
    return f"{min(samples):,} to {max(samples):,} test samples a class"


def _table(
    entries: Sequence[Record], names: Sequence[str], samples: Sequence[int]
) -> list[list[str]]:
    """Return rows of text, headings first: balanced, the least class, and each of a few classes."""
    whole = len(names) <= MOST_CLASSES
    others = list(names) if whole else ["least recognised"]
    rows = [["entry", "balanced", "least class", *others]]
    for entry in entries:
        counts = [run["per_class"] for run in entry["runs"]]
        balanced = [100 * balanced_accuracy(one["correct"], one["samples"]) for one in counts]
        means = _means([shares(one["correct"], one["samples"]) for one in counts])
        order = sorted(
            (k for k, share in enumerate(means) if share is not None),
            key=lambda k: (means[k], k),
        )
        least = [f"{names[k]}: {_percent(means[k])} of {samples[k]:,}" for k in order[:LEAST_SHOWN]]
        cells = [_percent(share) for share in means] if whole else [", ".join(least)]
        rows.append([entry["label"], spread_text(balanced, "{:.2f}".format), least[0], *cells])
    return rows


def _means(found: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the mean over runs of each class's share."""
    columns = (
        [share for share in column if share is not None] for column in zip(*found, strict=True)
    )
    return [mean(column) if column else None for column in columns]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
