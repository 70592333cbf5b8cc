"""What a long task tells whoever watches it."""

from typing import Any


class Progress:
    """Receives news from a long task; this base shows nothing.

    A task is a chain of phases. Each begins with `phase`, is told of its advance, and ends where
    the next begins or `close` is called.
    """

    def phase(self, name: str, total: int, unit: str = "images") -> None:
        """Begin a phase of `total` units, e.g. "epoch 3/20", "validation", "decode cifar10"."""

    def advance(self, count: int, **figures: float) -> None:
        """Take note of `count` more units done; figures are means so far, e.g. loss, accuracy."""

    def epoch(self, entry: dict[str, Any]) -> None:
        """Take note of an epoch's metrics."""

    def note(self, text: str) -> None:
        """Take note of one line worth reading, e.g. the predicted training memory."""

    def warn(self, text: str) -> None:
        """Take note of one line that asks for action, e.g. a dead layer."""

    def close(self) -> None:
        """End the last phase."""


SILENT = Progress()
"""Shows nothing."""
