"""Weighted sums and means over time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.torch_private import transformed
from spikeloom.base.tracing import ordinary
from spikeloom.neurons.base import LOW_PRECISION, Unit
from spikeloom.neurons.declared import TRACE_DECAY


def sum_over_time(hs: Tensor, weights: Sequence[float]) -> Tensor:
    r"""Return :math:`\sum_t w[t]\, h[t]`, in float32 at least if T > 1.

    Shape:
        hs: [T, B, ...]; result: [B, ...].
    """
    if len(hs) == 1 and weights[0] == 1:
        return hs.squeeze(0)
    if hs.dtype in LOW_PRECISION and not ordinary(hs):
        return _summed(hs.float(), weights)
    if hs.dtype in LOW_PRECISION:
        total: Tensor = _LowSum.apply(hs, tuple(weights))  # pyright: ignore[reportAssignmentType]
        return total
    images = hs.dim() == 5 and not transformed()  # vmap supports no memory format
    if images and hs[0].is_contiguous(memory_format=torch.channels_last):
        return _summed(hs.movedim(2, -1), weights).movedim(-1, 1)  # in the order of memory
    return _summed(hs, weights)


def _summed(hs: Tensor, weights: Sequence[float]) -> Tensor:
    if len(set(weights)) == 1:
        return hs.mean(0) if weights[0] == 1 / len(hs) else hs.sum(0) * weights[0]
    return torch.tensordot(hs.new_tensor(weights), hs, 1)


class RunningMean:
    r"""A mean over time, updated step by step and discounted by the decay of a unit.

    .. math:: m[t] = \frac{\sum_{s \le t} d^{t-s} x[s]}{\sum_{s \le t} d^{t-s}}

    Args:
        decay: d; 1 for the plain mean.

    Example:
        >>> mean = RunningMean(0.5)
        >>> mean.add(torch.zeros(1)), mean.add(torch.ones(1)), mean.value
        (None, None, tensor([0.6667]))
    """

    def __init__(self, decay: float = 1.0) -> None:
        self.decay = decay
        self._total: Tensor | None = None
        self._weight = 0.0

    def add(self, x: Tensor) -> None:
        """Add one step, in float32 at least."""
        if self._total is None:
            self._total = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        self._total.mul_(self.decay).add_(x)
        self._weight = self.decay * self._weight + 1

    @property
    def value(self) -> Tensor:
        """The mean so far; there must be a step."""
        assert self._total is not None
        return self._total / self._weight


def decay_of(unit: Unit | None) -> float:
    """Return the discount of a unit's rate per step: its `trace_decay`, else 1."""
    decay = None if unit is None else TRACE_DECAY.of(unit)
    return 1.0 if decay is None else decay


class _LowSum(torch.autograd.Function):
    """Sum in float32, step by step: torch would convert the whole train to float32 first."""

    @staticmethod
    def forward(ctx: Any, hs: Tensor, weights: tuple[float, ...]) -> Tensor:  # noqa: D102
        ctx.weights, ctx.dtype = weights, hs.dtype
        total = torch.zeros_like(hs[0], dtype=torch.float32)
        for h, weight in zip(hs.unbind(0), weights, strict=True):
            total.add_(h, alpha=weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102
        (grad,) = grads
        weights: tuple[float, ...] = ctx.weights
        if len(set(weights)) == 1:  # every step has the same gradient: expand it
            same = (grad * weights[0]).to(ctx.dtype)
            return same.expand(len(weights), *same.shape), None
        return torch.stack([(grad * weight).to(ctx.dtype) for weight in weights]), None
