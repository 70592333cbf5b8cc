"""Backward passes, and whose a gradient is."""

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _disable_current_modes


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


def is_nobodys(grads: tuple[Tensor, ...]) -> bool:
    """Whether the one gradient that a backward function of a step got may be overwritten.

    Autograd hands the same tensor to all readers of a sum, to hooks, and to who asks for it. Counts
    of references tell: those of a gradient that is known to be nobody else's are the standard, so
    what is laid out in another way counts as somebody's.

    Args:
        grads: as a backward function under `once_differentiable` got them; of one step [1, B, ...]
            that was squeezed out of its train.
    """
    standard = _standard()
    return len(standard) > 0 and _holders(grads) == standard


def _holders(grads: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Count who holds a gradient, the tensor it is a view of, and their memory; () for others."""
    grad = grads[0]
    base = grad._base
    if base is None or not grad.untyped_storage().resizable():  # e.g. an array of numpy's
        return ()
    memory = grad.untyped_storage()._cdata
    counts = (grad._use_count(), base._use_count(), torch._C._storage_Use_Count(memory))  # pyright: ignore
    return (sys.getrefcount(grad), sys.getrefcount(base), *counts)


class _Probe(torch.autograd.Function):
    """Writes down who holds the gradient it gets."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, found: list[Any]) -> Tensor:  # noqa: D102
        ctx.found = found
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102  # pyright: ignore
        ctx.found.append(_holders(grads))
        return grads[0].clone(), None


@cache
def _standard() -> tuple[int, ...]:
    """Return the counts of a gradient that nobody else holds; () where torch does not tell."""
    found: list[tuple[int, ...]] = []
    with torch.enable_grad(), _disable_current_modes():  # what watches may hold tensors
        x = torch.ones(1, 2, requires_grad=True)
        try:
            out: Tensor = _Probe.apply(x.unsqueeze(0), found)  # pyright: ignore
            (2 * out.squeeze(0)).sum().backward()
        except AttributeError:
            return ()
    return found[0]
