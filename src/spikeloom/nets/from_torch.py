"""A user's own torch module as a `SpikingNet` that shares its parameters and follows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from spikeloom.base.errors import ConfigError, ShapeError, SpikeloomError
from spikeloom.nets.layer import LayerSpec
from spikeloom.nets.lent import LentSynapse, made
from spikeloom.nets.net import SpikingNet
from spikeloom.nets.site import Site
from spikeloom.nets.spec import BlockSpec, Join, NetSpec
from spikeloom.nets.synapse import Shape, Synapse
from spikeloom.nets.torch_check import check_values
from spikeloom.nets.torch_forward import read_forward
from spikeloom.nets.torch_graph import INPUT, Step
from spikeloom.nets.torch_layers import SYNAPSES, Fields, check, layer_fields, place, refusal
from spikeloom.nets.torch_link import Link, Mode, check_followed
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.relu import Relu

Statistics = Literal["batch_step", "batch_all"]

ONE_SKIP = (
    "a net has one skip connection at a time, from before a chain of layers to behind it: write it "
    "so, or train your module as it is, with Neuron and backpropagation through time"
)


@dataclass(eq=False)
class Draft:
    """One layer in the making: its fields and the modules it takes over."""

    where: str
    fields: Fields
    synapse: nn.Module | None = None
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    norm_where: str = ""
    neuron: Neuron | None = None
    dropout: tuple[str, nn.Module] | None = None
    """Its place, and the module that switches it."""
    flat: bool = False
    """A Flatten came before it."""
    features: int | None = None
    """Width that the Flatten asks for."""

    @property
    def weighted(self) -> nn.Module | None:
        """The module with the weights: pools go into a net by their settings."""
        return self.synapse if "out" in self.fields else None

    def layer(self) -> LayerSpec:
        """Return the layer's spec."""
        fields: Fields = {"unit": None, **self.fields}
        return LayerSpec(**fields)

    def add_unit(self, step: Step) -> None:
        """Take a Neuron or a ReLU over."""
        layer = step.layer
        self.neuron = layer if isinstance(layer, Neuron) else None
        self.fields["unit"] = layer.unit if isinstance(layer, Neuron) else Relu()


@dataclass(eq=False)
class BlockDraft:
    """One block in the making."""

    where: str
    main: list[Draft]
    join: Join = "none"
    side: list[Draft] = field(default_factory=list)

    def block(self) -> BlockSpec:
        """Return the block's spec."""
        layers, shortcut = (
            tuple(draft.layer() for draft in path) for path in (self.main, self.side)
        )
        return BlockSpec(layers, join=self.join, shortcut=shortcut, reads="step")


@dataclass(frozen=True)
class Blueprint:
    """What a net is made from: equal where two nets would be the same."""

    spec: NetSpec
    parts: tuple[nn.Module | None, ...]
    linear: nn.Module | None
    over_time: bool
    blocks: list[BlockDraft] = field(compare=False)

    @property
    def dropouts(self) -> list[tuple[str, nn.Module]]:
        """Places and modules whose mode switches a dropout on and off."""
        drafts = [draft for block in self.blocks for draft in (*block.main, *block.side)]
        return [one.dropout for one in drafts if one.dropout and one.fields["dropout"]]


def translate(module: nn.Module, in_shape: Shape, norm: Statistics = "batch_step") -> SpikingNet:
    """Build the net of a user's module; see `SpikingNet.from_torch`.

    Raises:
        ConfigError: unknown norm statistics, or no module.
        ShapeError: layers that do not fit, by their position.
        UnsupportedNet: what has no counterpart here, by its name and position.
    """
    if norm not in get_args(Statistics):
        raise ConfigError(
            f"from_torch: expected norm as one of {get_args(Statistics)}, got {norm!r}; change it."
        )
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"from_torch: expected a torch module, got {module!r}; pass a Sequential."
        )
    if not isinstance(in_shape, (tuple, list)):
        raise ShapeError(
            f"from_torch: expected in_shape as (C, H, W) or (D,), got {in_shape!r}; fix it."
        )
    again = partial(draw, in_shape=tuple(in_shape), norm=norm)
    plan = again(module)
    net = SpikingNet(plan.spec, in_shape)
    for drafts, block in zip(plan.blocks, net.plan.blocks, strict=True):
        (one,) = block.passes
        for draft, site in zip(drafts.main, one.sites, strict=True):
            _adopt(net, site, draft)
        for draft, site in zip(drafts.side, one.shortcut, strict=True):
            _adopt(net, site, draft)
    # not as a child module: its parameters are the head's, not the net's
    object.__setattr__(net, "last_linear", plan.linear)
    modes = {part: part.training for part in module.modules()}
    net.train(module.training)
    for part, training in modes.items():
        part.training = training  # a part that its user froze stays so
    check_values(net, module, plan.over_time)
    net.modes = nn.ModuleList(Mode(owner) for _, owner in plan.dropouts)
    net.link = Link(module, again, plan)
    return net


