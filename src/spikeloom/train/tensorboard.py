"""Curves of a run for TensorBoard."""

from pathlib import Path
from typing import TYPE_CHECKING

from spikeloom.base.extras import need
from spikeloom.records.progress import Progress
from spikeloom.records.run import validation

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from spikeloom.records.run import EpochRecord

_TAGS = {
    "loss": "loss/train",
    "val_loss": "loss/validation",
    "lr": "learning_rate",
    "seconds": "seconds_per_epoch",
}
"""Name of a curve by field of an epoch's record; the pairs share a chart, as metrics' do."""


class TensorBoardProgress(Progress):
    """Writes the metrics of every epoch below ``<run>/tensorboard``.

    The horizontal axis counts the epochs of all stages from 1. Points of an earlier attempt at the
    same epochs are dropped: all of them, or where a run is resumed (`plan` says so) those of the
    epochs that are trained again. The folder appears with the first epoch.

    Args:
        run: run folder.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / "tensorboard"
        self._writer_class = _writer_class()
        self._writer: SummaryWriter | None = None
        self._done = 0

    def plan(self, epochs: int, done: int = 0) -> None:
        """Begin at the first epoch that is not done."""
        self.close()
        self._done = done

    def epoch(self, entry: "EpochRecord") -> None:
        """Write one point per curve; the rates of layers where the entry has them."""
        if self._writer is None:
            self._writer = self._writer_class(str(self.folder), purge_step=self._done + 1)
        self._done += 1
        figures = ((tag, getattr(entry, key)) for key, tag in _TAGS.items())
        points = {tag: value for tag, value in figures if value is not None}
        for name in entry.judged:
            points[f"{name}/train"] = entry[name]
            points[f"{name}/validation"] = entry[validation(name)]
        points |= {f"rate/{layer.site}": layer.rate_per_step for layer in entry.health or ()}
        for tag, value in points.items():
            self._writer.add_scalar(tag, value, self._done)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; a later epoch opens another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _writer_class() -> "type[SummaryWriter]":
    need("tensorboard", "--tensorboard", "curves")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter
