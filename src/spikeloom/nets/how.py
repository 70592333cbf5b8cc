"""How each site is computed: the one place where optimisations are chosen.

A walk (`nets.walk`) defines what a net computes. For every site it asks `decide` how to compute
it, and gets a `How`. Each function ``why_not_...`` decides about one optimisation: it returns the
reason against it as a text, or "" if it is used. `spikeloom profile --plan` prints these reasons.
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
"""Synapses that keep no reference to their output, so that it may be overwritten."""

FEW = 4
"""Least number of steps for which a kernel with one norm parameter per neuron is faster.

See `_inside_from`.
"""

_JOIN = (*_OURS, OnWeights)
"""Synapses that leave pools unchanged, so that a pool can be computed with the unit before it."""


class Setting(NamedTuple):
    """Everything about one call of a net on which a `How` depends, besides the site itself.

    Args:
        order: order of computation.
        ops: the learning rule's functions.
        execution: options of the net.
        training: whether dropout is on and norms take batch statistics.
        watched: whether observers read the input, current and output of every site.
        rows: samples times steps that a site computes at once.
        steps: time steps among them; 1 unless the order is "layer".
        private: whether only the walk sees the states between steps.
        grad: whether torch records gradients.
        kept: whether a user's saved-tensor hooks may keep what autograd saves.
        traced: whether `torch.jit.trace` is recording.
        hooks: a value that changes whenever a hook is registered on any module.
        followed: whether a torch transform, tracer or mode sees the computation, so that compiled
            kernels cannot run; only set in layer order.
        products: type in which autocast computes matrix products; None where it is off.
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
        """Return the setting for one site: sites in feedback loops always run step by step."""
        if self.order != "layer" or not site.looped:
            return self
        return self._replace(order="time", rows=self.rows // self.steps, steps=1, private=True)


def torch_now(order: Order) -> dict[str, Any]:
    """Return the fields of a `Setting` that describe torch's present state."""
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
        loop: which loop runs the unit through time.
        pool: side of the average pool that is computed together with the unit; 1 for none.
        joined: whether this site is such a pool, already computed with the unit before it.
        norm: where the norm is applied: "before" the unit, "folded" into the weights, or "inside"
            the unit's kernel.
        inside_from: number of different steps in a train from which "inside" is faster than
            "before".
        short: whether the state may be kept as a single value, which the step's backward pass
            needs anyway (`kernels.runs.Pivot`).
        spare: whether nobody else reads the currents, so that outputs or gradients may overwrite
            them.
        packed: whether tensors saved by autograd are stored in as few bits as possible.
        again: whether currents are computed again in the backward pass instead of stored.
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
        """Whether the norm is applied inside the kernel, for a train with `different` steps.

        `decide` cannot know that number: it is 1 if the layer's input is constant over time, which
        is only known when the train is there.
        """
        return self.norm == "inside" and different >= self.inside_from


class Decided:
    """A cache of the decisions for the last setting, for further calls in the same setting.

    A net keeps one cache for calls without a rule. The functions of a rule may hold tensors, which
    the net must not keep alive, so their cache lasts for one run only.
    """

    def __init__(self) -> None:
        # one tuple, replaced at once: a call on another thread never sees half of an update
        self._last: tuple[Setting | None, list[Unit | None], dict[str, How]] = (None, [], {})

    def of(self, setting: Setting, sites: Sequence[Site]) -> dict[str, How]:
        """Return the decisions for a setting by site; the caller adds new ones to this dict.

        The cache starts anew if the setting changed or a unit was replaced. Sites with a norm are
        always decided again, because the norm's own training mode may have changed.
        """
        before, known, hows = self._last
        units = [site.neuron and site.neuron.unit for site in sites]
        # compared by identity: a user's own unit may define == in any way
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
        site: the site.
        s: setting of the call.
        cheap: names of sites whose currents are computed again (`cheap_names`).
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
    """Return the names of sites whose currents are computed again to save memory."""
    if s.order != "layer" or s.execution.memory != "saving" or why_not_saving(s):
        return frozenset()
    return frozenset(cheap_sites(plan.sites))


def why_not_pool(site: Site, s: Setting) -> str:
    """Return why the average pool after a unit is computed separately; "" if it is not."""
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
    """Return why a norm is not folded into the weights; "" if it is."""
    if not isinstance(s.ops.synapse, Plain):
        return "the rule has a synapse of its own"
    if s.grad:
        return "a gradient may be wanted"
    if hooked(site.synapse, site.norm):
        return "hooks wait for calls of its module"
    # torch.jit.trace runs the net again without gradients and compares: both must compute alike
    if s.traced:
        return "torch.jit.trace is recording"
    return "" if site.folds else "the norm takes statistics, or is not behind a convolution"


def why_not_inside(site: Site, s: Setting) -> str:
    """Return why a norm is not applied inside the unit's kernel; "" if it is."""
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
    """Return why the unit's kernel cannot apply a norm; "" if it can."""
    if norm.weight.device.type != "cpu":
        return "kernels run on a CPU"
    kernel = kernel_of(Normed(unit))  # pyright: ignore[reportArgumentType] - spikes as it does
    if kernel is None:
        return "the unit has no kernel"
    if not kernel.rests_at_zero:  # its initial state may depend on the current after the norm
        return "the unit does not start at 0"
    kinds = {norm.weight.dtype, norm.bias.dtype}
    kinds |= {kept.dtype for kept in (norm.running_mean, norm.running_var) if kept is not None}
    if kinds not in ({torch.float32}, {torch.float64}):
        return "the norm has another type than states"
    halves = s.products == torch.float16 and kinds != {torch.float64}
    return "there are no kernels in float16" if halves else ""


def why_not_short(site: Site, s: Setting) -> str:
    """Return why a step keeps its full state; "" if the short form is enough."""
    if s.order != "time":
        return "whole trains keep no states"
    if not s.private:
        return "the state is given to the caller"
    if site.unit is not None and site.unit.learn:
        # The short form is the potential before the reset, and the next step applies the reset. If
        # an update changed the threshold in between, that reset would use the wrong threshold.
        return "what the unit trains may move between two steps"
    return "" if s.ops.carry == cut else "the state passes a gradient on, or the rule changes it"


def why_not_spare(site: Site, s: Setting) -> str:
    """Return why currents must not be overwritten; "" if they may."""
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
    """Return why memory = "saving" has no effect; "" if it has."""
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
    """Return the least number of different steps for which a norm inside the kernel is faster.

    If the norm's parameters repeat in memory with a short period, the kernel keeps them in cache.
    Otherwise it reads one of each per neuron, which pays off over several steps only.
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
