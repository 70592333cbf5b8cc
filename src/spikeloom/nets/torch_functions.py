"""Functions of torch as the layers they equal."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from spikeloom.nets.spec import Join
from spikeloom.nets.torch_layers import check, refusal

SHAPE_ADVICE = "use flatten(1), which keeps the batch and joins the rest"


@dataclass(eq=False)
class Size:
    """A size that a forward asked for."""

    name: str


class SIZES:
    """The sizes that a reshape can be understood from."""

    whole = Size("shape")
    batch = Size("batch")
    other = Size("another size")

    @classmethod
    def of(cls, axis: object) -> Size:
        """Return the size of one axis."""
        return cls.batch if axis == 0 else cls.other


@dataclass(eq=False)
class Call:
    """One call of a function: its place and positional arguments behind the input.

    What a function's layers do not say is left in `features` and `drops`; see `Step`.
    """

    where: str
    args: tuple[Any, ...]
    features: int | None = None
    drops: bool | None = None


Layers = tuple[nn.Module, ...]


def _like(build: Callable[..., nn.Module | None]) -> Callable[..., Layers]:
    """Return a function of a call that builds one layer of the same arguments, or none."""

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


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


def _same(memory_format: Any = None) -> None:
    """Return no layer: values stay as they are."""


def _dropout(call: Call, p: float = 0.5, training: bool = True, inplace: bool = False) -> Layers:
    p, training = (*call.args[:2], *(p, training)[len(call.args[:2]) :])
    call.drops = training
    return (nn.Dropout(p),)


def _view(call: Call, **named: Any) -> Layers:
    r"""Read a reshape to [B, D]: the batch, or -1, and then all the rest."""
    sizes = _spread(call.args) or tuple(named.get("shape", ()))
    came = tuple(one.name if isinstance(one, Size) else one for one in sizes)
    first, last = sizes if len(sizes) == 2 else (None, None)
    keeps = first is SIZES.batch or (first == -1 and last != -1)
    numbers = isinstance(last, int) and (last == -1 or last > 0)
    check(call.where, keeps and numbers, "a shape (B, -1)", came, SHAPE_ADVICE)
    call.features = None if last == -1 else last
    return (nn.Flatten(),)


def _spread(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a shape given as one tuple, or as many numbers."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else args


def _mean(call: Call, dim: Any = None, keepdim: bool = False) -> Layers:
    dim, keepdim = (*call.args[:2], *(dim, keepdim)[len(call.args[:2]) :])
    dim = tuple(dim) if isinstance(dim, (tuple, list)) else dim
    maps = dim in ((2, 3), (-2, -1), (3, 2), (-1, -2))
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
    **dict.fromkeys((torch.flatten, "flatten"), _like(_flatten)),
    **dict.fromkeys(("view", "reshape", torch.reshape), _view),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys(("contiguous", "clone", torch.clone), _like(_same)),
}
"""From what a graph calls to the layers that equal it, as functions of a `Call`."""

JOINS: dict[Any, Join] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), "add"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), "and"),
}
"""How two values meet: a sum, or a product (SEW's "and")."""
