"""How each site is computed: the one place where speed is decided.

A walk says what a net computes. For every site it asks here how, and gets a frozen `How`. Each
decision below is a function that returns why not, or nothing: `spikeloom profile --plan` prints
these reasons.
"""

import math
from collections.abc import Sequence
from operator import is_
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from spikeloom.base.torch_private import hooked, hooks_made, kept_by_user, traced
from spikeloom.base.tracing import ordinary
from spikeloom.kernels.layout import LONGEST
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.norms import joinable
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import Credited, MeanCurrent, OnWeights, Ops, Plain, cut, keep
from spikeloom.nets.walk.saving import cheap_sites
from spikeloom.neurons.base import Unit
from spikeloom.neurons.normed import Normed
from spikeloom.neurons.trains import Kernels, kernel_of

Order = Literal["time", "layer", "rates"]

_OURS = (Plain, Credited)
"""Synapses whose results belong to nobody else."""

FEW = 4
"""Steps below which a norm that does not repeat along memory is cheaper before the unit."""

_JOIN = (*_OURS, OnWeights)
"""Synapses that are plain at pools."""


class Setting(NamedTuple):
    """What decides about all sites of one call; with a site's norm it decides alone.

    Args:
        order: of computation.
        ops: a rule's seams.
        execution: what the net's owner wishes.
        training: whether dropout and statistics are those of training.
        watched: whether observers look at every firing.
        rows: samples times steps that a site computes at once.
        steps: time steps among them, in layer order.
        private: whether nobody but the walk sees the states between steps.
        grad: whether a gradient may be wanted.
        kept: whether hooks of a user may keep what autograd saves.
        traced: whether `torch.jit.trace` is recording.
        hooks: changes with every hook that is registered anywhere.
        followed: whether torch follows the computation, by a transform, tracer or mode; only asked
            of whole trains.
        products: type in which autocast computes products; None where it is off.
    """

    order: Order
    ops: Ops
    execution: Execution
    training: bool
    watched: bool
    rows: int
    steps: int = 1
    private: bool = False
    grad: bool = True
    kept: bool = False
    traced: bool = False
    hooks: object = None
    followed: bool = False
    products: torch.dtype | None = None

    def at(self, site: Site) -> "Setting":
        """Return in what setting a site is: feedback loops go step by step in layer order too."""
        if self.order != "layer" or not site.looped:
            return self
        return self._replace(order="time", rows=self.rows // self.steps, steps=1, private=True)


def torch_now(order: Order) -> dict[str, Any]:
    """Return what a `Setting` says of torch, as it is at this call."""
    low = torch.is_autocast_enabled("cpu")
    return {
        "grad": torch.is_grad_enabled(),
        "kept": kept_by_user(),
        "traced": traced() and not torch.compiler.is_compiling(),
        "hooks": hooks_made(),
        "followed": order == "layer" and not ordinary(),
        "products": torch.get_autocast_dtype("cpu") if low else None,
    }


class How(NamedTuple):
    """How one site is computed.

    Args:
        loop: takes the unit through time.
        pool: side of the average pool that is computed together with the unit; 1 for none.
        joined: whether this site is such a pool, computed with the unit before it.
        norm: "before" the unit, "folded" into the weights, "inside" the unit's kernel.
        inside_from: how many steps of a train must differ before "inside" is faster than "before".
        short: whether the state may be kept as one value that a step's backward pass needs anyway.
        spare: whether the currents are nobody else's, so that outputs or gradients may take their
            place.
        packed: whether what autograd stores takes as few bits as it can.
        again: whether currents are computed again for the backward pass.
    """

    loop: Kernels = "reference"
    pool: int = 1
    joined: bool = False
    norm: Literal["none", "before", "folded", "inside"] = "none"
    inside_from: int = 1
    short: bool = False
    spare: bool = False
    packed: bool = False
    again: bool = False

    def inside(self, different: int) -> bool:
        """Whether the norm goes inside, for a train of so many different steps.

        The one thing that waits for the call: whether a layer's input stays the same over time.
        """
        return self.norm == "inside" and different >= self.inside_from


class Decided:
    """What was decided in the last setting, for calls that come back in the same one.

    A net keeps one for plain calls. A rule's seams may hold tensors, which a net must not keep
    alive: for them it lasts as long as one run.
    """

    def __init__(self) -> None:
        # one value, so that calls on other threads see all of it or nothing
        self._last: tuple[Setting | None, list[Unit | None], dict[str, How]] = (None, [], {})

    def of(self, setting: Setting, sites: Sequence[Site]) -> dict[str, How]:
        """Return what is known in a setting; whoever decides more writes it there.

        All is forgotten where a unit was exchanged, and always what is decided about a norm, which
        may have changed its mode.
        """
        before, known, hows = self._last
        units = [site.neuron and site.neuron.unit for site in sites]
        # the same objects: what equality means for a user's own unit, we do not know
        if setting != before or len(units) != len(known) or not all(map(is_, units, known)):
            hows = {}
            self._last = (setting, units, hows)
        for site in sites:
            if site.norm is not None:
                hows.pop(site.name, None)
        return hows


def decide(site: Site, s: Setting, cheap: frozenset[str] = frozenset()) -> How:
    """Return how a site is computed.

    Args:
        site: which.
        s: in which call.
        cheap: `cheap_sites` of the net, where memory is saved.
    """
    s = s.at(site)
    before = site.source
    packed = s.execution.memory == "saving" and not why_not_saving(s)
    unit = site.unit
    runs = unit is not None and unit.stateful
    return How(
        loop=_loop(site, s),
        pool=1 if site.pool is None or why_not_pool(site, s) else site.pool.spec.kernel_size,
        joined=before is not None and before.pool is site and not why_not_pool(before, s),
        norm=_norm(site, s),
        inside_from=1 if site.norm is None else _inside_from(site, s),
        short=runs and not why_not_short(site, s),
        spare=runs and not why_not_spare(site, s),
        packed=packed,
        again=packed and site.name in cheap,
    )


def cheap_names(plan: Plan, s: Setting) -> frozenset[str]:
    """Return the sites whose currents are computed twice, where memory is saved."""
    if s.order != "layer" or s.execution.memory != "saving" or why_not_saving(s):
        return frozenset()
    return frozenset(cheap_sites(plan.sites))


def why_not_pool(site: Site, s: Setting) -> str:
    """Say why the average pool behind a unit is computed by itself; "" where it is not."""
    ops, spec = s.ops, site.spec
    if site.unit is None or not site.unit.stateful:
        return "no unit with a state before it"
    if s.order == "rates":
        return "rates have no trains"
    if s.training and spec.dropout:
        return "dropout comes before it"
    if spec.psp:
        return "a low-pass comes before it"
    if s.watched:
        return "an observer looks at the spikes"
    if not isinstance(ops.synapse, _JOIN):
        return "the rule's synapse is called at pools too"
    if ops.emit != keep:
        return "the rule changes spikes before it"
    if s.order == "layer" and ops.sequence is None and ops.carry != keep:
        return "the rule changes states between steps of a train"
    if ops.sequence is not None and not isinstance(ops.sequence, MeanCurrent):
        return "the rule takes whole trains"
    return ""


def why_not_folded(site: Site, s: Setting) -> str:
    """Say why a norm does not go into the weights; "" where it does."""
    if not isinstance(s.ops.synapse, Plain):
        return "the rule has a synapse of its own"
    if s.grad:
        return "a gradient may be wanted"
    if hooked(site.synapse, site.norm):
        return "hooks wait for calls of its module"
    # torch checks a recording without gradients: it must be the one with them
    if s.traced:
        return "torch.jit.trace is recording"
    return "" if site.folds else "the norm takes statistics, or is not behind a convolution"


def why_not_inside(site: Site, s: Setting) -> str:
    """Say why a norm is applied before the unit's kernel and not by it; "" where by it."""
    unit, norm, ops = site.unit, site.norm, s.ops
    if s.order != "layer":
        return "steps are computed one by one" if s.order == "time" else "rates have no kernel"
    if unit is None or not unit.stateful:
        return "no unit with a state behind it"
    if site.meets:
        return "a shortcut or feedback joins behind it"
    if norm is None or not joinable(norm):
        return "the norm is another one than torch's, or has hooks"
    if norm.training and site.spec.norm != "batch_all":
        return "every step has statistics of its own"
    if ops.sequence is not None or ops.carry != keep:
        return "the rule changes trains or states"
    if s.watched:
        return "an observer looks at the currents"
    if _loop(site, s) == "reference":
        wanted = s.execution.kernels != "reference"
        return "the train is too small for a kernel" if wanted else "no kernels are wanted"
    return "torch follows the computation" if s.followed else _why_not_taken(unit, norm, s)


def _why_not_taken(unit: Unit, norm: nn.BatchNorm1d | nn.BatchNorm2d, s: Setting) -> str:
    """Say why a kernel cannot take a norm along; "" where it can."""
    if norm.weight.device.type != "cpu":
        return "kernels run on a CPU"
    kernel = kernel_of(Normed(unit))  # pyright: ignore[reportArgumentType] - spikes as it does
    if kernel is None:
        return "the unit has no kernel"
    if not kernel.rests_at_zero:  # it may be made from the current, which is another one here
        return "the unit does not start at 0"
    kinds = {norm.weight.dtype, norm.bias.dtype}
    kinds |= {kept.dtype for kept in (norm.running_mean, norm.running_var) if kept is not None}
    if kinds not in ({torch.float32}, {torch.float64}):
        return "the norm has another type than states"
    halves = s.products == torch.float16 and kinds != {torch.float64}
    return "there are no kernels in float16" if halves else ""


def why_not_short(site: Site, s: Setting) -> str:
    """Say why a step keeps its whole state; "" where it may keep less."""
    if s.order != "time":
        return "whole trains keep no states"
    if not s.private:
        return "the state is given to the caller"
    if site.unit is not None and site.unit.learn:
        # the short form is the potential before its reset, which the next step would make with a
        # threshold that an update has moved since
        return "what the unit trains may move between two steps"
    return "" if s.ops.carry == cut else "the state passes a gradient on, or the rule changes it"


def why_not_spare(site: Site, s: Setting) -> str:
    """Say why currents stay as they are; "" where they may be overwritten."""
    if not site.spec.weighted:
        return "without weights the current may be somebody's output"
    if not isinstance(s.ops.synapse, _OURS):
        return "the rule's synapse may have kept them"
    if s.watched:
        return "an observer looks at them"
    if s.kept:
        return "hooks on what autograd saves may have kept them"
    return "hooks of the layer may have kept them" if hooked(site.synapse) else ""


def why_not_saving(s: Setting) -> str:
    """Say why nothing is packed or computed again where memory is to be saved."""
    if s.order != "layer":
        return "only whole trains store much"
    if not isinstance(s.ops.synapse, Plain) or s.ops.sequence is not None:
        return "the rule has a synapse or a train of its own"
    if not s.grad:
        return "no gradient is wanted"
    return "torch follows the computation" if s.followed else ""


def _loop(site: Site, s: Setting) -> Kernels:
    if site.unit is None or not site.unit.stateful:
        return "reference"
    return s.execution.loop_for(s.rows * math.prod(site.out_shape))


def _inside_from(site: Site, s: Setting) -> int:
    """Return from how many different steps on a kernel gains by a norm.

    Where the norm's quantities repeat along memory, they cost nothing; else the kernel reads one
    of each per neuron, which pays for trains of some steps only.
    """
    channels, *sides = site.out_shape
    apart = sides and channels > 1 and not s.execution.channels_last("cpu")
    span = math.prod(site.out_shape) if apart else channels
    return 1 if span <= LONGEST else FEW


def _norm(site: Site, s: Setting) -> Literal["none", "before", "folded", "inside"]:
    if site.norm is None:
        return "none"
    if not why_not_folded(site, s):
        return "folded"
    return "before" if why_not_inside(site, s) else "inside"
