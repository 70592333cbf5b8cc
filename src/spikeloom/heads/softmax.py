"""Softmax head: cross entropy, squared error, or a mix of both."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError
from spikeloom.base.fields import checked
from spikeloom.heads.base import HEADS, Head, Reduction, batch_mean, cross_entropy, widened
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Loss


@HEADS.register("softmax")
class Softmax(Head):
    r"""Cross entropy mixed with squared error.

    .. math:: L = (1 - w)\,CE(o, y) + w\,\frac{1}{BK} \sum_{b,k} (o_{bk} - c_{bk})^2

    with CE averaged over the batch and c the one-hot label ("onehot") or 1 for every class
    ("ones").

    Args:
        features: D.
        classes: K.
        mse: w, in [0, 1]; 0 is plain cross entropy, 1 plain squared error.
        mse_target: "onehot" (OTTT) or "ones" (SLTT on static images).
        bias: whether the map has one.
        reduce: how a train becomes one vector.
        decay: lambda of "membrane" and "weighted".
        seed: of the initial weights.

    Raises:
        ConfigError: w outside [0, 1].

    Source:
        Xiao et al. 2022 and Meng et al. 2023 (code) for the mix.
    """

    about: ClassVar[str] = "softmax with cross entropy, squared error or a mix"
    source: ClassVar[Citation | None] = None

    @checked("head.softmax")
    def __init__(
        self,
        features: int,
        classes: int,
        *,
        mse: float = 0.0,
        mse_target: Literal["onehot", "ones"] = "onehot",
        bias: bool = True,
        reduce: Reduction = "mean",
        decay: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(features, classes, bias=bias, reduce=reduce, decay=decay, seed=seed)
        if not 0 <= mse <= 1:
            raise ConfigError(f"head.softmax.mse: expected [0, 1], got {mse}; change it.")
        self.mse = mse
        self.mse_target = mse_target

    def loss(
        self,
        h: Tensor,
        target: Tensor,
        *,
        noise: Tensor | None,
        ops: Ops = PLAIN,
        weights: Tensor | None = None,
    ) -> Loss:
        """Return logits and loss.

        Shape:
            h: [B, D]; target, weights: [B].
        """
        o = widened(self.scores(h, ops))
        value = o.new_zeros(())
        if self.mse < 1:
            value = value + (1 - self.mse) * cross_entropy(o, target, weights)
        if self.mse > 0:
            goal = torch.ones_like(o)
            if self.mse_target == "onehot":
                goal = F.one_hot(target, self.classes).to(o.dtype)
            value = value + self.mse * self._squares(o, goal, weights)
        return Loss(o, value)

    def _squares(self, o: Tensor, goal: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None:
            return F.mse_loss(o, goal)
        return batch_mean((o - goal).square().mean(1), weights)
