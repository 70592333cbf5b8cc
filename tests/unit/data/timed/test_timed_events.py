import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import DataError
from spikeloom.data.timed.events import (
    Events,
    Sensor,
    frames_by_count,
    frames_by_time,
    voxel_grid,
)

SENSOR = Sensor(3, 4)
BY_HAND = [(10, 1, 0, 1), (12, 3, 2, 0), (12, 3, 2, 0), (29, 0, 1, 1), (30, 1, 0, 1)]
"""Events (t, x, y, p)."""


def events_of(rows: list[tuple[int, int, int, int]]) -> Events:
    return Events.of("here", *np.array(rows).T)


lists = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)),
    min_size=1,
    max_size=30,
)


def test_by_time_by_hand():
    """t - 10 is 0, 2, 2, 19, 20 of 21: in thirds of 7 these are steps 0, 0, 0, 2, 2."""
    frames = frames_by_time(events_of(BY_HAND), SENSOR, 3)
    expected = np.zeros((3, 2, 3, 4), int)
    expected[0, 1, 0, 1] = 1
    expected[0, 0, 2, 3] = 2
    expected[2, 1, 1, 0] = expected[2, 1, 0, 1] = 1
    assert (frames == expected).all()


def test_a_window_leaves_out_what_comes_later():
    """Windows of 2: steps 0, 1, 1, 9, 10, of which four are kept."""
    frames = frames_by_time(events_of(BY_HAND), SENSOR, 4, window=2)
    assert frames.sum((1, 2, 3)).tolist() == [1, 2, 0, 0]
    assert frames_by_time(events_of(BY_HAND), SENSOR, 11, window=2)[10, 1, 0, 1] == 1


def test_by_count_by_hand():
    """Five events in two steps: floor(2 i / 5) = 0, 0, 0, 1, 1."""
    frames = frames_by_count(events_of(BY_HAND), SENSOR, 2)
    assert frames.sum((1, 2, 3)).tolist() == [3, 2]
    assert frames[0, 0, 2, 3] == 2 and frames[1, 1, 1, 0] == 1


def test_voxels_by_hand():
    """Of T = 3 points, t* = 2 (t - 10) / 20: 0, 0.2, 0.2, 1.9, 2."""
    grid = voxel_grid(events_of(BY_HAND), SENSOR, 3)
    assert grid.shape == (3, 1, 3, 4) and grid.dtype == np.float32
    expected = np.zeros((3, 3, 4))
    expected[0, 0, 1] = 1
    expected[0, 2, 3], expected[1, 2, 3] = -1.6, -0.4
    expected[1, 1, 0], expected[2, 1, 0] = 0.1, 0.9
    expected[2, 0, 1] = 1
    assert grid[:, 0] == pytest.approx(expected, abs=1e-6)


@given(rows=lists, steps=st.integers(1, 9))
@settings(max_examples=80)
def test_every_event_is_in_one_step(rows, steps):
    events = events_of(rows)
    for frames in (frames_by_time(events, SENSOR, steps), frames_by_count(events, SENSOR, steps)):
        whole = np.zeros((2, 3, 4), int)
        for _, x, y, p in rows:
            whole[p, y, x] += 1
        assert (frames.sum(0) == whole).all()
    share = len(rows) / steps
    counts = frames_by_count(events, SENSOR, steps).sum((1, 2, 3))
    assert (abs(counts - share) < 1).all()
    grid = voxel_grid(events, SENSOR, steps)
    assert grid.sum() == pytest.approx(sum(2 * p - 1 for *_, p in rows), abs=1e-4)


def test_one_event_and_events_of_one_time():
    for rows in (BY_HAND[:1], BY_HAND[1:3]):
        for make in (frames_by_time, frames_by_count, voxel_grid):
            assert abs(make(events_of(rows), SENSOR, 4)).sum() == len(rows)


def test_events_are_put_in_order():
    events = events_of([(5, 0, 0, 1), (3, 1, 0, 0), (3, 2, 0, 1)])
    assert events.t.tolist() == [3, 3, 5] and events.x.tolist() == [1, 2, 0]
    assert events.p.tolist() == [False, True, True] and len(events) == 3


def test_a_line_of_channels():
    line = Sensor(0, 4, 1)
    events = events_of([(0, 2, 0, 1), (9, 3, 0, 1)])
    assert line.shape == (4,)
    assert frames_by_time(events, line, 2).tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    assert voxel_grid(events, line, 2).tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]


def test_refuses_none_and_those_beyond_the_sensor():
    with pytest.raises(DataError, match=r"^here: expected events, got none; remove"):
        Events.of("here", *np.empty((4, 0)))
    for row, told in (((9, 4, 0, 1), "x = 4, y = 0"), ((9, 0, 3, 1), "x = 0, y = 3")):
        events = events_of([*BY_HAND[:1], row])
        with pytest.raises(DataError, match=rf"^there: expected events on 4 x 3, got {told} at"):
            events_of([(0, 0, 0, 0), *BY_HAND, (99, *row[1:])]).check("there", SENSOR)
        with pytest.raises(DataError):
            events.check("there", SENSOR)
