"""Backward passes, and whose a gradient is."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.torch_private import holders, modes_off


def backpropagate(values: Sequence[Tensor], grads: Sequence[Tensor] | None = None) -> None:
    """Send gradients back from values, every product in the type of its forward pass.

    Autocast is for forward passes; left on, it would also hold its copies of the weights until the
    end. Here they are freed as the pass goes.

    Args:
        values: where to start, on one device.
        grads: of each; 1 by default, for scalars.
    """
    torch.clear_autocast_cache()
    with torch.autocast(values[0].device.type, enabled=False):
        torch.autograd.backward(values, grads)


@torch.no_grad()
def add_gradient(parameter: Tensor, grad: Tensor) -> None:
    """Add to a parameter's `.grad`, in the parameter's own layout.

    Fused optimizers go through parameter and gradient as two flat rows of memory. A gradient with
    other strides would move other weights than its own, and nothing would say so. Autograd keeps
    the layout by itself; whatever else sets a gradient for an optimizer does it here.

    Args:
        parameter: a leaf.
        grad: of the same shape, in any layout; where the layout fits, it may become `.grad` itself.

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
    """Return a tensor of a parameter's shape in the parameter's layout, copied where it has to be.

    A parameter with gaps or overlaps in its memory has no layout that a dense tensor could take;
    there the result lies row by row.
    """
    if x.stride() == parameter.stride() and x.is_contiguous():
        return x
    strides = _wanted_strides(parameter)
    if _same_order(x, strides):  # axes of one element may have any stride: give them the same
        return x if x.stride() == strides else x.as_strided(x.shape, strides)
    return torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)


def lies_like(x: Tensor, parameter: Tensor) -> bool:
    """Whether a tensor lies in memory as a parameter does, element by element.

    Strides of axes with one element mean nothing and are not compared.
    """
    if x.stride() == parameter.stride() and x.is_contiguous():
        return True
    return x.shape == parameter.shape and _same_order(x, _wanted_strides(parameter))


def _wanted_strides(parameter: Tensor) -> tuple[int, ...]:
    """Return a parameter's strides where its memory is dense, else those of rows."""
    if parameter.is_contiguous() or _dense(parameter):
        return parameter.stride()
    return torch.empty(parameter.shape, device="meta").stride()


def _dense(x: Tensor) -> bool:
    """Whether elements fill their memory, in any order of the axes."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
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
    """Return gradients of a call by computing it again, now under autograd.

    What a backward function does that torch cannot see into gives a constant where the gradient
    itself is to be differentiated (`create_graph`), and fails where gradients come in batches.
    This gives what autograd gives for the call, graph included where one is being built.

    Args:
        call: the same values again, by torch's operators.
        inputs: what it takes.
        grads: of each of its results; None for 0.
        wanted: of which inputs a gradient is wanted.

    Returns:
        A gradient for each input; None where none is wanted, or none arrives.
    """
    create = torch.is_grad_enabled()
    pairs = list(zip(inputs, wanted, strict=True))
    device = next(x.device.type for x in inputs if x is not None)
    with torch.enable_grad(), torch.autocast(device, enabled=False):
        # views: an input may have been made from another one, and that path is not ours
        given = [x.view_as(x) if x is not None and want else x for x, want in pairs]
        results = zip(call(*given), grads, strict=True)
        reached = [(y, grad) for y, grad in results if grad is not None and y.requires_grad]
        leaves = [x for x, (_, want) in zip(given, pairs, strict=True) if x is not None and want]
        if not reached or not leaves:
            return [None] * len(pairs)
        values, up = [y for y, _ in reached], [grad for _, grad in reached]
        found = iter(
            torch.autograd.grad(values, leaves, up, create_graph=create, allow_unused=True)
        )
    return [next(found) if x is not None and want else None for x, want in pairs]


def refuse_second(where: str, instead: str) -> None:
    """Refuse to take part in a gradient that is going to be differentiated itself.

    The first line of a backward function whose result would then be a constant, in silence.

    Args:
        where: who refuses, in front of the message.
        instead: what to do, behind it.

    Raises:
        UnsupportedNet: a graph of the backward pass is being built.
    """
    if torch.is_grad_enabled():
        raise UnsupportedNet.of(
            where, "first derivatives", "a backward pass with create_graph=True", instead
        )


def is_nobodys(grads: tuple[Tensor, ...]) -> bool:
    """Whether the one gradient that a backward function of a step got may be overwritten.

    Autograd hands the same tensor to all readers of a sum, to hooks, and to who asks for it. Counts
    of references tell: those of a gradient that is known to be nobody else's are the standard, so
    what is laid out in another way counts as somebody's.

    Args:
        grads: as a backward function got them; of one step [1, B, ...] that was squeezed out of
            its train.
    """
    standard = _standard()
    return len(standard) > 0 and holders(grads) == standard


class _Probe(torch.autograd.Function):
    """Writes down who holds the gradient it gets."""

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
    """Return the counts of a gradient that nobody else holds; () where torch does not tell."""
    alone, shared = _counted(shared=False), _counted(shared=True)
    # counts that do not move with one more holder say nothing
    return () if alone == shared else alone


def _counted(*, shared: bool) -> tuple[int, ...]:
    """Return the counts of a gradient in a backward function; if shared, its caller gets it too."""
    found: list[tuple[int, ...]] = []
    plain = modes_off()  # what watches may hold tensors
    if plain is None:
        return ()
    with torch.enable_grad(), plain:
        x = torch.ones(1, 2, requires_grad=True)
        out: Tensor = _Probe.apply(x.unsqueeze(0), found)  # pyright: ignore
        step = out.squeeze(0)
        torch.autograd.grad((2 * step).sum(), [x, step] if shared else [x])
    return found[0]
