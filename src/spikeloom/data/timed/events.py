"""Events (t, x, y, p) in memory, and three ways to turn them into frames."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spikeloom.base.errors import DataError


@dataclass(frozen=True)
class Sensor:
    """Size of a sensor.

    Args:
        height, width: number of pixels; for a line of channels the height is 0.
        polarities: 2 if on and off events are kept apart in frames, else 1.
    """

    height: int
    width: int
    polarities: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame: [P, H, W], or [D] for a line of channels."""
        if self.height == 0:
            return (self.width,)
        return (self.polarities, self.height, self.width)


@dataclass(frozen=True, eq=False)
class Events:
    """The events of one recording, sorted by time.

    Args:
        t: time in microseconds.
        x, y: column and row; y is 0 for a line of channels.
        p: polarity, True for on.

    Shape:
        t, x, y: [E], int64; p: [E], bool.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    @classmethod
    def of(cls, where: str, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> "Events":
        """Return events sorted by time; events with equal times keep their order.

        Raises:
            DataError: there are no events.
        """
        if not len(t):
            raise DataError.of(where, "events", "none", "remove the recording")
        order = np.argsort(t, kind="stable")
        t, x, y = (one.astype(np.int64)[order] for one in (t, x, y))
        return cls(t, x, y, p.astype(bool)[order])

    def __len__(self) -> int:
        return len(self.t)

    def check(self, where: str, sensor: Sensor) -> None:
        """Check that all events lie on a sensor.

        Raises:
            DataError: an event lies outside; the message names the first.
        """
        height = max(sensor.height, 1)
        bad = (self.x < 0) | (self.x >= sensor.width) | (self.y < 0) | (self.y >= height)
        if bad.any():
            row = int(bad.argmax())
            raise DataError.of(
                where,
                f"events on {sensor.width} x {height}",
                f"x = {self.x[row]}, y = {self.y[row]} at event {row}",
                "state height and width of the sensor, or fetch the recording again",
            )

    def places(self, sensor: Sensor) -> np.ndarray:
        """Return the index of each event in a flattened frame."""
        plane = max(sensor.height, 1) * sensor.width
        channel = self.p * plane if sensor.polarities == 2 else 0
        return channel + self.y * sensor.width + self.x


Binning = Callable[[Events, Sensor, int], np.ndarray]
"""A function that makes the frames [T, ...] of a recording from events, sensor and T."""


def frames_by_time(
    events: Events, sensor: Sensor, steps: int, *, window: int | None = None
) -> np.ndarray:
    r"""Count the events in T time bins of equal duration.

    .. math::
        b = \Big\lfloor \frac{T (t - t_0)}{t_{last} - t_0 + 1} \Big\rfloor
        \qquad\text{with a window w:}\quad b = \lfloor (t - t_0) / w \rfloor

    Args:
        events: events of a recording; b is the bin of an event at time t.
        sensor: size of the sensor.
        steps: number of bins, T.
        window: duration of a bin in microseconds, w. Events after T windows are left out, and bins
            after the last event are empty. None divides the recording into T equal bins.

    Shape:
        result: [T, P, H, W], or [T, D]; int64.
    """
    since = events.t - events.t[0]
    step = since * steps // (since[-1] + 1) if window is None else since // window
    return _counted(step, events, sensor, steps)


def frames_by_count(events: Events, sensor: Sensor, steps: int) -> np.ndarray:
    r"""Count events in T bins with equal numbers of events: event i of E is in bin floor(i T / E).

    Shape:
        result: [T, P, H, W], or [T, D]; int64.
    """
    step = np.arange(len(events)) * steps // len(events)
    return _counted(step, events, sensor, steps)


def voxel_grid(events: Events, sensor: Sensor, steps: int) -> np.ndarray:
    r"""Share each event between the nearest two of T points in time; on is +1 and off is -1.

    .. math::
        V_b(x, y) = \sum_i \pm_i \max(0, 1 - |b - t^*_i|), \qquad
        t^*_i = (T - 1) \frac{t_i - t_0}{t_{last} - t_0}

    Shape:
        result: [T, 1, H, W], or [T, D]; float32.

    Source:
        Zhu et al. 2019, "Unsupervised event-based learning of optical flow, depth, and
        egomotion", eq. 1 to 3.
    """
    since = events.t - events.t[0]
    at = (steps - 1) * since / max(int(since[-1]), 1)
    low = np.floor(at).astype(np.int64)
    share = at - low
    line = Sensor(sensor.height, sensor.width, 1)
    size = int(np.prod(line.shape))
    place = low * size + events.places(line)
    sign = np.where(events.p, 1.0, -1.0)
    flat = np.bincount(place, sign * (1 - share), minlength=(steps + 1) * size)
    flat += np.bincount(place + size, sign * share, minlength=(steps + 1) * size)
    return flat[: steps * size].reshape(steps, *line.shape).astype(np.float32)


def _counted(step: np.ndarray, events: Events, sensor: Sensor, steps: int) -> np.ndarray:
    size = int(np.prod(sensor.shape))
    place = (step * size + events.places(sensor))[step < steps]
    return np.bincount(place, minlength=steps * size).reshape(steps, *sensor.shape)
