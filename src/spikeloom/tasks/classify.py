"""Classification: one class of K for each sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.errors import DataError
from spikeloom.tasks.base import TASKS, Task
from spikeloom.tasks.metric import ACCURACY, Metric


@TASKS.register("classify")
@dataclass(frozen=True)
class Classify(Task):
    r"""One class of K for each sample; the answer is the class with the highest score.

    .. math::
        accuracy = \frac{1}{N} \sum_n [\arg\max_k o_{nk} = y_n], \quad
        \ell_n = -\log softmax(o_n)_{y_n}

    o are the scores, y the labels, N the number of samples, and :math:`\ell` the loss of a sample.

    Raises:
        DataError: labels that are not class numbers (`check`).
    """

    about: ClassVar[str] = "one class for each sample"
    called: ClassVar[str] = "task.classify"
    head: ClassVar[str] = "softmax"
    labels: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY,)

    def check(self, where: str, target: Tensor, outputs: int) -> None:
        """Check that targets are class numbers in 0..K-1, one per sample.

        Shape:
            target: [N], int64.

        Raises:
            DataError: they are not.
        """
        if target.dtype != torch.int64 or target.ndim != 1:
            came = f"{target.dtype} {list(target.shape)}"
            raise DataError.of(where, "class numbers, int64 [N]", came, "convert them")
        wrong = ((target < 0) | (target >= outputs)).nonzero()
        if len(wrong):
            row = int(wrong[0])
            raise DataError.of(
                where,
                f"labels in 0..{outputs - 1}",
                f"{int(target[row])} at row {row}",
                "correct the label or the number of classes",
            )

    def losses(self, answers: Tensor, target: Tensor) -> Tensor:
        """Return the cross entropy of each sample.

        Shape:
            answers: [B, K]; target, result: [B].
        """
        return F.cross_entropy(answers, target, reduction="none")

    def loss(self, answers: Tensor, target: Tensor) -> float:
        """Return the sum of the cross entropies; torch sums them in the same call."""
        return float(F.cross_entropy(answers, target, reduction="sum"))

    def sums(self, answers: Tensor, target: Tensor) -> list[float]:
        """Return the number of right answers and the number of samples.

        Shape:
            answers: [B, K]; target: [B].
        """
        return [int((answers.argmax(1) == target).sum()), len(target)]

    def confusion(self, answers: Tensor, target: Tensor) -> Tensor:
        """Return the confusion matrix: labels in rows, answers in columns.

        Shape:
            answers: [B, K]; target: [B]; result: [K, K].
        """
        classes = answers.shape[1]
        pairs = target * classes + answers.argmax(1)
        return torch.bincount(pairs.cpu(), minlength=classes * classes).view(classes, classes)

    def figures(self, sums: Sequence[float]) -> Mapping[str, float]:
        """Return the accuracy."""
        right, samples = sums
        return {ACCURACY.name: right / max(1, samples)}
