import time

import pytest

from spikeloom.base.errors import ConfigError
from spikeloom.meters.clock import stopwatch, time_interleaved


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
