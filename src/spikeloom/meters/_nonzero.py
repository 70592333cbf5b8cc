"""Pairs of non-zero operands in torch's product operators, without computing the products."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

TRANSPOSED, GROUPS = 3, 5
"""Places in what torch calls a convolution with, behind its bias."""


@dataclass(frozen=True)
class Pair:
    """One product of two tensors.

    Args:
        count: pairs of elements that meet, both non-zero.
        operands: the two tensors.
    """

    count: int
    operands: tuple[Tensor, ...]


def operator_name(func: Any) -> str:
    """Return what torch calls an operator without its overload, as "aten.mm"."""
    return str(func).rpartition(".")[0]


def pairs_of(func: Any, args: tuple[Any, ...], out: Any) -> list[Pair] | None:
    """Return the products of one call of an operator; None for operators not known here."""
    find = _KNOWN.get(operator_name(func))
    dense = all(one.layout == torch.strided for one in args if isinstance(one, Tensor))
    return find(out, *args) if find is not None and dense else None


def _matrices(_: Tensor, a: Tensor, b: Tensor) -> list[Pair]:
    """Products over the last axis of a and the one before the last of b."""
    return [Pair(_total(_count(a, -2) * _count(b, -1)), (a, b))]


def _convolution(out: Tensor, x: Tensor, w: Tensor, _: Any, *geometry: Any) -> list[Pair]:
    if geometry[TRANSPOSED]:  # the input stands where a convolution has its output
        return [Pair(_weights_and_outputs(w, x, tuple(out.shape[2:]), geometry), (x, w))]
    return [Pair(_inputs_and_weights(x, w, geometry), (x, w))]


def _convolution_backward(
    _: Any, grad: Tensor, x: Tensor, w: Tensor, __: Any, *rest: Any
) -> list[Pair]:
    *geometry, wanted = rest
    transposed = geometry[TRANSPOSED]
    large, small = (grad, x) if transposed else (x, grad)
    found = []
    if wanted[0] and transposed:
        found.append(Pair(_inputs_and_weights(grad, w, geometry), (grad, w)))
    elif wanted[0]:
        sides = tuple(x.shape[2:])
        found.append(Pair(_weights_and_outputs(w, grad, sides, geometry), (grad, w)))
    if wanted[1]:
        sides = tuple(w.shape[2:])
        found.append(Pair(_inputs_and_outputs(large, small, sides, geometry), (grad, x)))
    return found


def _inputs_and_weights(x: Tensor, w: Tensor, geometry: Any) -> int:
    """Pairs of inputs and weights that meet at some output."""
    groups = geometry[GROUPS]
    each = _count(w.unflatten(0, (groups, -1)), 1).flatten(0, 1).unsqueeze(1)
    return _total(_convolved(_count(x, 0).unsqueeze(0), each, geometry, len(each)))


def _weights_and_outputs(w: Tensor, out: Tensor, sides: tuple[int, ...], geometry: Any) -> int:
    """Pairs of weights and outputs that meet at some input; sides are those of the input."""
    ones = torch.ones(1, 1, *sides, dtype=torch.float64, device=w.device)
    met = _convolved(ones, _count(w, 1).unsqueeze(1), geometry, 1)
    return _total(_cut(met, out) * _count(out, 0))


def _inputs_and_outputs(x: Tensor, out: Tensor, sides: tuple[int, ...], geometry: Any) -> int:
    """Pairs of inputs and outputs that meet at some weight; sides are those of the kernel."""
    groups = geometry[GROUPS]
    inner, outer = (_count(one.unflatten(1, (groups, -1)), 2) for one in (x, out))
    ones = torch.ones(groups, 1, *sides, dtype=torch.float64, device=x.device)
    return _total(_cut(_convolved(inner, ones, geometry, groups), out) * outer)


def _convolved(x: Tensor, w: Tensor, geometry: Any, groups: int) -> Tensor:
    stride, padding, dilation, *_ = geometry
    flat = [0] * len(padding)
    return aten.convolution(x, w, None, stride, padding, dilation, False, flat, groups)


def _cut(x: Tensor, like: Tensor) -> Tensor:
    """Drop places at the ends that a transposed convolution has no inputs for."""
    return x[(..., *(slice(size) for size in like.shape[2:]))]


def _count(x: Tensor, axis: int) -> Tensor:
    """Return the number of values along an axis that are not 0."""
    return (x != 0).sum(axis, dtype=torch.float64)


def _total(counts: Tensor) -> int:
    return round(float(counts.sum()))


_KNOWN: dict[str, Callable[..., list[Pair]]] = {
    "aten.mm": _matrices,
    "aten.bmm": _matrices,
    "aten.addmm": lambda out, _, a, b: _matrices(out, a, b),
    "aten.baddbmm": lambda out, _, a, b: _matrices(out, a, b),
    "aten.convolution": _convolution,
    "aten._convolution": _convolution,
    "aten.convolution_backward": _convolution_backward,
}
