"""The spike: a step function forward, a surrogate slope backward."""

from typing import Any

import torch
from torch import Tensor

from spikeloom.base.tracing import dual, functionalized, traced, transformed
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
        return _step(u, strict)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: D102
        u, *rest = ctx.saved_tensors
        v_th = rest[0] if rest else ctx.v_th
        return grads[0] * ctx.surrogate.slope(u, v_th), None, None, None


class _Followed(torch.autograd.Function):
    """The same under transforms and with tangents; torch takes longer to call it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        u: Tensor, v_th: Tensor | float, surrogate: Surrogate, strict: bool
    ) -> Tensor:
        return _step(u, strict)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: D102
        u, v_th, ctx.surrogate, _ = inputs
        tensors = (u, v_th) if isinstance(v_th, Tensor) else (u,)
        ctx.v_th = None if isinstance(v_th, Tensor) else v_th
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    backward = _Spike.backward

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: Any) -> Tensor | None:  # noqa: D102
        return None if tangent is None else _Spike.backward(ctx, tangent)[0]


def _traced(u: Tensor, v_th: Tensor | float, surrogate: Surrogate, strict: bool) -> Tensor:
    """Fire by operators alone: for graphs that are saved, and transforms that know nothing else.

    The second term is 0; its first two derivatives are the slope and the slope's own derivative.
    It is there without gradients too, or torch's check of the recording, which wants none, would
    find another graph.
    """
    fired = _step(u, strict)
    if torch.onnx.is_in_onnx_export():
        return fired
    still = u.detach()
    return fired + surrogate.slope((u + still) / 2, v_th) * (u - still)


def _step(u: Tensor, strict: bool) -> Tensor:
    return (u > 0 if strict else u >= 0).to(u.dtype)


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
    kind = _Spike
    if not torch.compiler.is_compiling():
        if traced() or functionalized():
            return _traced(u, v_th, surrogate, strict)
        if transformed() or dual():
            kind = _Followed
    out: Tensor = kind.apply(u, v_th, surrogate, strict)  # pyright: ignore[reportAssignmentType]
    return out
