"""A layer without state applied to every step of a train."""

from collections.abc import Callable

from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.neurons.module import Neuron

_PLACE = "neurons.OverTime"
_AXES = {"1d": "C, L", "2d": "C, H, W", "3d": "C, D, H, W"}
"""Axes of a sample, by the last two letters of the names of torch's layers."""


class OverTime(nn.Module):
    r"""A module without state, applied to every step of a train.

    .. math:: y[t] = f(x[t]) \quad \text{for all } t \text{ at once}

    Time and batch are merged into one axis, [T B, ...], for a single call. So the statistics of a
    batch norm are over T and B, and a dropout draws a mask for every step.

    Args:
        module: f, a module or a function that maps [N, ...] to [N, ...].

    Raises:
        ConfigError: neither a module nor a function, or one that keeps a state over time.

    Shape:
        call: [T, B, ...] -> [T, B, ...]; a sample has one axis or more.

    Example:
        >>> import torch
        >>> from spikeloom.neurons.leaky import LIF
        >>> model = nn.Sequential(OverTime(nn.Conv2d(1, 8, 3)), Neuron(LIF()))
        >>> model(torch.rand(4, 2, 1, 6, 6)).shape  # T = 4, B = 2
        torch.Size([4, 2, 8, 4, 4])
    """

    def __init__(self, module: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(module) or isinstance(module, type):
            raise ConfigError.of(
                _PLACE, "a module or a function", repr(module), "pass one that is built"
            )
        for part in module.modules() if isinstance(module, nn.Module) else ():
            if _over_steps(part):
                raise ConfigError.of(
                    _PLACE,
                    "a module without state",
                    f"{type(part).__name__} in it, which needs the time axis",
                    "put it outside OverTime",
                )
        self.module = module

    def forward(self, xs: Tensor) -> Tensor:
        """Map a train step by step.

        Shape:
            xs, result: [T, B, ...].

        Raises:
            ShapeError: axes are missing, or the module changes the number of rows.
        """
        if isinstance(xs, fx.Proxy):  # traced by `SpikingNet.from_torch`: it has no shape to check
            return self.module(xs.flatten(0, 1)).unflatten(0, xs.shape[:2])
        self._check(xs)
        rows = xs.shape[0] * xs.shape[1]
        out = self.module(xs.flatten(0, 1))
        if not isinstance(out, Tensor) or out.shape[:1] != (rows,):
            came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ShapeError.of(
                _PLACE,
                "a module that maps [N, ...] to [N, ...]",
                f"{came} for N = T B = {rows}",
                "wrap only layers that keep the number of rows",
            )
        return out.unflatten(0, xs.shape[:2])

    def _check(self, xs: Tensor) -> None:
        axes = _axes(self.module)
        names = axes.split(", ")
        wrong = xs.dim() < 2 + len(names) or ("..." not in names and xs.dim() > 2 + len(names))
        if wrong:
            raise ShapeError.of(
                _PLACE,
                f"[T, B, {axes}] with time as the first axis",
                f"shape {tuple(xs.shape)}",
                "add or fold axes",
            )


def _over_steps(part: nn.Module) -> bool:
    """Whether a module needs the time axis."""
    stateful = isinstance(part, Neuron) and part.unit.stateful
    return stateful or isinstance(part, nn.RNNBase | OverTime)


def _axes(module: Callable[[Tensor], Tensor]) -> str:
    """Return the axes of a sample that a layer of torch expects; "..." if they are not known.

    Torch's own check is not enough: a 2-D pool takes [N, C, H] for one image of N channels.
    """
    while isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    if not isinstance(module, nn.Module):
        return "..."
    kind = type_before_parametrizations(module)
    if not kind.__module__.startswith("torch.nn.") or kind is nn.BatchNorm1d:  # [N, C] or [N, C, L]
        return "..."
    return _AXES.get(kind.__name__[-2:], "...")
