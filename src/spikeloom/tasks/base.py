"""The base class of tasks: the form of targets, the loss, and the metrics."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from spikeloom.base.fields import Checked
from spikeloom.base.registry import Registry
from spikeloom.tasks.metric import Metric

_NEEDS = ("about", "metrics", "head", "check", "losses", "sums", "figures")

TASKS: Registry[type["Task"]] = Registry("task", "spikeloom.tasks", _NEEDS)


class Task(Checked):
    r"""What is learned: the form of targets, a loss, and metrics. A task is a frozen dataclass.

    Metrics are computed in two steps. `sums` returns numbers for some samples that are added up
    over batches and processes; `figures` computes the metrics from the totals. So a metric does not
    depend on how the samples were split into batches, as a mean of batch means would.

    Every task also has its own loss, `losses`. It is the same whatever loss the head trains with,
    so that learning rules and heads can be compared by it.
    """

    about: ClassVar[str]
    """One line for listings."""
    head: ClassVar[str]
    """Name of the head that a recipe gets if it names none."""
    labels: ClassVar[bool] = False
    """Whether targets are class numbers and answers are scores of classes; else both are reals."""
    metrics: ClassVar[tuple[Metric, ...]]
    """The first one selects models, stops early, guides tuning, and is the first table column."""

    @property
    def first(self) -> Metric:
        """The main metric: it selects models, and early stopping and tuning use it."""
        return self.metrics[0]

    def check(self, where: str, target: Tensor, outputs: int) -> None:
        """Check that targets have the type, shape and range of this task.

        Args:
            where: origin of the targets, for the message.
            target: targets of some samples.
            outputs: number of outputs of the net, K.

        Shape:
            target: [N, ...].

        Raises:
            DataError: another type, shape or range; the message names the first wrong row.
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
        """Return the numbers that are added up over samples; see `figures`.

        Shape:
            answers: [B, K]; target: [B, ...].
        """
        raise NotImplementedError

    def confusion(self, answers: Tensor, target: Tensor) -> Tensor | None:
        """Return the confusion matrix; None for tasks without classes.

        Shape:
            answers: [B, K]; target: [B]; result: [K, K], int64, rows are labels and columns are
            answers.
        """
        return None

    def figures(self, sums: Sequence[float]) -> Mapping[str, float]:
        """Return the value of every metric by name, from the totals of `sums`."""
        raise NotImplementedError
