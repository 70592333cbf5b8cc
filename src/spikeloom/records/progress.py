"""Progress of a long task, as it reports it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from spikeloom.base.errors import ConfigError

if TYPE_CHECKING:
    from spikeloom.records.run import EpochRecord


class Progress:
    """Receives the progress of a long task; this base class shows nothing.

    A task is a chain of phases. Each begins with `phase`, counts its units by `advance`, and ends
    where the next begins or `close` is called.
    """

    def plan(self, epochs: int, done: int = 0) -> None:
        """Receive the number of epochs of the run, for the time left.

        Args:
            epochs: of all stages together.
            done: those that an earlier process finished, where a run is resumed.
        """

    def phase(self, name: str, total: int, unit: str = "images", *, done: int = 0) -> None:
        """Begin a phase of `total` units, e.g. "epoch 3/20", "validation", "decode cifar10".

        Args:
            name: what is done, without a time or a number of units.
            total: units in all.
            unit: what is counted, in the plural.
            done: units that an earlier process did; they count for the share, not for the speed.
        """

    def advance(self, count: int, **figures: float) -> None:
        """Receive `count` more units done; figures are means so far, e.g. loss, accuracy."""

    def epoch(self, entry: "EpochRecord") -> None:
        """Receive an epoch's metrics; the epoch is over, its validation included."""

    @property
    def takes_notes(self) -> bool:
        """Whether `note` does anything: what is measured for a note alone is left out otherwise."""
        return type(self).note is not Progress.note

    def note(self, text: str) -> None:
        """Receive one line worth reading, e.g. the predicted training memory."""

    def inputs(self, text: str) -> None:
        """Receive one line on the input of the net; runs on the same data repeat it."""

    def warn(self, text: str) -> None:
        """Receive one line that asks for action, e.g. on a dead layer."""

    def close(self) -> None:
        """End the last phase."""


SILENT = Progress()
"""Shows nothing."""


class _All(Progress):
    """Passes whatever it receives on to several."""

    def __init__(self, *parts: Progress) -> None:
        self.parts = parts
        for name in ("plan", "phase", "advance", "epoch", "note", "inputs", "warn", "close"):
            setattr(self, name, partial(_each, [getattr(part, name) for part in parts]))

    @property
    def takes_notes(self) -> bool:
        return any(part.takes_notes for part in self.parts)


def _each(calls: Sequence[Callable[..., None]], *received: Any, **named: Any) -> None:
    for call in calls:
        call(*received, **named)


def expect_progress(given: object) -> None:
    """Refuse what is no progress before anything is loaded.

    Raises:
        ConfigError: another type; `cli.progress.watcher` gives one inside a with block.
    """
    if not isinstance(given, Progress):
        raise ConfigError.of(
            "progress",
            "a Progress",
            type(given).__name__,
            "write `with watcher() as shown:` and pass progress=shown, or a class of your own "
            "that extends Progress",
        )


def all_of(*parts: Progress) -> Progress:
    """Return a progress that passes everything on to several, e.g. a terminal and TensorBoard."""
    return parts[0] if len(parts) == 1 else _All(*parts)
