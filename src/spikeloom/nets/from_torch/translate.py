"""Translates a user's torch module into a `SpikingNet` that shares its parameters."""

from dataclasses import dataclass, field
from functools import partial
from typing import get_args

import torch
from torch import nn

from spikeloom.base.errors import ConfigError, ShapeError, SpikeloomError, wrong_choice
from spikeloom.nets.from_torch.blocks import (
    AFTER_NORM,
    ONE_SKIP,
    BlockDraft,
    Builder,
    Draft,
    Statistics,
)
from spikeloom.nets.from_torch.check import check_values
from spikeloom.nets.from_torch.forward import read_forward
from spikeloom.nets.from_torch.layers import check, place, refusal
from spikeloom.nets.from_torch.lent import LentSynapse, made
from spikeloom.nets.from_torch.link import Link, Mode, check_followed
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.module.synapse import Shape, Synapse
from spikeloom.nets.spec.net import NetSpec
from spikeloom.neurons.module import Neuron


@dataclass(frozen=True)
class Blueprint:
    """What a net is made from; two are equal if their nets would be the same.

    Args:
        spec: the net's spec.
        parts: the user's modules with weights, norms, neurons and dropouts, in order.
        linear: the last Linear, which the head uses; None if there is none.
        over_time: whether the module takes trains [T, B, ...], or single steps [B, ...].
        blocks: the blocks as read from the module.
    """

    spec: NetSpec
    parts: tuple[nn.Module | None, ...]
    linear: nn.Module | None
    over_time: bool
    blocks: list[BlockDraft] = field(compare=False)

    @property
    def dropouts(self) -> list[tuple[str, nn.Module]]:
        """Place of each dropout, and the module whose mode turns it on and off."""
        drafts = [draft for block in self.blocks for draft in (*block.main, *block.side)]
        return [one.dropout for one in drafts if one.dropout and one.fields["dropout"]]


def translate(module: nn.Module, in_shape: Shape, norm: Statistics = "batch_step") -> SpikingNet:
    """Build the net of a user's module; see `SpikingNet.from_torch`.

    Raises:
        ConfigError: unknown norm statistics, or no module.
        ShapeError: layers whose shapes do not fit; names the place.
        UnsupportedNet: a layer or operation that cannot be translated; names the place.
    """
    if norm not in get_args(Statistics):
        raise wrong_choice("from_torch.norm", norm, get_args(Statistics))
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
    # not as a child: its parameters belong to the head, not to the net
    object.__setattr__(net, "last_linear", plan.linear)
    modes = {part: part.training for part in module.modules()}
    net.train(module.training)
    for part, training in modes.items():
        part.training = training  # net.train() changed all; parts set to eval by the user stay so
    check_values(net, module, plan.over_time)
    net.modes = nn.ModuleList(Mode(owner) for _, owner in plan.dropouts)
    net.link = Link(module, again, plan)
    return net


def draw(module: nn.Module, in_shape: Shape, norm: Statistics) -> Blueprint:
    """Read a module and return the plan of its net."""
    check_followed(module)
    forward = read_forward(module)
    blocks = Builder(forward.steps, norm).blocks
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


def _is_readout(block: BlockDraft) -> bool:
    draft = block.main[-1]
    plain = block.join == "none" and draft.fields.keys().isdisjoint(AFTER_NORM)
    return plain and isinstance(draft.synapse, nn.Linear)


def _fit_block(block: BlockDraft, shape: Shape) -> Shape:
    """Check that a block accepts an input of this shape, and return its output shape."""
    main = side = shape
    for draft in block.main:
        main = _fit(draft, main)
    for draft in block.side:
        side = _fit(draft, side)
    if block.join != "none":
        check(block.where, main == side, "two values of one shape", f"{main} and {side}", ONE_SKIP)
    return main


def _fit(draft: Draft, shape: Shape) -> Shape:
    """Check that a layer accepts an input of this shape, and return its output shape."""
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
    """Make a site use the user's modules."""
    key = site.name.replace(".", "_")
    if site.spec.weighted and draft.synapse is not None:
        shared = key.rpartition("_")[0]
        lent = LentSynapse(site.spec, site.synapse.in_shape, site.name, draft.synapse)
        site.synapse = net.plan.synapses[shared] = lent
    if draft.norm is not None:
        site.norm = net.plan.norms[key] = draft.norm
    if draft.neuron is not None:
        site.neuron = net.plan.neurons[key] = draft.neuron
