"""Regression: K numbers for each sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeloom.base.errors import DataError
from spikeloom.base.types import FLOATS
from spikeloom.tasks.base import TASKS, Task
from spikeloom.tasks.metric import Metric


@TASKS.register("regress")
@dataclass(frozen=True)
class Regress(Task):
    r"""K numbers for each sample.

    .. math::
        MAE = \frac{1}{NK} \sum_{nk} |o_{nk} - y_{nk}|, \quad
        R^2 = 1 - \frac{\sum_{nk} (o_{nk} - y_{nk})^2}{\sum_{nk} (y_{nk} - \bar y_k)^2}, \quad
        \ell_n = \frac{1}{K} \sum_k (o_{nk} - y_{nk})^2

    o are the answers, y the targets, :math:`\bar y_k` is the mean target of output k over the same
    samples, and :math:`\ell` the loss of a sample. The best constant answer has R2 = 0. If no
    target varies between samples, R2 is set to 0.

    Raises:
        DataError: targets that are not finite numbers (`check`).
    """

    about: ClassVar[str] = "real numbers for each sample"
    called: ClassVar[str] = "task.regress"
    head: ClassVar[str] = "squared"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mae", "MAE", best="low", least=0, about="mean absolute error, in targets' units"),
        Metric(
            "r2",
            "R2",
            most=1,
            decimals=3,
            about="share of the targets' variance that answers explain",
        ),
    )

    def check(self, where: str, target: Tensor, outputs: int) -> None:
        """Check that targets are K finite numbers per sample.

        Shape:
            target: [N, K], floating point.

        Raises:
            DataError: they are not.
        """
        if target.dtype not in FLOATS or target.ndim != 2 or target.shape[1] != outputs:
            came = f"{target.dtype} {list(target.shape)}"
            todo = "give one row per sample, and the net as many outputs as a row has numbers"
            raise DataError.of(where, f"real numbers [N, {outputs}]", came, todo)
        wrong = (~target.isfinite().all(1)).nonzero()
        if len(wrong):
            came = f"NaN or infinity at row {int(wrong[0])}"
            raise DataError.of(where, "finite targets", came, "correct the target")

    def losses(self, answers: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of each sample, averaged over outputs.

        Shape:
            answers, target: [B, K]; result: [B].
        """
        return (answers - target).square().mean(1)

    def sums(self, answers: Tensor, target: Tensor) -> list[float]:
        """Return the number of samples and sums of errors and targets.

        In order: N, the sums of absolute and squared errors over samples and outputs, then for each
        output the sum of targets, then for each output the sum of squared targets.

        Shape:
            answers, target: [B, K].
        """
        target = target.double()
        gap = answers.double() - target
        whole = [len(gap), float(gap.abs().sum()), float(gap.square().sum())]
        return [*whole, *target.sum(0).tolist(), *target.square().sum(0).tolist()]

    def figures(self, sums: Sequence[float]) -> Mapping[str, float]:
        """Return MAE and R2."""
        count, absolute, squared = sums[:3]
        outputs = (len(sums) - 3) // 2
        pairs = zip(sums[3 : 3 + outputs], sums[3 + outputs :], strict=True)
        spread = sum(square - total**2 / max(1, count) for total, square in pairs)
        # a difference of two large sums: a result in the size of rounding errors counts as 0
        known = spread > 1e-12 * max(sums[3 + outputs :], default=0.0)
        r2 = 1 - squared / spread if known else 0.0
        return {"mae": absolute / max(1, count * outputs), "r2": r2}
