"""What a task is: the form of its targets, and the figures that its answers are judged by."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from spikeloom.base.fields import Checked
from spikeloom.base.registry import Registry
from spikeloom.tasks.metric import Metric

_NEEDS = ("about", "metrics", "head", "check", "losses", "sums", "figures")

TASKS: Registry[type["Task"]] = Registry("task", "spikeloom.tasks", _NEEDS)


class Task(Checked):
    r"""What is learned: a frozen value of options, and how answers are judged.

    Answers are judged in two steps. `sums` makes of some samples what adds up: over batches and
    processes, in any order, the sums are those of all samples. `figures` makes of the sums what is
    reported. So a figure never depends on how samples were cut, as a mean of means would.

    Beside its metrics every task has a loss of its answers, `losses`: its own, whatever the head
    trains with, so that rules and heads can be compared by it.
    """

    about: ClassVar[str]
    head: ClassVar[str]
    """Name of the head that a recipe gets if it names none."""
    labels: ClassVar[bool] = False
    """Whether targets are class numbers and answers scores of classes; else both are numbers."""
    metrics: ClassVar[tuple[Metric, ...]]
    """The first decides: selection, early stop, tuning, picks and the first column follow it."""

    @property
    def first(self) -> Metric:
        """The metric that decides."""
        return self.metrics[0]

    def check(self, where: str, target: Tensor, outputs: int) -> None:
        """Refuse targets that are none of this task's.

        Args:
            where: whose targets, for the message.
            target: of some samples.
            outputs: width K of the net's answer.

        Shape:
            target: [N, ...].

        Raises:
            DataError: another type, shape or range; the message names the first bad row.
        """
        raise NotImplementedError

    def losses(self, answers: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each answer.

        Shape:
            answers: [B, K]; target: [B, ...]; result: [B].
        """
        raise NotImplementedError

    def loss(self, answers: Tensor, target: Tensor) -> float:
        """Return the sum of the losses; see `losses`."""
        return float(self.losses(answers, target).sum())

    def sums(self, answers: Tensor, target: Tensor) -> list[float]:
        """Return what adds up over samples.

        Shape:
            answers: [B, K]; target: [B, ...].
        """
        raise NotImplementedError

    def confusion(self, answers: Tensor, target: Tensor) -> Tensor | None:
        """Return how often a class was given an answer; None for tasks without classes.

        Shape:
            answers: [B, K]; target: [B]; result: [K, K], int64, labels first.
        """
        return None

    def figures(self, sums: Sequence[float]) -> Mapping[str, float]:
        """Return every metric by name, from sums over samples."""
        raise NotImplementedError
