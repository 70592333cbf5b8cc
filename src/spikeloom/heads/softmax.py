"""Softmax head: cross entropy, squared error, or a mix of both."""

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError
from spikeloom.base.fields import checked
from spikeloom.heads.base import HEADS, Decay, Head, Reduction
from spikeloom.heads.losses import cross_entropy, widened
from spikeloom.heads.mix import SHARE, Mix
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Loss


@HEADS.register("softmax")
class Softmax(Head):
    r"""Cross entropy mixed with squared error.

    .. math:: L = (1 - w)\,CE(o, y) + w\,\frac{1}{BK} \sum_{b,k} (o_{bk} - c_{bk})^2

    with CE averaged over the batch and c the one-hot label ("onehot"), with other values where
    `correct` and `wrong` say so, or 1 for every class ("ones").

    Args:
        features: D.
        classes: K.
        mse: w, in [0, 1]; 0 is plain cross entropy, 1 plain squared error.
        mse_target: "onehot" (OTTT) or "ones" (SLTT on static images).
        correct: c of the right class ("onehot").
        wrong: c of the other classes ("onehot").
        bias: whether the map has one.
        reduce: how a train becomes one vector.
        decay: lambda of "membrane" and "weighted".
        seed: of the initial weights.

    Raises:
        ConfigError: w outside [0, 1], a right class whose target is not above the others', or
            targets beside "ones".

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
        mse: Annotated[float, SHARE] = 0.0,
        mse_target: Literal["onehot", "ones"] = "onehot",
        correct: float = 1.0,
        wrong: float = 0.0,
        bias: bool = True,
        reduce: Reduction = "mean",
        decay: Decay = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(features, classes, bias=bias, reduce=reduce, decay=decay, seed=seed)
        self.mse = mse
        self.mix = Mix("head.softmax", mse, correct, wrong)
        if mse_target == "ones" and (correct, wrong) != (1, 0):
            raise ConfigError.of(
                "head.softmax.mse_target",
                f"onehot with correct = {correct} and wrong = {wrong}",
                "ones, which sets both to 1",
                "drop one of them",
            )
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
        if self.mse == 0:
            return Loss(o, cross_entropy(o, target, weights))
        goal = torch.ones_like(o) if self.mse_target == "ones" else None
        return Loss(o, self.mix.loss(o, target, goal, weights))
