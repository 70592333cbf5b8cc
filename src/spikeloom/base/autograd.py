"""Helpers for backward passes, gradients and their memory."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.torch_private import holders, modes_off


def backpropagate(values: Sequence[Tensor], grads: Sequence[Tensor] | None = None) -> None:
    """Run a backward pass from some values, with autocast off.

    Autocast is meant for forward passes; the backward pass computes every product in the type of
    its forward pass by itself. With its cache cleared, copies of weights are freed during the pass.

    Args:
        values: tensors to start from, on one device.
        grads: gradient of each; 1 by default, for scalars.
    """
    torch.clear_autocast_cache()
    with torch.autocast(values[0].device.type, enabled=False):
        torch.autograd.backward(values, grads)


@torch.no_grad()
def add_gradient(parameter: Tensor, grad: Tensor) -> None:
    """Add to a parameter's `.grad`, in the memory layout of the parameter.

    Fused optimizers read parameter and gradient as two flat arrays. A gradient with other strides
    would change the wrong weights without an error. Autograd keeps the layout; all other code that
    sets a gradient must call this function.

    Args:
        parameter: a leaf.
        grad: of the same shape, in any layout. It may become `.grad` itself, so the caller must not
            write it afterwards.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2, 3, 4, 4))
        >>> grad = torch.ones_like(weight).contiguous(memory_format=torch.channels_last)
        >>> add_gradient(weight, grad)
        >>> weight.grad.stride() == weight.stride()
        True
    """
    if parameter.grad is None:
        total = laid_out(grad, parameter)
    elif parameter.grad.stride() == parameter.stride():
        total = parameter.grad.add_(grad)
    else:
        total = laid_out(parameter.grad + grad, parameter)
    assert lies_like(total, parameter), (total.stride(), parameter.stride())
    parameter.grad = total


def laid_out(x: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor in the memory layout of a parameter: itself if it fits, else a copy.

    If the memory of the parameter has gaps or overlaps, the result is row-major.
    """
    strides = _wanted_strides(parameter)
    if _same_order(x, strides):  # they may differ in axes of one element: make these equal too
        return x if x.stride() == strides else x.as_strided(x.shape, strides)
    return torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)


def lies_like(x: Tensor, parameter: Tensor) -> bool:
    """Whether a tensor has the memory layout of a parameter (`laid_out` would not copy it).

    Strides of axes with one element mean nothing and are not compared.
    """
    return x.shape == parameter.shape and _same_order(x, _wanted_strides(parameter))


def _wanted_strides(parameter: Tensor) -> tuple[int, ...]:
    """Return the strides of a parameter if its memory is dense, else row-major ones."""
    if parameter.is_contiguous() or is_dense(parameter.shape, parameter.stride()):
        return parameter.stride()
    return torch.empty(parameter.shape, device="meta").stride()


def is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements fill their memory without gaps, in any order of the axes."""
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _same_order(x: Tensor, strides: tuple[int, ...]) -> bool:
    axes = zip(x.shape, x.stride(), strides, strict=True)
    return all(size == 1 or mine == theirs for size, mine, theirs in axes)


def gradients_again(
    call: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of a call by computing it again under autograd.

    It is for backward functions that run code outside torch. Their results carry no graph, so they
    would be constants if the gradient itself is differentiated (`create_graph`), and they cannot
    take gradients in batches. The gradients returned here carry a graph if one is being built.

    Args:
        call: computes the results again with torch's operators.
        inputs: of the call.
        grads: gradient of each result; None for 0.
        wanted: for each input, whether its gradient is needed.

    Returns:
        A gradient for each input; None if it is not needed, or is zero.
    """
    create = torch.is_grad_enabled()
    pairs = list(zip(inputs, wanted, strict=True))
    device = next(x.device.type for x in inputs if x is not None)
    with torch.enable_grad(), torch.autocast(device, enabled=False):
        # views: one input may have been computed from another, and that path must not count
        given = [x.view_as(x) if x is not None and want else x for x, want in pairs]
        results = zip(call(*given), grads, strict=True)
        reached = [(y, grad) for y, grad in results if grad is not None and y.requires_grad]
        leaves = [x for x, (_, want) in zip(given, pairs, strict=True) if x is not None and want]
        if not reached or not leaves:
            return [None] * len(pairs)
        values, up = zip(*reached, strict=True)
        grads = torch.autograd.grad(values, leaves, up, create_graph=create, allow_unused=True)
        found = iter(grads)
    return [next(found) if x is not None and want else None for x, want in pairs]


def refuse_second(where: str, instead: str) -> None:
    """Refuse a backward pass that is going to be differentiated itself.

    Call it first in a backward function whose result carries no graph: the second derivative would
    miss a part without an error.

    Args:
        where: path of the error.
        instead: what to do.

    Raises:
        UnsupportedNet: a graph of the backward pass is being built.
    """
    if torch.is_grad_enabled():
        raise UnsupportedNet.of(
            where, "first derivatives", "a backward pass with create_graph=True", instead
        )


def is_nobodys(grads: tuple[Tensor, ...]) -> bool:
    """Whether a backward function holds the only reference to its gradient and may overwrite it.

    Autograd passes the same tensor to several readers: to all terms of a sum, to hooks, to a caller
    that asked for it. So reference counts are compared with those of a gradient that certainly
    nobody else holds (`_standard`). If in doubt the answer is False, which costs a copy.

    Args:
        grads: the gradients as the backward function got them: a tuple of one, the gradient of a
            step [1, B, ...] that is a view of its train.
    """
    standard = _standard()
    return len(standard) > 0 and holders(grads) == standard


class _Probe(torch.autograd.Function):
    """Records the reference counts of the gradient it gets."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, found: list[Any]) -> Tensor:  # noqa: D102
        ctx.found = found
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102
        ctx.found.append(holders(grads))
        return grads[0].clone(), None


@cache
def _standard() -> tuple[int, ...]:
    """Return the counts of a gradient that nobody else holds; () if torch does not give them."""
    alone, shared = _counted(shared=False), _counted(shared=True)
    # counts that stay the same with one more holder tell nothing
    return () if alone == shared else alone


def _counted(*, shared: bool) -> tuple[int, ...]:
    """Measure the counts of a gradient in a backward function; if shared, a caller holds it too."""
    found: list[tuple[int, ...]] = []
    plain = modes_off()  # an active mode may hold tensors, which changes the counts
    if plain is None:
        return ()
    with torch.enable_grad(), plain:
        x = torch.ones(1, 2, requires_grad=True)
        out: Tensor = _Probe.apply(x.unsqueeze(0), found)  # pyright: ignore
        step = out.squeeze(0)
        torch.autograd.grad((2 * step).sum(), [x, step] if shared else [x])
    return found[0]
