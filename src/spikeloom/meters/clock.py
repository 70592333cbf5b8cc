"""Wall-clock times that can be compared: interleaved, warmed up, with their spread."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

from spikeloom.base.errors import ConfigError


@dataclass(frozen=True)
class Timing:
    """Seconds per call.

    Args:
        median: over the rounds.
        fastest: of the rounds.
        slowest: of the rounds.
        rounds: number of timed calls.
    """

    median: float
    fastest: float
    slowest: float
    rounds: int


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
    calls: Mapping[str, Callable[[], object]], rounds: int = 5
) -> dict[str, Timing]:
    """Time callables in turn, so that drift of the machine meets all alike.

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
        raise ConfigError(
            f"meters.clock: expected a callable and 1 round or more, got {len(calls)} and "
            f"{rounds}; change them."
        )
    names = list(calls)
    for name in names:
        calls[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            times[name].append(stopwatch(calls[name]))
    return {
        name: Timing(median(spent), min(spent), max(spent), rounds) for name, spent in times.items()
    }


def _settle() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
