"""Which entry to take: the best within limits, and those that no other beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spikeloom.records.comparison import EntryRecord
from spikeloom.report.means import Means, competing, level


@dataclass(frozen=True)
class Limit:
    """One cost that can be limited.

    Args:
        figure: field of `Means`.
        unit: behind a value.
    """

    figure: str
    unit: str

    def text(self, value: float) -> str:
        """Write a value with three digits or more."""
        return f"{value:.3g} {self.unit}" if value < 1000 else f"{value:.0f} {self.unit}"


LIMITS = {
    "max_mb": Limit("memory", "MB of training memory"),
    "max_ms": Limit("latency", "ms per inference"),
    "max_spikes": Limit("spikes", "spikes per inference"),
}
"""What ``--max-mb``, ``--max-ms`` and ``--max-spikes`` limit."""


def pareto(points: Sequence[tuple[float, float]]) -> set[int]:
    """Return the rows of (score, cost) that no other row beats; high scores are good.

    A row is beaten by one that is as good or better and costs as little or less, not both equal.

    Example:
        >>> sorted(pareto([(90.0, 2.0), (92.0, 3.0), (91.0, 3.5)]))
        [0, 1]
    """
    return {
        row
        for row, (score, cost) in enumerate(points)
        if not any(
            other >= score and price <= cost and (other, price) != (score, cost)
            for other, price in points
        )
    }


def front(entries: Sequence[EntryRecord]) -> set[str]:
    """Return the labels that no other entry beats in mean score and strict energy.

    Controls and entries with failed runs neither stand on the front nor push others off it.
    """
    field = competing(entries)
    return {field[row].label for row in pareto([(one.rank, one.energy) for one in field])}


def unsettled(entries: Sequence[EntryRecord]) -> set[str]:
    """Return the labels on the front that are level with a cheaper entry.

    An entry is on the front because it is better than every entry that takes as little
    energy or less. Where one of those is level with it (see `means.level`), that reason fails.
    """
    field, on_front = competing(entries), front(entries)
    prices = [one.energy for one in field]
    doubtful = level_with_cheaper(dict(enumerate(field)), dict(enumerate(prices)))
    return {field[row].label for row in doubtful} & on_front


def level_with_cheaper(scores: Mapping[int, Means], prices: Mapping[int, float]) -> set[int]:
    """Return the entries, by number, that are level with another that costs as much or less."""
    return {
        number
        for number in scores
        if any(
            other != number
            and prices[other] <= prices[number]
            and level(scores[number], scores[other])
            for other in scores
        )
    }


def pick(entries: Sequence[EntryRecord], limits: Mapping[str, float]) -> str:
    """Say which entry is the best within limits, else which one comes nearest.

    Means over seeds decide; ties go to the lower strict energy. Entries that are level with the
    best are named, since their order is no rank. An entry whose figure is unknown,
    such as the spikes of an ANN, is outside of any limit on it.

    Args:
        entries: of a results file.
        limits: by name of `LIMITS`, above 0.
    """
    asked = " and ".join(LIMITS[name].text(value) for name, value in limits.items())
    known = [
        one for one in competing(entries) if all(_figure(one, name) is not None for name in limits)
    ]
    fitting = [one for one in known if _excess(one, limits) <= 1]
    if fitting:
        best = max(fitting, key=lambda one: (one.rank, -one.energy))
        near = [one.label for one in fitting if one is not best and level(best, one)]
        tie = f"; too close to rank: {', '.join(near)}" if near else ""
        return f"best within {asked}: {best.label} ({_score(best)}, {_costs(best)}){tie}"
    if not known:
        return f"none within {asked}: no entry has these figures."
    nearest = min(known, key=lambda one: _excess(one, limits))
    return (
        f"none within {asked}; nearest: {nearest.label} ({_score(nearest)}, "
        f"{_costs(nearest)}), at {_excess(nearest, limits):.3g} times a limit"
    )


def _score(one: Means) -> str:
    metric = one.metric
    text = f"{metric.written(one.score)} {metric.unit}".strip()
    return text if metric.unit else f"{metric.word} {text}"


def _figure(one: Means, name: str) -> float | None:
    return getattr(one, LIMITS[name].figure)


def _excess(one: Means, limits: Mapping[str, float]) -> float:
    """Return the largest share of a limit that an entry takes."""
    return max((_figure(one, name) or 0.0) / value for name, value in limits.items())


def _costs(one: Means) -> str:
    named = {name: _figure(one, name) for name in LIMITS}
    return ", ".join(LIMITS[name].text(value) for name, value in named.items() if value is not None)
