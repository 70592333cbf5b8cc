"""Squared head: the last linear map gives numbers, which should be those of the target."""

from typing import Annotated, ClassVar

import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ShapeError
from spikeloom.base.fields import checked
from spikeloom.base.types import FLOATS
from spikeloom.heads.base import HEADS, Decay, Head, Reduction
from spikeloom.heads.losses import batch_mean, widened
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Loss


@HEADS.register("squared")
class Squared(Head):
    r"""Squared error of K numbers.

    .. math:: L = \frac{1}{BK} \sum_{b,k} (o_{bk} - y_{bk})^2

    Args:
        features: D.
        classes: K, how many numbers a target holds.
        bias: whether the map has one.
        reduce: how a train becomes one vector.
        decay: lambda of "membrane" and "weighted".
        seed: of the initial weights.
    """

    about: ClassVar[str] = "squared error of real numbers"
    labels: ClassVar[bool] = False
    fewest: ClassVar[int] = 1

    @checked("head.squared")
    def __init__(
        self,
        features: int,
        classes: Annotated[int, at_least(1, "output")],
        *,
        bias: bool = True,
        reduce: Reduction = "mean",
        decay: Decay = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(features, classes, bias=bias, reduce=reduce, decay=decay, seed=seed)

    def check_target(self, target: Tensor) -> None:
        """Refuse targets that are no K numbers per sample.

        Shape:
            target: [B, K].
        """
        if target.dtype not in FLOATS or target.ndim != 2 or target.shape[1] != self.classes:
            raise ShapeError.of(
                "head.squared",
                f"real targets [B, {self.classes}]",
                f"{target.dtype} {list(target.shape)}",
                "fix the data or the width of the readout",
            )

    def loss(
        self,
        h: Tensor,
        target: Tensor,
        *,
        noise: Tensor | None,
        ops: Ops = PLAIN,
        weights: Tensor | None = None,
    ) -> Loss:
        """Return answers and loss.

        Shape:
            h: [B, D]; target: [B, K]; weights: [B].
        """
        o = widened(self.scores(h, ops))
        target = target.to(o.dtype)
        if weights is None:
            return Loss(o, F.mse_loss(o, target))
        return Loss(o, batch_mean((o - target).square().mean(1), weights))
