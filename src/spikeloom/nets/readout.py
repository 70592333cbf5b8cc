"""What passes between networks, heads and rules: losses and objectives."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from spikeloom.nets.ops import PLAIN, Ops


class Loss(NamedTuple):
    """A head's answer for one batch.

    Shape:
        logits: [B, K]; value: [].
    """

    logits: Tensor
    value: Tensor


class Objective(Protocol):
    """A head's loss bound to one batch: targets and random draws are fixed inside.

    However often it is called for the batch, its draws (a stochmax mask) stay the same.
    """

    def __call__(self, h: Tensor, ops: Ops = PLAIN) -> Loss:
        """Return logits and loss for one step's features [B, D]."""
        ...

    def over(self, hs: Tensor, ops: Ops = PLAIN) -> Loss:
        """Return logits and loss for a train of features [T, B, D], reduced as the head says."""
        ...

    def weights(self, steps: int) -> Sequence[float] | None:
        """Return the weights with which `over` reduces T steps to one; None where it reads all.

        With them a rule may sum features as they come, and call the objective once.
        """
        ...
