"""Turns recordings of events into frames, and frames into the parts of a data set."""

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
"""For each recording: part ("train", "test", ...), label, path for messages, and events."""

BYTE = np.iinfo(np.uint8).max


@dataclass(frozen=True)
class Frames:
    """How recordings of events become frames.

    Args:
        steps: number of frames, T.
        by: "time" for frames of equal duration, "count" for frames with equal numbers of events, or
            "voxel" for real values: each event is shared between the two nearest frames, +1 for on
            and -1 for off.
        window: duration of a frame in microseconds, with by = "time"; None divides each recording
            into T equal frames.
        binary: whether a frame holds 1 where there are events, in place of their number.
    """

    steps: int
    by: By
    window: int | None = None
    binary: bool = False

    def check(self, where: str) -> None:
        """Refuse options that cannot be combined.

        Raises:
            ConfigError: `window` with by = "count" or "voxel", or `binary` with by = "voxel".
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
        """Make the frames of all recordings.

        Returns:
            For every part the frames `x_PART` [N, T, ...] and the labels `y_PART` [N]. Frames are
            uint8, or a wider type if a count does not fit; booleans if binary; float32 for voxels.

        Raises:
            DataError: an event lies outside the sensor.
        """
        x: dict[str, list[np.ndarray]] = {}
        y: dict[str, list[int]] = {}
        for part, label, where, events in recordings:
            x.setdefault(part, []).append(self.frames(events, sensor, where))
            y.setdefault(part, []).append(label)
        stacked = {f"x_{part}": np.stack(rows) for part, rows in x.items()}
        return stacked | {f"y_{part}": np.array(rows, np.int64) for part, rows in y.items()}

    def frames(self, events: Events, sensor: Sensor, where: str) -> np.ndarray:
        """Make the frames [T, ...] of one recording.

        Raises:
            DataError: an event lies outside the sensor.
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
        """Return the samples of one part from the result of `make`."""
        x, y = (torch.from_numpy(arrays[f"{name}_{part}"]) for name in ("x", "y"))
        values = "real" if self.by == "voxel" else "events" if self.binary else "counts"
        return Samples(x, y, Scaling(time=True), values=values)


def _narrow(frames: np.ndarray) -> np.ndarray:
    """Return counts as uint8 if they fit, else as int32; other types unchanged."""
    if frames.dtype != np.int64:
        return frames
    return frames.astype(np.uint8 if int(frames.max()) <= BYTE else np.int32)
