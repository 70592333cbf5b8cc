"""The spike function: a step forward, a surrogate slope backward."""

from typing import Any

import torch
from torch import Tensor

from spikeloom.base.torch_private import dual, functionalized, traced, transformed
from spikeloom.neurons.surrogate import Surrogate


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any,
        u: Tensor,
        v_th: Tensor | float,
        surrogate: Surrogate,
        strict: bool,
        most: int | None,
    ) -> Tensor:
        ctx.surrogate = surrogate
        if isinstance(v_th, Tensor):
            ctx.save_for_backward(u, v_th)
        else:
            ctx.save_for_backward(u)
            ctx.v_th = v_th
        return _count(u, v_th, strict, most)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: D102
        u, *rest = ctx.saved_tensors
        v_th = rest[0] if rest else ctx.v_th
        return grads[0] * ctx.surrogate.slope(u, v_th), None, None, None, None


class _Followed(torch.autograd.Function):
    """`_Spike` for torch.func and forward-mode derivatives; torch takes longer to call it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        u: Tensor, v_th: Tensor | float, surrogate: Surrogate, strict: bool, most: int | None
    ) -> Tensor:
        return _count(u, v_th, strict, most)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: D102
        u, v_th, ctx.surrogate, *_ = inputs
        tensors = (u, v_th) if isinstance(v_th, Tensor) else (u,)
        ctx.v_th = None if isinstance(v_th, Tensor) else v_th
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    backward = _Spike.backward

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:  # noqa: D102
        return None if tangents[0] is None else _Spike.backward(ctx, tangents[0])[0]


def _traced(
    u: Tensor, v_th: Tensor | float, surrogate: Surrogate, strict: bool, most: int | None
) -> Tensor:
    """Fire with torch's own operators alone, for traced graphs and functionalize.

    The second term is 0, but its first two derivatives are the slope and the derivative of the
    slope. It is also there without gradients: `torch.jit.trace` checks its recording by a run
    without them, which must give the same graph.
    """
    fired = _count(u, v_th, strict, most)
    if torch.onnx.is_in_onnx_export():
        return fired
    still = u.detach()
    return fired + surrogate.slope((u + still) / 2, v_th) * (u - still)


def _count(u: Tensor, v_th: Tensor | float, strict: bool, most: int | None) -> Tensor:
    """Return the number of spikes: 0 or 1, or with `most` other than 1 one per threshold passed."""
    if most == 1:
        return (u > 0 if strict else u >= 0).to(u.dtype)
    levels = u / v_th
    count = levels.ceil() if strict else levels.floor() + 1
    return count.clamp(min=0, max=most)


def spike(
    u: Tensor,
    surrogate: Surrogate,
    *,
    v_th: Tensor | float = 1.0,
    strict: bool = False,
    most: int | None = 1,
) -> Tensor:
    r"""Fire where the potential reaches the threshold, once or several times.

    .. math::
        s = H(u), \qquad \frac{\partial s}{\partial u} := surrogate.slope(u, v_{th})

    with several spikes per step (`most` other than 1)
    :math:`s = clamp(\lfloor u / v_{th} \rfloor + 1, 0, most)`, with the same derivative.

    Args:
        u: distance to the threshold, v - v_th.
        surrogate: slope used in place of the missing derivative.
        v_th: threshold. Surrogates may measure their width in it, and a further spike is fired for
            each further threshold. It gets no gradient here.
        strict: fire only above the threshold (u > 0), not at it (u >= 0).
        most: largest number of spikes per step; None for no bound.

    Returns:
        Spikes in {0, 1}, or in {0, 1, .., most}; in the type of u.

    Shape:
        u, result: any.

    Source:
        Neftci, Mostafa & Zenke 2019; several spikes per step: Weidel & Sheik 2021 (WaveSense,
        sinabs).
    """
    kind = _Spike
    if not torch.compiler.is_compiling():
        if traced() or functionalized():
            return _traced(u, v_th, surrogate, strict, most)
        if transformed() or dual():
            kind = _Followed
    out: Tensor = kind.apply(  # pyright: ignore[reportAssignmentType]
        u, v_th, surrogate, strict, most
    )
    return out
