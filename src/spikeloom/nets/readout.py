"""What heads give to learning rules: losses, errors and the objective of a batch."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import PLAIN, Ops


class Loss(NamedTuple):
    """A head's answer for one batch, and its loss.

    Shape:
        logits: [B, K]; value: [].
    """

    logits: Tensor
    value: Tensor


class Error(NamedTuple):
    """A head's answer for one batch and its error; no tensor has an autograd graph.

    The error is the gradient of `value` (the loss, a mean over samples) with respect to `outputs`.

    Shape:
        logits: [B, K]; value: []; outputs, error: [B, M K] for a head with M linear maps, else
        the shape of the features.
    """

    logits: Tensor
    value: Tensor
    outputs: Tensor
    error: Tensor


class Objective(Protocol):
    """A head's loss for one batch: the targets and the random draws are fixed.

    However often it is called, its random draws (e.g. the mask of stochmax) stay the same.
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

        A train is reduced as in `over`. No parameter's ``.grad`` changes.
        """
        ...

    def weights(self, steps: int) -> Sequence[float] | None:
        """Return the weights by which `over` averages T steps; None if it is no weighted mean.

        With them a rule can add up the features step by step and call the objective once.
        """
        ...
