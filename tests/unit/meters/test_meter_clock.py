import time

import pytest

from spikeloom.base.errors import ConfigError
from spikeloom.meters.clock import Timing, rounds_for, stopwatch, time_interleaved


def test_calls_take_turns_after_one_untimed_round():
    seen = []
    times = time_interleaved({name: lambda name=name: seen.append(name) for name in "abc"}, 3)
    assert "".join(seen) == "abc" + "abc" + "bca" + "cab"
    assert list(times) == ["a", "b", "c"]
    assert all(one.rounds == 3 for one in times.values())
    assert all(0 <= one.fastest <= one.median for one in times.values())


def test_seconds(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def take(*seconds):
        turns = iter((0, *seconds))  # the first round is not timed

        def call():
            clock[0] += next(turns)

        return call

    assert stopwatch(take()) == 0
    times = time_interleaved({"slow": take(8, 2, 4), "fast": take(1, 1, 1)}, 3)
    slow, fast = times["slow"], times["fast"]
    assert (slow.fastest, slow.median, max(slow.times)) == (2, 4, 8) and fast.median == 1


def test_nothing_to_time_is_refused():
    with pytest.raises(ConfigError, match="1 round"):
        time_interleaved({"one": lambda: None}, 0)
    with pytest.raises(ConfigError, match="callable"):
        time_interleaved({})


@pytest.mark.parametrize(
    ("times", "doubt"),
    [
        ((1.0, 1.1, 1.2, 1.1, 1.0), None),
        ((1.0, 1.1, 1.2, 1.1), "4 rounds, fewer than 5"),
        ((-3.47, 0.5, 1.0, -1.0, 2.0), "within the noise: the lower quartile is not above 0"),
        ((1.0, 1.0, 2.0, 3.0, 3.0), "too noisy: the quartiles are 1 medians apart"),
    ],
)
def test_what_is_no_figure_says_why(times, doubt):
    assert Timing(times).doubt == doubt


def test_rounds_fit_a_budget_but_are_never_too_few():
    assert [rounds_for(one, most=11, budget=2.0) for one in (1e-3, 0.25, 9.0)] == [11, 8, 5]
