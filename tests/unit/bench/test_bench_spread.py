"""The arithmetic of the tables, by hand."""

import pytest

from spikeloom.base.errors import ConfigError
from spikeloom.bench.spread import Spread, fastest, seconds, time_ratio


def test_quartiles_by_hand():
    assert Spread.of([5, 1, 4, 2, 3]) == Spread(3, 2, 4)
    assert Spread.of([1, 2]) == Spread(1.5, 1.25, 1.75)
    assert Spread.of([7]) == Spread(7, 7, 7)
    with pytest.raises(ConfigError, match="expected 1 value or more, got none"):
        Spread.of([])


def test_all_steps_count_alike():
    assert seconds([[1.0, 2.0, 9.0], [3.0]]).median == 2.5


def test_a_ratio_is_of_the_medians_within_a_round():
    ours, theirs = [[2.0, 2.0], [30.0, 30.0], [8.0, 2.0]], [[1.0, 1.0], [10.0, 10.0], [1.0, 3.0]]
    assert time_ratio(ours, theirs) == Spread(2.5, 2.25, 2.75)  # of 2, 3, 2.5


def test_what_both_meet_in_a_round_cancels():
    moods = [1.0, 7.0, 2.0, 3.0]
    ratio = time_ratio([[1.5 * mood] for mood in moods], [[mood] for mood in moods])
    assert ratio == Spread(*[pytest.approx(1.5)] * 3)


def test_one_slow_round_does_not_decide_who_is_fastest():
    steady, hit = [[2.0, 2.0]] * 3, [[1.0, 1.0], [50.0, 60.0], [1.0, 1.0]]
    assert fastest({"steady": steady, "hit": hit}) == "hit"
    assert fastest({"steady": steady}) == "steady" and fastest({}) is None


def test_a_row_is_itself_as_fast():
    assert time_ratio([[0.3, 0.1]], [[0.3, 0.1]]) == Spread(1.0, 1.0, 1.0)
