"""Accuracy per class, shown wherever the classes of the test part are unbalanced."""

from collections.abc import Sequence
from statistics import mean

from spikeloom.records.comparison import EntryRecord
from spikeloom.records.run import PerClass
from spikeloom.records.units import percent
from spikeloom.report.means import spread_text
from spikeloom.report.table import to_text

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
    whole = percent(balanced_accuracy(correct, samples))
    return f"balanced accuracy {whole:.2f} % ({_sizes(samples)}). {NOTE}"


def class_lines(entries: Sequence[EntryRecord]) -> list[str]:
    """Lay out the accuracy per class of entries on unbalanced test data, a line per entry.

    Args:
        entries: of a comparison.

    Returns:
        Nothing where no entry has unbalanced test data, or the records do not say (before
        `per_class` was recorded).
    """
    told = [entry for entry in entries if _counted(entry)]
    lines: list[str] = []
    for samples in dict.fromkeys(_samples(entry) for entry in told):
        rows = [entry for entry in told if _samples(entry) == samples]
        labels = rows[0].runs[0].classes or []
        names = class_names(labels if len(labels) == len(samples) else [""] * len(samples))
        lines += ["", f"accuracy per class, in %: {_sizes(samples)}"]
        lines += to_text(_table(rows, names, samples)).splitlines()
    return [*lines, NOTE] if lines else []


def _counted(entry: EntryRecord) -> bool:
    counts = _counts(entry)
    if not counts or len(counts) < len(entry.runs):
        return False
    samples = counts[0].samples
    return all(one.samples == samples for one in counts) and unbalanced(samples)


def _counts(entry: EntryRecord) -> list[PerClass]:
    return [run.per_class for run in entry.runs if run.per_class is not None]


def _samples(entry: EntryRecord) -> tuple[int, ...]:
    return _counts(entry)[0].samples


def _sizes(samples: Sequence[int]) -> str:
    return f"{min(samples):,} to {max(samples):,} test samples a class"


def _table(
    entries: Sequence[EntryRecord], names: Sequence[str], samples: Sequence[int]
) -> list[list[str]]:
    """Return rows of text, headings first: balanced, the least class, and each of a few classes."""
    whole = len(names) <= MOST_CLASSES
    others = list(names) if whole else ["least recognised"]
    rows = [["entry", "balanced", "least class", *others]]
    for entry in entries:
        counts = _counts(entry)
        balanced = [percent(balanced_accuracy(one.correct, one.samples)) for one in counts]
        means = _means([shares(one.correct, one.samples) for one in counts])
        order = sorted(
            (k for k, share in enumerate(means) if share is not None),
            key=lambda k: (means[k], k),
        )
        least = [f"{names[k]}: {_percent(means[k])} of {samples[k]:,}" for k in order[:LEAST_SHOWN]]
        cells = [_percent(share) for share in means] if whole else [", ".join(least)]
        rows.append([entry.label, spread_text(balanced, "{:.2f}".format), least[0], *cells])
    return rows


def _means(found: Sequence[Sequence[float | None]]) -> list[float | None]:
    columns = (
        [share for share in column if share is not None] for column in zip(*found, strict=True)
    )
    return [mean(column) if column else None for column in columns]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{percent(share):.1f}"
