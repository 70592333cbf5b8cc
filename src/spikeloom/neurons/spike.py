"""The spike: a step function forward, a surrogate slope backward."""

from typing import Any

import torch
from torch import Tensor

from spikeloom.neurons.surrogate import Surrogate


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any, u: Tensor, v_th: Tensor | float, surrogate: Surrogate, strict: bool
    ) -> Tensor:
        ctx.surrogate = surrogate
        if isinstance(v_th, Tensor):
            ctx.save_for_backward(u, v_th)
        else:
            ctx.save_for_backward(u)
            ctx.v_th = v_th
        return (u > 0 if strict else u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: D102
        u, *rest = ctx.saved_tensors
        v_th = rest[0] if rest else ctx.v_th
        return grads[0] * ctx.surrogate.slope(u, v_th), None, None, None


def spike(
    u: Tensor, surrogate: Surrogate, *, v_th: Tensor | float = 1.0, strict: bool = False
) -> Tensor:
    r"""Fire where the potential reaches the threshold.

    .. math:: s = H(u), \qquad \frac{\partial s}{\partial u} := surrogate.slope(u, v_{th})

    Args:
        u: distance to the threshold, v - v_th.
        surrogate: slope used in place of the missing derivative.
        v_th: threshold, for surrogates whose width is measured in thresholds; no gradient.
        strict: fire above the threshold only (u > 0) instead of at it too (u >= 0).

    Returns:
        Spikes in {0, 1}, in the type of u.

    Shape:
        u, result: any.

    Source:
        Neftci, Mostafa & Zenke 2019.
    """
    out: Tensor = _Spike.apply(u, v_th, surrogate, strict)  # pyright: ignore[reportAssignmentType]
    return out
