"""Cross entropy mixed with squared error: the loss that heads on scores or rates share."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.checks import expect, within
from spikeloom.heads.losses import batch_mean, cross_entropy

SHARE = within(0, 1, noun="a share")
"""Range of the squared error's share of the loss."""


@dataclass(frozen=True)
class Mix:
    r"""A share of squared error beside cross entropy.

    .. math::
        L = (1 - w)\,CE(o, y) + w\,\frac{1}{BK} \sum_{b,k} (o_{bk} - c_{bk})^2, \quad
        c_{bk} = \begin{cases} c_{correct} & k = y_b \\ c_{wrong} & \text{else} \end{cases}

    Args:
        where: name of the head, for messages.
        share: w, in [0, 1]; 0 is plain cross entropy, 1 plain squared error.
        correct: target of the right class, in the unit of o.
        wrong: target of every other class.

    Raises:
        ConfigError: w outside [0, 1], or a right class whose target is not above the others'.

    Example:
        >>> rates = torch.tensor([[0.75, 0.25]])
        >>> Mix("head", 1.0, 1.0, 0.25).loss(rates, torch.tensor([0])).item()
        0.03125
    """

    where: str
    share: float
    correct: float = 1.0
    wrong: float = 0.0

    def __post_init__(self) -> None:
        SHARE.check(f"{self.where}.mse", self.share)
        expect(
            self.correct > self.wrong,
            f"{self.where}.correct",
            f"a target above that of wrong classes, which is {self.wrong}",
            self.correct,
            "raise it, or lower wrong",
        )

    def loss(
        self, o: Tensor, target: Tensor, goal: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            o: scores or rates.
            target: labels.
            goal: c, where it does not follow from the label.
            weights: of the samples, as `batch_mean` takes them.

        Shape:
            o, goal: [B, K]; target, weights: [B]; result: [].
        """
        value = o.new_zeros(())
        if self.share < 1:
            value = value + (1 - self.share) * cross_entropy(o, target, weights)
        if self.share > 0:
            value = value + self.share * _squares(o, self._goal(o, target, goal), weights)
        return value

    def _goal(self, o: Tensor, target: Tensor, goal: Tensor | None) -> Tensor:
        if goal is not None:
            return goal
        hit = F.one_hot(target, o.shape[1]).to(torch.bool)
        return torch.where(hit, torch.full_like(o, self.correct), self.wrong)


def _squares(o: Tensor, goal: Tensor, weights: Tensor | None) -> Tensor:
    """Return the squared error, mean over batch and classes."""
    if weights is None:
        return F.mse_loss(o, goal)
    return batch_mean((o - goal).square().mean(1), weights)
