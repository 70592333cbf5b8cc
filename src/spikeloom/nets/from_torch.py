"""A user's own `nn.Sequential` as a `SpikingNet` that shares its parameters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spikeloom.base.errors import ShapeError, SpikeloomError, UnsupportedNet
from spikeloom.nets.layer import LayerSpec
from spikeloom.nets.net import SpikingNet
from spikeloom.nets.site import Site
from spikeloom.nets.spec import BlockSpec, NetSpec
from spikeloom.nets.synapse import Shape, Synapse
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.relu import Relu

Fields = dict[str, Any]


@dataclass
class _Draft:
    """One layer in the making: its fields and the modules it takes over."""

    where: str
    fields: Fields
    synapse: nn.Module | None = None
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    neuron: Neuron | None = None
    flat: bool = False
    """A Flatten came before it."""

    def layer(self) -> LayerSpec:
        fields: Fields = {"unit": None, **self.fields}
        return LayerSpec(**fields)


def translate(module: nn.Sequential, in_shape: Shape) -> SpikingNet:
    """Build the net of a user's Sequential; see `SpikingNet.from_torch`.

    Raises:
        ShapeError: layers that do not fit, by their position.
        UnsupportedNet: a module without a counterpart here, by its name and position.
    """
    drafts = _Reader().read(module)
    shape = tuple(in_shape)
    for draft in drafts:
        shape = _fit(draft, shape)
    linear = drafts[-1].synapse if _is_readout(drafts[-1]) else None
    readout = drafts.pop().layer() if linear is not None else None
    blocks = tuple(BlockSpec((draft.layer(),), reads="step") for draft in drafts)
    net = SpikingNet(NetSpec(blocks, readout=readout), in_shape)
    for draft, block in zip(drafts, net.plan.blocks, strict=True):
        _adopt(net, block.passes[0].sites[0], draft)
    if isinstance(linear, nn.Linear):
        # not as a child module: its parameters are the head's, not the net's
        object.__setattr__(net, "last_linear", linear)
    return net.train(module.training)


class _Reader:
    """One pass over the modules, collecting layers."""

    def __init__(self) -> None:
        self.drafts: list[_Draft] = []
        self.flat = False

    def read(self, module: nn.Sequential) -> list[_Draft]:
        for where, part in _leaves(module, ""):
            self._take(where, part)
        if not self.drafts:
            raise UnsupportedNet(
                "from_torch: expected a Sequential with at least one layer, got none; add one."
            )
        return self.drafts

    def _take(self, where: str, part: nn.Module) -> None:
        if self.flat and not isinstance(part, (nn.Linear, nn.Flatten, nn.Dropout)):
            raise _refusal(where, "a Linear after Flatten", "it", "move Flatten before the Linear")
        kind = type(part)
        if kind in _SYNAPSES:
            fields = _SYNAPSES[kind](where, part)
            self.drafts.append(_Draft(where, fields, synapse=part, flat=self.flat))
            self.flat = False
        elif isinstance(part, nn.Flatten):
            whole = (part.start_dim, part.end_dim) == (1, -1)
            _check(where, whole, "start_dim 1, end_dim -1", (part.start_dim, part.end_dim))
            self.flat = True
        elif isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            self._norm(where, part)
        elif isinstance(part, nn.Dropout):
            self._dropout(where, part)
        elif isinstance(part, Neuron):
            draft = self._unit(where, part.unit)
            draft.neuron = part
        else:
            self._unit(where, Relu())

    def _norm(self, where: str, part: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        last = self.drafts[-1] if self.drafts else None
        if last is None or last.synapse is None or not last.fields.keys().isdisjoint(_AFTER_NORM):
            raise _refusal(where, "a layer right before it", "none", "move it behind its layer")
        _check(where, part.track_running_stats, "track_running_stats", False)
        last.norm = part
        last.fields["norm"] = "batch_step"

    def _dropout(self, where: str, part: nn.Dropout) -> None:
        if not self.drafts or "dropout" in self.drafts[-1].fields:
            self.drafts.append(_Draft(where, {"kind": "identity"}))
        self.drafts[-1].fields["dropout"] = part.p

    def _unit(self, where: str, unit: Any) -> _Draft:
        if not self.drafts or not self.drafts[-1].fields.keys().isdisjoint(_AFTER_UNIT):
            self.drafts.append(_Draft(where, {"kind": "identity"}))
        self.drafts[-1].fields["unit"] = unit
        return self.drafts[-1]


_AFTER_UNIT = ("unit", "dropout")
_AFTER_NORM = ("norm", *_AFTER_UNIT)


def _leaves(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield all parts in order, with position and class, refusing what has no counterpart."""
    for name, part in module._modules.items():  # named_children would skip repeated modules
        assert part is not None
        where = f"{prefix}{name} ({type(part).__name__})"
        if part._forward_hooks or part._forward_pre_hooks:
            raise _refusal(where, "a module without hooks", "some", "remove them")
        if type(part) is nn.Sequential:
            yield from _leaves(part, f"{prefix}{name}.")
        elif type(part) in _KNOWN:
            yield where, part
        else:
            known = ", ".join(sorted(kind.__name__ for kind in _KNOWN))
            raise _refusal(where, f"one of {known}", "it", "replace it or write the net as text")


