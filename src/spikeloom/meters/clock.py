"""Wall-clock times that can be compared: interleaved, warmed up, with their spread."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch

from spikeloom.base.errors import ConfigError

FEWEST_ROUNDS = 5
"""Fewer rounds give no time that can be reported."""

WIDEST = 0.5
"""Largest distance of the quartiles, in medians, of a time that can be reported."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call, or what a difference of calls comes to.

    Args:
        times: of every round, in order.

    Example:
        >>> Timing((3.0, 1.0, 2.0)).median
        2.0
    """

    times: tuple[float, ...]

    @property
    def rounds(self) -> int:
        """Number of timed calls."""
        return len(self.times)

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return median(self.times)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile."""
        if self.rounds == 1:
            return self.times[0], self.times[0]
        low, _, high = quantiles(self.times, n=4, method="inclusive")
        return low, high

    @property
    def fastest(self) -> float:
        """Shortest time of a round."""
        return min(self.times)

    @property
    def doubt(self) -> str | None:
        """Why the median is too uncertain to report; None where it is not. See `doubt_of`."""
        return doubt_of(self.median, *self.quartiles, self.rounds)

    def map(self, change: Callable[[float], float]) -> "Timing":
        """Return the timing with every round's value changed."""
        return Timing(tuple(change(value) for value in self.times))


def doubt_of(middle: float, low: float, high: float, count: int) -> str | None:
    """Say why a time is too uncertain to report; None where it is not.

    It has fewer than `FEWEST_ROUNDS` rounds, its lower quartile is not above 0, or its quartiles
    are further apart than `WIDEST` times the median.

    Example:
        >>> doubt_of(2.0, 1.9, 2.2, 5), doubt_of(2.0, 1.9, 2.2, 3)
        (None, '3 rounds, fewer than 5')
    """
    if count < FEWEST_ROUNDS:
        return f"{count} round{'s' * (count != 1)}, fewer than {FEWEST_ROUNDS}"
    if low <= 0:
        return "within the noise: the lower quartile is not above 0"
    if high - low > WIDEST * middle:
        return f"too noisy: the quartiles are {(high - low) / middle:.2g} medians apart"
    return None


def rounds_for(seconds: float, *, most: int, budget: float) -> int:
    """Return how often to time what takes so long: `FEWEST_ROUNDS` or more, within a budget.

    Args:
        seconds: of one round.
        most: rounds, however short.
        budget: seconds in all, beyond `FEWEST_ROUNDS`.

    Example:
        >>> rounds_for(0.001, most=11, budget=1.0), rounds_for(60.0, most=11, budget=1.0)
        (11, 5)
    """
    return min(most, max(FEWEST_ROUNDS, int(budget / max(seconds, 1e-9))))


def stopwatch(call: Callable[[], object]) -> float:
    """Return the seconds one call takes, work queued on CUDA devices included.

    Args:
        call: what to time.
    """
    _settle()
    start = time.perf_counter()
    call()
    _settle()
    return time.perf_counter() - start


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int = FEWEST_ROUNDS
) -> dict[str, Timing]:
    """Time callables in turn, so that drift of the machine affects all alike.

    One round without the clock comes first. Each further round runs every callable once, starting
    with another one.

    Args:
        calls: what to time, by name.
        rounds: timed calls of each.

    Returns:
        Times by name, in the order of `calls`.

    Raises:
        ConfigError: no rounds or no callables.

    Example:
        >>> time_interleaved({"one": lambda: None, "two": lambda: None}, rounds=3)["two"].rounds
        3
    """
    if rounds < 1 or not calls:
        raise ConfigError.of(
            "meters.clock",
            "a callable and 1 round or more",
            f"{len(calls)} and {rounds}",
            "change them",
        )
    names = list(calls)
    for name in names:
        calls[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            times[name].append(stopwatch(calls[name]))
    return {name: Timing(tuple(spent)) for name, spent in times.items()}


def _settle() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
