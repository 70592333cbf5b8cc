"""From recordings of events to the parts of a data set."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ConfigError
from spikeloom.data.base import Samples, Scaling
from spikeloom.data.timed.events import (
    Binning,
    Events,
    Sensor,
    frames_by_count,
    frames_by_time,
    voxel_grid,
)
from spikeloom.data.timed.kept import Arrays

Steps = Annotated[int, at_least(1, "step", most=10**5)]
By: TypeAlias = Literal["time", "count", "voxel"]
Window = Annotated[int, at_least(1, "microsecond")]
Recordings: TypeAlias = Iterable[tuple[str, int, str, Events]]
"""Part, label, place and events of recordings."""

BYTE = np.iinfo(np.uint8).max


@dataclass(frozen=True)
class Frames:
    """How recordings become frames.

    Args:
        steps: T.
        by: "time" (steps of equal length), "count" (steps of equally many events), or "voxel"
            (shared between steps, on minus off: real values).
        window: microseconds of a step by time; None lets each recording fill all steps.
        binary: 1 where there is an event or more, in the place of their number.
    """

    steps: int
    by: By
    window: int | None = None
    binary: bool = False

    def check(self, where: str) -> None:
        """Refuse options that do not go together.

        Raises:
            ConfigError: a window for frames that are not made by time, or binary voxels.
        """
        if self.window is not None and self.by != "time":
            todo = "drop it, or set by = 'time'"
            raise ConfigError.of(
                f"{where}.window", f"none with by = '{self.by}'", self.window, todo
            )
        if self.binary and self.by == "voxel":
            todo = "drop it, or set by = 'time' or 'count'"
            raise ConfigError.of(f"{where}.binary", "false with by = 'voxel'", "true", todo)

    def make(self, recordings: Recordings, sensor: Sensor) -> Arrays:
        """Make the frames of all recordings, one after the other.

        Returns:
            For every part `x_PART` [N, T, ...] and `y_PART` [N]: bytes, or wider where a count
            does not fit; booleans where binary; float32 for voxels.

        Raises:
            DataError: an event beyond the sensor.
        """
        x: dict[str, list[np.ndarray]] = {}
        y: dict[str, list[int]] = {}
        for part, label, where, events in recordings:
            x.setdefault(part, []).append(self.frames(events, sensor, where))
            y.setdefault(part, []).append(label)
        stacked = {f"x_{part}": np.stack(rows) for part, rows in x.items()}
        return stacked | {f"y_{part}": np.array(rows, np.int64) for part, rows in y.items()}

    def frames(self, events: Events, sensor: Sensor, where: str) -> np.ndarray:
        """Make the frames of one recording.

        Raises:
            DataError: an event beyond the sensor.
        """
        events.check(where, sensor)
        frames = self._binning(events, sensor, self.steps)
        return _narrow(frames > 0 if self.binary else frames)

    @property
    def _binning(self) -> Binning:
        ways: dict[str, Callable[..., np.ndarray]] = {
            "time": partial(frames_by_time, window=self.window),
            "count": frames_by_count,
            "voxel": voxel_grid,
        }
        return ways[self.by]

    def samples(self, arrays: Arrays, part: str) -> Samples:
        """Return a part of what `make` returned."""
        x, y = (torch.from_numpy(arrays[f"{name}_{part}"]) for name in ("x", "y"))
        values = "real" if self.by == "voxel" else "events" if self.binary else "counts"
        return Samples(x, y, Scaling(time=True), values=values)


def _narrow(frames: np.ndarray) -> np.ndarray:
    """Return counts as bytes where they fit; other kinds as they are."""
    if frames.dtype != np.int64:
        return frames
    return frames.astype(np.uint8 if int(frames.max()) <= BYTE else np.int32)
