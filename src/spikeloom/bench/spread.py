"""The arithmetic of the tables: medians, quartiles, ratios of rounds that ran side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from spikeloom.base.errors import ConfigError
from spikeloom.meters.clock import Timing, doubt_of

Rounds: TypeAlias = Sequence[Sequence[float]]
"""Seconds of every step, by round."""


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles.

    Args:
        median: of the values.
        low: lower quartile.
        high: upper quartile.
        count: of the values.

    Example:
        >>> Spread.of([4, 1, 2, 3, 5])
        Spread(median=3, low=2.0, high=4.0)
    """

    median: float
    low: float
    high: float
    count: int = field(default=1, compare=False, repr=False)

    @property
    def doubt(self) -> str | None:
        """Why the median is too uncertain to report; None where it is not."""
        return doubt_of(self.median, self.low, self.high, self.count)

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise values.

        Raises:
            ConfigError: there are none.
        """
        if not values:
            raise ConfigError.of("bench.spread", "1 value or more", "none", "run a round")
        timing = Timing(tuple(values))
        return cls(timing.median, *timing.quartiles, timing.rounds)


def seconds(rounds: Rounds) -> Spread:
    """Summarise all steps of all rounds.

    Example:
        >>> seconds([[1.0, 3.0], [2.0]]).median
        2.0
    """
    return Spread.of([spent for turn in rounds for spent in turn])


def fastest(each: Mapping[str, Rounds]) -> str | None:
    """Return the name that is fastest within rounds; None without names.

    In each round a name's median time is divided by the best median of the round; the name with
    the smallest median of these ratios is the fastest. So a single slow round does not decide.

    Args:
        each: rounds by name; those of the same number ran side by side.

    Example:
        >>> fastest({"a": [[1.0], [9.0], [1.0]], "b": [[2.0], [8.0], [2.0]]})
        'a'
    """
    medians = {name: [median(turn) for turn in rounds] for name, rounds in each.items()}
    best = [min(turn) for turn in zip(*medians.values(), strict=False)]
    behind = {
        name: median(one / least for one, least in zip(mine, best, strict=False))
        for name, mine in medians.items()
    }
    return min(behind, key=lambda name: behind[name], default=None)


def time_ratio(rounds: Rounds, base: Rounds) -> Spread:
    """Return the ratio of two contenders' times.

    Median and quartiles are those of the ratios of each round's medians, so what both met in a
    round cancels.

    Args:
        rounds: of the one above the line.
        base: of the one below; rounds of the same number ran side by side.

    Raises:
        ConfigError: no round has both.

    Example:
        >>> time_ratio([[2.0], [4.0], [6.0]], [[1.0], [2.0], [2.0]])
        Spread(median=2.0, low=2.0, high=2.5)
    """
    pairs = zip(rounds, base, strict=False)
    each = [median(one) / median(other) for one, other in pairs if one and other]
    return Spread.of(each)
