"""Torch layers that a net can compute, and the `LayerSpec` fields for each."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from spikeloom.base.errors import UnsupportedNet
from spikeloom.neurons.module import Neuron

Fields = dict[str, Any]

NO_LAYER = (
    "no layer of spikeloom computes it: use another one, or train your module as it is, with "
    "Neuron and backpropagation through time"
)
"""Advice in messages about a layer that `LayerSpec` cannot describe."""


AS_IT_IS = (
    "compute with layers, additions and flatten alone, or train your module as it is, with Neuron "
    "and backpropagation through time"
)
"""Advice in messages about a forward that cannot be translated."""


def place(path: str, module: nn.Module) -> str:
    """Return the name of a module in messages: its path and its class."""
    # torch replaces the class of a parametrised module by a subclass with this prefix
    made = type(module).__name__.startswith("Parametrized")
    kind = (type_before_parametrizations(module) if made else type(module)).__name__
    return f"{path} ({kind})" if path else kind


def refusal(where: str, expected: str, came: object, todo: str = NO_LAYER) -> UnsupportedNet:
    """Build the error about one module or operation of a user's module."""
    return UnsupportedNet.of(f"from_torch: module {where}", expected, str(came), todo)


def check(where: str, good: bool, expected: str, came: object, todo: str = NO_LAYER) -> None:
    """Raise `refusal` unless `good`."""
    if not good:
        raise refusal(where, expected, came, todo)


def layer_fields(where: str, layer: nn.Module) -> Fields:
    """Return the fields of a layer's synapse.

    Raises:
        UnsupportedNet: a setting that `LayerSpec` does not have.
    """
    return SYNAPSES[type_before_parametrizations(layer)](where, layer)


def check_known(where: str, layer: nn.Module) -> None:
    """Refuse a module whose class is not in `KNOWN`."""
    kind = type_before_parametrizations(layer)
    if kind in KNOWN:
        return
    known = ", ".join(sorted(kind.__name__ for kind in KNOWN))
    raise refusal(where, f"one of {known}", "it")


def _single(where: str, what: str, value: Any) -> int:
    """Return the value of a setting that must be one number for both axes."""
    sides = value if isinstance(value, (tuple, list)) else (value, value)
    check(where, len(set(sides)) == 1 and isinstance(sides[0], int), f"a square {what}", value)
    return sides[0]


def _conv(where: str, part: Any) -> Fields:
    check(where, part.groups == 1, "groups = 1", part.groups)
    check(where, _single(where, "dilation", part.dilation) == 1, "dilation = 1", part.dilation)
    check(where, part.padding_mode == "zeros", "padding_mode 'zeros'", part.padding_mode)
    transposed = isinstance(part, nn.ConvTranspose2d)
    fields: Fields = {
        "kind": "conv_transpose" if transposed else "conv",
        "out": part.out_channels,
        "kernel": _single(where, "kernel", part.kernel_size),
        "stride": _single(where, "stride", part.stride),
        "padding": _single(where, "padding as a number", part.padding),
        "bias": part.bias is not None,
    }
    if transposed:
        fields["output_padding"] = _single(where, "output_padding", part.output_padding)
    return fields


def _linear(where: str, part: Any) -> Fields:
    return {"kind": "linear", "out": part.out_features, "bias": part.bias is not None}


def _window(where: str, kind: str, part: Any) -> Fields:
    check(where, not part.ceil_mode, "ceil_mode = False", True)
    return {
        "kind": kind,
        "kernel": _single(where, "window", part.kernel_size),
        "stride": _single(where, "stride", part.stride),
        "padding": _single(where, "padding", part.padding),
    }


def _avg_pool(where: str, part: Any) -> Fields:
    check(where, part.divisor_override is None, "no divisor_override", part.divisor_override)
    fields = _window(where, "avg_pool", part)
    counts = part.count_include_pad or fields["padding"] == 0
    check(where, counts, "count_include_pad = True", False)
    return fields


def _max_pool(where: str, part: Any) -> Fields:
    check(where, _single(where, "dilation", part.dilation) == 1, "dilation = 1", part.dilation)
    check(where, not part.return_indices, "return_indices = False", True)
    return _window(where, "max_pool", part)


def _global_pool(where: str, part: Any) -> Fields:
    check(where, part.output_size in (1, (1, 1), [1, 1]), "output_size = 1", part.output_size)
    return {"kind": "global_pool"}


def _upsample(where: str, part: Any) -> Fields:
    check(where, part.mode == "nearest", "mode 'nearest'", part.mode)
    factor = part.scale_factor
    sides = factor if isinstance(factor, (tuple, list)) else (factor, factor)
    values = {float(side) for side in sides if side is not None}
    whole = len(values) == 1 and min(values).is_integer()
    check(where, whole, "one whole scale_factor", factor)
    return {"kind": "upsample", "kernel": int(min(values))}


SYNAPSES: dict[type[nn.Module], Callable[[str, Any], Fields]] = {
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv,
    nn.Linear: _linear,
    nn.AvgPool2d: _avg_pool,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.Upsample: _upsample,
    nn.UpsamplingNearest2d: _upsample,
}
KNOWN: tuple[type[nn.Module], ...] = (
    *SYNAPSES,
    nn.Flatten,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Identity,
    nn.ReLU,
    Neuron,
)
