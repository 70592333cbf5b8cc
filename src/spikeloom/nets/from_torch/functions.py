"""Translates functions of torch, e.g. `F.relu`, into the layers that compute the same."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from spikeloom.nets.from_torch.layers import check, refusal
from spikeloom.nets.spec.net import Join

SHAPE_ADVICE = "use flatten, which keeps the axes of time and batch and joins the rest"


@dataclass(frozen=True)
class Size:
    """The result of `x.shape` or `x.size(...)` in a traced forward.

    Args:
        axes: the axis; None for all axes, (0, 1) for the first two, a text for anything else.
        lead: number of leading axes (time, batch) of x; see `graph.Reader`.
    """

    axes: object
    lead: int

    def of(self, key: object) -> "Size":
        """Return the result of indexing these sizes with `key`."""
        whole = self.axes is None or (self.axes == (0, 1) and key in (0, 1))
        if isinstance(key, slice):
            first_two = self.axes is None and key == slice(None, 2, None)
            return Size((0, 1) if first_two else "another", self.lead)
        return Size(key if whole else "another", self.lead)


@dataclass(eq=False)
class Call:
    """One call of a function in a forward.

    Args:
        where: its place, for messages.
        lead: number of leading axes of the input; the translation sets it to that of the result.
        args: positional arguments after the input.
        features: set by the translation of a reshape; see `graph.Step`.
        drops: set by the translation of a dropout; see `graph.Step`.
    """

    where: str
    lead: int
    args: tuple[Any, ...]
    features: int | None = None
    drops: bool | None = None


Layers = tuple[nn.Module, ...]


def _like(build: Callable[..., nn.Module | None]) -> Callable[..., Layers]:
    """Return a translation that passes the call's arguments to `build`.

    `build` returns a layer, or None if the call does not change values.
    """

    def layers(call: Call, **named: Any) -> Layers:
        sizes = any(isinstance(one, Size) for one in (*call.args, *named.values()))
        check(call.where, not sizes, "numbers as arguments", "sizes of the input")
        try:
            layer = build(*call.args, **named)
        except TypeError:
            came = (*call.args, *named.values())
            raise refusal(call.where, "arguments that a layer has", came) from None
        return () if layer is None else (layer,)

    return layers


def _relu(inplace: bool = False) -> nn.Module:
    return nn.ReLU()


def _avg_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> nn.Module:
    stride = stride or None
    return nn.AvgPool2d(
        kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _max_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Module:
    stride = stride or None
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _interpolate(
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> nn.Module:
    return nn.Upsample(size, scale_factor, mode)


def flatten(call: Call, start_dim: int = 0, end_dim: int = -1) -> Layers:
    """Translate a flatten of all axes but the leading ones, or of the two leading ones."""
    axes = (*call.args[:2], *(start_dim, end_dim)[len(call.args[:2]) :])
    if axes == (0, 1) and call.lead == 2:
        call.lead = 1
        return ()
    todo = "a forward is for one step [B, ...], or folds time with flatten(0, 1)"
    check(call.where, axes == (call.lead, -1), f"axes ({call.lead}, -1)", axes, todo)
    return (nn.Flatten(),)


def _unflatten(call: Call, dim: Any = None, sizes: Any = None) -> Layers:
    """Translate an unflatten from [T B, ...] to [T, B, ...]."""
    dim, sizes = (*call.args[:2], *(dim, sizes)[len(call.args[:2]) :])
    steps, batch = Size(0, 2), Size(1, 2)
    pairs = ((steps, batch), (steps, -1), (-1, batch))
    back = sizes == Size((0, 1), 2) or tuple(_spread((sizes,))) in pairs
    good = call.lead == 1 and dim == 0 and back
    todo = "unfold as unflatten(0, xs.shape[:2])"
    check(call.where, good, "the sizes of time and batch", (dim, sizes), todo)
    call.lead = 2
    return ()


def _same(memory_format: Any = None) -> None:
    """Return no layer: the function does not change values."""


def _dropout(call: Call, p: float = 0.5, training: bool = True, inplace: bool = False) -> Layers:
    given = dict(zip(("p", "training"), call.args, strict=False))
    call.drops = given.get("training", training)
    return (nn.Dropout(given.get("p", p)),)


def _view(call: Call, **named: Any) -> Layers:
    """Translate a reshape that keeps the leading axes and flattens all others."""
    sizes = _spread(call.args) or tuple(named.get("shape", ()))
    came = tuple("a size" if isinstance(one, Size) else one for one in sizes)
    *first, last = sizes or (None,)
    keeps = first == [Size(axis, call.lead) for axis in range(call.lead)]
    keeps = keeps or (call.lead == 1 and first == [-1] and last != -1)
    numbers = isinstance(last, int) and (last == -1 or last > 0)
    check(call.where, keeps and numbers, "a shape (B, -1)", came, SHAPE_ADVICE)
    call.features = None if last == -1 else last
    return (nn.Flatten(),)


def _spread(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a shape as a tuple, given as one tuple or as several numbers."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else args


def _mean(call: Call, dim: Any = None, keepdim: bool = False) -> Layers:
    dim, keepdim = (*call.args[:2], *(dim, keepdim)[len(call.args[:2]) :])
    dim = tuple(dim) if isinstance(dim, (tuple, list)) else dim
    maps = dim in ((call.lead + 1, call.lead + 2), (-2, -1), (-1, -2))
    todo = "leave the mean over time to the head, and the one over maps to dim=(2, 3)"
    check(call.where, maps, "a mean over height and width", f"dim = {dim}", todo)
    pool = nn.AdaptiveAvgPool2d(1)
    return (pool,) if keepdim else (pool, nn.Flatten())


FUNCTIONS: dict[Any, Callable[..., Layers]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), _like(_relu)),
    F.avg_pool2d: _like(_avg_pool),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _like(_max_pool)),
    F.adaptive_avg_pool2d: _like(nn.AdaptiveAvgPool2d),
    F.interpolate: _like(_interpolate),
    F.dropout: _dropout,
    **dict.fromkeys((torch.flatten, "flatten"), flatten),
    **dict.fromkeys((torch.unflatten, "unflatten"), _unflatten),
    **dict.fromkeys(("view", "reshape", torch.reshape), _view),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys(("contiguous", "clone", torch.clone), _like(_same)),
}
"""Translations by function or method name: each returns the layers for a `Call`."""

JOINS: dict[Any, Join] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), "add"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), "and"),
}
"""Joins by function: a sum, or a product ("and" in SEW-ResNet)."""