def _refusal(where: str, expected: str, came: object, todo: str) -> UnsupportedNet:
    return UnsupportedNet(f"from_torch: module {where}: expected {expected}, got {came}; {todo}.")


def _check(where: str, good: bool, expected: str, came: object) -> None:
    if not good:
        raise _refusal(where, expected, came, "change it or write the net as text")


def _single(where: str, what: str, value: Any) -> int:
    """Return the one number that holds for both axes."""
    sides = value if isinstance(value, tuple) else (value, value)
    _check(where, len(set(sides)) == 1 and isinstance(sides[0], int), f"a square {what}", value)
    return sides[0]


def _conv(where: str, part: Any) -> Fields:
    _check(where, part.groups == 1, "groups = 1", part.groups)
    _check(where, _single(where, "dilation", part.dilation) == 1, "dilation = 1", part.dilation)
    _check(where, part.padding_mode == "zeros", "padding_mode 'zeros'", part.padding_mode)
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
    _check(where, not part.ceil_mode, "ceil_mode = False", True)
    return {
        "kind": kind,
        "kernel": _single(where, "window", part.kernel_size),
        "stride": _single(where, "stride", part.stride),
        "padding": _single(where, "padding", part.padding),
    }


def _avg_pool(where: str, part: Any) -> Fields:
    _check(where, part.divisor_override is None, "no divisor_override", part.divisor_override)
    fields = _window(where, "avg_pool", part)
    counts = part.count_include_pad or fields["padding"] == 0
    _check(where, counts, "count_include_pad = True", False)
    return fields


def _max_pool(where: str, part: Any) -> Fields:
    _check(where, _single(where, "dilation", part.dilation) == 1, "dilation = 1", part.dilation)
    _check(where, not part.return_indices, "return_indices = False", True)
    return _window(where, "max_pool", part)


def _global_pool(where: str, part: Any) -> Fields:
    _check(where, part.output_size in (1, (1, 1)), "output_size = 1", part.output_size)
    return {"kind": "global_pool"}


def _upsample(where: str, part: Any) -> Fields:
    _check(where, part.mode == "nearest", "mode 'nearest'", part.mode)
    factor = part.scale_factor
    sides = factor if isinstance(factor, tuple) else (factor, factor)
    values = {float(side) for side in sides if side is not None}
    whole = len(values) == 1 and min(values).is_integer()
    _check(where, whole, "one whole scale_factor", factor)
    return {"kind": "upsample", "kernel": int(min(values))}


_SYNAPSES: dict[type[nn.Module], Callable[[str, Any], Fields]] = {
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv,
    nn.Linear: _linear,
    nn.AvgPool2d: _avg_pool,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.Upsample: _upsample,
}
_KNOWN: tuple[type[nn.Module], ...] = (
    *_SYNAPSES,
    nn.Flatten,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Dropout,
    nn.ReLU,
    Neuron,
)


def _fit(draft: _Draft, shape: Shape) -> Shape:
    """Check that a layer takes maps of this shape, and return what it gives."""
    where = draft.where
    try:
        with torch.device("meta"):
            synapse = Synapse(draft.layer(), shape, where)
            model = (
                Neuron(draft.neuron.unit, synapse.out_shape[0], len(synapse.out_shape) - 1)
                if (draft.neuron)
                else None
            )
    except SpikeloomError as error:
        raise type(error)(f"from_torch: module {where}: {error}") from None
    if isinstance(draft.synapse, nn.Linear) and len(shape) == 3 and not draft.flat:
        raise _refusal(where, "Flatten between maps and a Linear", "none", "add nn.Flatten()")
    out, own = synapse.out_shape, draft.synapse
    if synapse.spec.weighted and own is not None:
        _same(where, "a weight", synapse.weight.shape, own.get_parameter("weight").shape)
    if isinstance(draft.norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
        norm = nn.BatchNorm2d if len(out) == 3 else nn.BatchNorm1d
        _check(where, isinstance(draft.norm, norm), f"{norm.__name__} behind it", draft.norm)
        _same(where, "a norm of channels", out[:1], (draft.norm.num_features,))
    if draft.neuron is not None and model is not None:
        for name, value in model.named_parameters():
            came = draft.neuron.get_parameter(name)
            _same(where, f"neurons whose {name} has shape", value.shape, came.shape)
    return out


def _same(where: str, what: str, expected: Shape, came: Shape) -> None:
    if tuple(expected) != tuple(came):
        raise ShapeError(
            f"from_torch: module {where}: expected {what} {tuple(expected)} for the input it "
            f"gets, got {tuple(came)}; change its sizes or in_shape."
        )


def _is_readout(draft: _Draft) -> bool:
    return isinstance(draft.synapse, nn.Linear) and draft.fields.keys().isdisjoint(_AFTER_NORM)


def _adopt(net: SpikingNet, site: Site, draft: _Draft) -> None:
    """Put the user's own modules and parameters into a site."""
    key = site.name.replace(".", "_")
    if site.spec.weighted and draft.synapse is not None:
        own = dict(draft.synapse.named_parameters())
        site.synapse.weight = own["weight"]
        site.synapse.bias = own.get("bias")
    if draft.norm is not None:
        site.norm = net.plan.norms[key] = draft.norm
    if draft.neuron is not None:
        site.neuron = net.plan.neurons[key] = draft.neuron
