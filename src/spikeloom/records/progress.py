"""What a long task tells whoever watches it."""

from typing import TYPE_CHECKING

from spikeloom.base.errors import ConfigError

if TYPE_CHECKING:
    from spikeloom.records.run import EpochRecord


class Progress:
    """Receives news from a long task; this base shows nothing.

    A task is a chain of phases. Each begins with `phase`, is told of its advance, and ends where
    the next begins or `close` is called.
    """

    def plan(self, epochs: int, done: int = 0) -> None:
        """Take note of the whole run, for its time left.

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
        """Take note of `count` more units done; figures are means so far, e.g. loss, accuracy."""

    def epoch(self, entry: "EpochRecord") -> None:
        """Take note of an epoch's metrics; the epoch is over, its validation included."""

    @property
    def takes_notes(self) -> bool:
        """Whether `note` does anything: what is measured for a note alone is else left out."""
        return type(self).note is not Progress.note

    def note(self, text: str) -> None:
        """Take note of one line worth reading, e.g. the predicted training memory."""

    def inputs(self, text: str) -> None:
        """Take note of what the net is shown, one line that runs on the same data repeat."""

    def warn(self, text: str) -> None:
        """Take note of one line that asks for action, e.g. a dead layer."""

    def close(self) -> None:
        """End the last phase."""


SILENT = Progress()
"""Shows nothing."""


class _All(Progress):
    def __init__(self, *parts: Progress) -> None:
        self.parts = parts

    def plan(self, epochs: int, done: int = 0) -> None:
        for part in self.parts:
            part.plan(epochs, done)

    def phase(self, name: str, total: int, unit: str = "images", *, done: int = 0) -> None:
        for part in self.parts:
            part.phase(name, total, unit, done=done)

    def advance(self, count: int, **figures: float) -> None:
        for part in self.parts:
            part.advance(count, **figures)

    def epoch(self, entry: "EpochRecord") -> None:
        for part in self.parts:
            part.epoch(entry)

    @property
    def takes_notes(self) -> bool:
        return any(part.takes_notes for part in self.parts)

    def note(self, text: str) -> None:
        for part in self.parts:
            part.note(text)

    def inputs(self, text: str) -> None:
        for part in self.parts:
            part.inputs(text)

    def warn(self, text: str) -> None:
        for part in self.parts:
            part.warn(text)

    def close(self) -> None:
        for part in self.parts:
            part.close()


def expect_progress(given: object) -> None:
    """Refuse what is no progress before anything is loaded.

    Raises:
        ConfigError: another type; `cli.progress.watcher` gives one inside a with block.
    """
    if not isinstance(given, Progress):
        raise ConfigError(
            f"progress: expected a Progress, got {type(given).__name__}; write `with watcher() as "
            "shown:` and pass progress=shown, or a class of your own that extends Progress."
        )


def all_of(*parts: Progress) -> Progress:
    """Return a progress that passes all news on to several, e.g. a terminal and TensorBoard."""
    return parts[0] if len(parts) == 1 else _All(*parts)