def draw(module: nn.Module, in_shape: Shape, norm: Statistics) -> Blueprint:
    """Read a module and lay its net out."""
    check_followed(module)
    forward = read_forward(module)
    blocks = _Builder(forward.steps, norm).blocks
    if not blocks:
        raise refusal(place("", module), "at least one layer", "none", "add one")
    shape, last = in_shape, blocks[-1]
    for block in blocks:
        shape = _fit_block(block, shape)
    linear = last.main[0].synapse if _is_readout(last) else None
    readout = blocks.pop().main[0].layer() if linear is not None else None
    drafts = [draft for block in blocks for draft in (*block.main, *block.side)]
    parts = [
        part
        for draft in drafts
        for part in (draft.weighted, draft.norm, draft.neuron, draft.dropout and draft.dropout[1])
    ]
    spec = NetSpec(tuple(block.block() for block in blocks), readout=readout)
    return Blueprint(spec, tuple(parts), linear, forward.over_time, blocks)


class _Layers:
    """Collects the layers of one chain."""

    def __init__(
        self, norm: Statistics, *, flat: bool = False, features: int | None = None
    ) -> None:
        self.norm: Statistics = norm
        self.drafts: list[Draft] = []
        self.flat = flat
        self.features = features

    def take(self, step: Step) -> None:
        where, layer = step.where, step.layer
        assert layer is not None
        if self.flat and not isinstance(layer, (nn.Linear, nn.Flatten, nn.Dropout, nn.Identity)):
            raise refusal(where, "a Linear after Flatten", "it", "move Flatten before the Linear")
        if type_before_parametrizations(layer) in SYNAPSES:
            fields = layer_fields(where, layer)
            draft = Draft(where, fields, layer, flat=self.flat, features=self.features)
            self.drafts.append(draft)
            self.flat, self.features = False, None
        elif isinstance(layer, nn.Flatten):
            self.flat, self.features = True, step.features or self.features
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            self._norm(step, layer)
        elif isinstance(layer, nn.Dropout):
            self._free(where, ("dropout",)).fields["dropout"] = layer.p
            self.drafts[-1].fields["dropout_held"] = not step.over_time
            self.drafts[-1].dropout = (where, step.mode or layer)
        elif not isinstance(layer, nn.Identity):
            self._free(where, AFTER_UNIT).add_unit(step)

    def _norm(self, step: Step, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        where, joint = step.where, self.norm == "batch_all"
        came, todo = "a forward that gives it all steps at once", 'pass norm = "batch_all"'
        check(where, joint or not step.over_time, "statistics of each step", came, todo)
        check(where, layer.track_running_stats, "track_running_stats", False, "use one that tracks")
        draft = self._free(where, AFTER_NORM)
        draft.norm, draft.norm_where = layer, where
        draft.fields["norm"] = self.norm

    def _free(self, where: str, taken: tuple[str, ...]) -> Draft:
        """Return the last layer, or a new one without a synapse where it has one of these."""
        if not self.drafts or not self.drafts[-1].fields.keys().isdisjoint(taken):
            self.drafts.append(Draft(where, {"kind": "identity"}))
        return self.drafts[-1]


AFTER_UNIT = ("unit", "dropout")
AFTER_NORM = ("norm", *AFTER_UNIT)


class _Builder:
    """From steps to blocks: chains of layers, and two chains where a value is read twice."""

    def __init__(self, steps: Sequence[Step], norm: Statistics) -> None:
        self.steps = steps
        self.norm: Statistics = norm
        self.readers: dict[int, list[int]] = {}
        for number, step in enumerate(steps):
            for source in step.inputs:
                self.readers.setdefault(source, []).append(number)
        self._check_norms()
        self.blocks: list[BlockDraft] = []
        self.layers = _Layers(norm)
        number = INPUT
        while number in self.readers:
            number = self._advance(number, self.readers[number])
        self._flush()

    def _check_norms(self) -> None:
        """Refuse a norm at two places: what it keeps would hang on the order of steps."""
        seen: set[nn.Module] = set()
        for step in self.steps:
            if isinstance(step.layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                first = step.layer not in seen
                todo = "give each place a norm of its own"
                check(step.where, first, "a norm at one place", "the same at two", todo)
                seen.add(step.layer)

    def _advance(self, number: int, readers: list[int]) -> int:
        """Take what reads a value, and return the number of the next one."""
        if len(readers) == 2:
            return self._fork(number, readers)
        step = self.steps[readers[0]]
        if len(readers) > 2 or step.join is not None:
            came = f"a value with {len(readers)} readers" if len(readers) > 2 else "it"
            raise refusal(step.where, "two ways that meet again", came, ONE_SKIP)
        self.layers.take(step)
        return readers[0]

    def _fork(self, number: int, readers: list[int]) -> int:
        """Take two chains up to where they join, and the unit behind the join."""
        (left, end), (right, other) = (self._chain(reader) for reader in readers)
        join = self.steps[end].join
        where = self.steps[end].where
        assert join is not None
        check(where, end == other, "two ways that meet again", "ways that cross", ONE_SKIP)
        check(where, bool(left or right), "a layer on one of two ways", "none", "add one")
        flat, features = self.layers.flat, self.layers.features
        self._flush()
        main, side = (self._read(path, where, flat, features) for path in (left, right))
        after = self.readers.get(end, [])
        unit = self.steps[after[0]] if len(after) == 1 else None
        if not _is_unit(unit) or join != "add":
            unit = None
        if not main or (side and unit and not _takes_unit(main[-1])):
            main, side = side, main
        block = BlockDraft(where, main, join, side)
        if unit is not None and _takes_unit(main[-1]):
            block.join = "before_unit"
            main[-1].add_unit(unit)
            end = after[0]
        self.blocks.append(block)
        return end

    def _chain(self, number: int) -> tuple[list[Step], int]:
        """Return the layers from a step up to a join, and the number of the join."""
        chain: list[Step] = []
        while self.steps[number].join is None:
            step = self.steps[number]
            chain.append(step)
            readers = self.readers.get(number, [])
            came = f"a result with {len(readers)} readers on one of two ways"
            check(step.where, len(readers) == 1, "one reader", came, ONE_SKIP)
            number = readers[0]
        return chain, number

    def _read(self, chain: list[Step], where: str, flat: bool, features: int | None) -> list[Draft]:
        layers = _Layers(self.norm, flat=flat, features=features)
        for step in chain:
            layers.take(step)
        check(where, not layers.flat, "maps or a Linear's result", "a Flatten", "flatten behind it")
        return layers.drafts

    def _flush(self) -> None:
        """End a chain: each of its layers is a block."""
        self.blocks += [BlockDraft(draft.where, [draft]) for draft in self.layers.drafts]
        self.layers = _Layers(self.norm)


def _is_unit(step: Step | None) -> bool:
    return step is not None and isinstance(step.layer, (Neuron, nn.ReLU))


def _takes_unit(draft: Draft) -> bool:
    return draft.fields.keys().isdisjoint(AFTER_UNIT)


def _is_readout(block: BlockDraft) -> bool:
    draft = block.main[-1]
    plain = block.join == "none" and draft.fields.keys().isdisjoint(AFTER_NORM)
    return plain and isinstance(draft.synapse, nn.Linear)


def _fit_block(block: BlockDraft, shape: Shape) -> Shape:
    """Check that a block takes values of this shape, and return what it gives."""
    main = side = shape
    for draft in block.main:
        main = _fit(draft, main)
    for draft in block.side:
        side = _fit(draft, side)
    if block.join != "none":
        check(block.where, main == side, "two values of one shape", f"{main} and {side}", ONE_SKIP)
    return main


def _fit(draft: Draft, shape: Shape) -> Shape:
    """Check that a layer takes maps of this shape, and return what it gives."""
    where = draft.where
    model = None
    try:
        with torch.device("meta"):
            synapse = Synapse(draft.layer(), shape, where)
            out = synapse.out_shape
            if draft.neuron is not None:
                model = Neuron(draft.neuron.unit, out[0], len(out) - 1)
    except SpikeloomError as error:
        raise type(error)(f"from_torch: module {where}: {error}") from None
    if isinstance(draft.synapse, nn.Linear) and len(shape) == 3 and not draft.flat:
        raise refusal(where, "Flatten between maps and a Linear", "none", "add nn.Flatten()")
    if draft.features is not None:
        _same(where, "a reshape to", synapse.in_shape, (draft.features,))
    if synapse.spec.weighted and draft.synapse is not None:
        _same(where, "a weight", synapse.weight_shape, made(draft.synapse, "weight").shape)
    if draft.norm is not None:
        kind = nn.BatchNorm2d if len(out) == 3 else nn.BatchNorm1d
        kinds = f"{kind.__name__} for values of shape {out}"
        behind = draft.norm_where
        check(behind, isinstance(draft.norm, kind), kinds, type(draft.norm).__name__, "change it")
        _same(behind, "a norm of channels", out[:1], (draft.norm.num_features,))
    if draft.neuron is not None and model is not None:
        try:
            draft.neuron.theta()
        except AttributeError:
            came, todo = "others, e.g. parametrised", "remove what shapes them"
            raise refusal(where, "trained quantities as parameters", came, todo) from None
        for name, value in model.named_parameters():
            came = getattr(draft.neuron, name)
            _same(where, f"neurons whose {name} has shape", value.shape, came.shape)
    return out


def _same(where: str, what: str, expected: Shape, came: Shape) -> None:
    if tuple(expected) != tuple(came):
        raise ShapeError(
            f"from_torch: module {where}: expected {what} {tuple(expected)} for the input it "
            f"gets, got {tuple(came)}; change its sizes or in_shape."
        )


def _adopt(net: SpikingNet, site: Site, draft: Draft) -> None:
    """Put the user's own modules into a site."""
    key = site.name.replace(".", "_")
    if site.spec.weighted and draft.synapse is not None:
        shared = key.rpartition("_")[0]
        lent = LentSynapse(site.spec, site.synapse.in_shape, site.name, draft.synapse)
        site.synapse = net.plan.synapses[shared] = lent
    if draft.norm is not None:
        site.norm = net.plan.norms[key] = draft.norm
    if draft.neuron is not None:
        site.neuron = net.plan.neurons[key] = draft.neuron
