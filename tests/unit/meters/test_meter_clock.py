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
    assert all(0 <= one.fastest <= one.median <= one.slowest for one in times.values())


def test_seconds():
    assert 0.02 <= stopwatch(lambda: time.sleep(0.02)) < 2
    times = time_interleaved({"slow": lambda: time.sleep(0.01), "fast": lambda: None}, 3)
    assert times["slow"].median >= 0.01 > times["fast"].fastest


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
