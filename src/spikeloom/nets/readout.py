"""What passes between networks, heads and rules: losses and objectives."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import PLAIN, Ops


class Loss(NamedTuple):
    """A head's answer for one batch.

    Shape:
        logits: [B, K]; value: [].
    """

    logits: Tensor
    value: Tensor


class Error(NamedTuple):
    """A head's answer for one batch and its error, without a graph.

    Shape:
        logits: [B, K]; value: []; outputs, error: [B, M K] for a head with M maps, else as the
        features. The error is the gradient of value, a mean over samples, by outputs.
    """

    logits: Tensor
    value: Tensor
    outputs: Tensor
    error: Tensor


class Objective(Protocol):
    """A head's loss bound to one batch: targets and random draws are fixed inside.

    However often it is called for the batch, its draws (a stochmax mask) stay the same.
    """

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of the head."""
        ...

    def __call__(self, h: Tensor, ops: Ops = PLAIN) -> Loss:
        """Return logits and loss for one step's features [B, D]."""
        ...

    def over(self, hs: Tensor, ops: Ops = PLAIN) -> Loss:
        """Return logits and loss for a train of features [T, B, D], reduced as the head says."""
        ...

    def error(self, h: Tensor, ops: Ops = PLAIN) -> Error:
        """Return the error at the outputs, for features [B, D] or a train of them [T, B, D].

        A train is reduced as `over` does. No `.grad` is touched.
        """
        ...

    def weights(self, steps: int) -> Sequence[float] | None:
        """Return the weights with which `over` reduces T steps to one; None where it reads all.

        With them a rule may sum features as they come, and call the objective once.
        """
        ...
