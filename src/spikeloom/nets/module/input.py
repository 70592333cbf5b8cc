"""Checks at the entry of a net: does the input fit, and can the net run in this order."""

from typing import TYPE_CHECKING

from torch import Tensor

from spikeloom.base.errors import ShapeError, UnsupportedNet
from spikeloom.base.types import FLOATS
from spikeloom.nets.how import Order
from spikeloom.nets.module.build import Component, Plan
from spikeloom.nets.module.synapse import multiply
from spikeloom.nets.ops import Credited, Ops, OwnBackward, Plain, keep

if TYPE_CHECKING:
    from spikeloom.nets.module.net import SpikingNet


def check_input(net: "SpikingNet", xs: Tensor, *, in_time: bool) -> None:
    r"""Refuse an input that does not fit the net, and norms that do not work in this order.

    Args:
        net: the network.
        xs: its input.
        in_time: whether the net will run step by step.

    Shape:
        xs: [T, B, \*in_shape].

    Raises:
        ShapeError: the input has another shape, type or device, or is empty.
        UnsupportedNet: norm "batch_all" in training in a part that runs step by step, or a user's
            module that changed since the net was made from it.
    """
    if net.link is not None:
        net.link.check(net.training)
    if tuple(xs.shape[2:]) != net.in_shape or xs.dim() != 2 + len(net.in_shape):
        raise ShapeError(
            f"net: expected [T, B, {', '.join(map(str, net.in_shape))}] with time as the "
            f"first axis, got {tuple(xs.shape)}; encode the input (an encoder adds the time "
            "axis) or fix in_shape."
        )
    if xs.shape[0] < 1 or xs.shape[1] < 1:
        raise ShapeError(
            f"net: expected at least one step and one sample, got T = {xs.shape[0]}, "
            f"B = {xs.shape[1]}; use T >= 1 and a batch that is not empty."
        )
    weight = next(net.parameters(), None)
    if weight is not None and weight.device != xs.device:
        raise ShapeError(
            f"net: expected an input on {weight.device}, where the weights are, got "
            f"{xs.device}; move one of them."
        )
    if xs.dtype not in FLOATS:
        raise ShapeError(
            f"net: expected a floating-point input, got {xs.dtype}; convert it (xs.float())."
        )
    if weight is not None and not multiply(xs, weight):
        raise ShapeError(
            f"net: expected an input of type {weight.dtype}, as the weights, got {xs.dtype}; "
            "convert one of them, e.g. xs.float() or net.double()."
        )
    if net.training:
        for site in net.plan.over_all if in_time else net.plan.over_all_looped:
            way, todo = "a feedback loop", "change the norm"
            if in_time:
                way, todo = "time order", f"{todo} or use a rule that runs layer by layer"
            raise UnsupportedNet(
                f"net layer {site.name}: expected norm 'batch_step', 'weight' or 'none' for "
                f"training in {way}, got 'batch_all', whose statistics need all steps; {todo}."
            )


def check_sequence(plan: Plan, order: Order, ops: Ops, *, training: bool) -> None:
    """Refuse `Ops.sequence` where it would not be called or would give wrong gradients.

    Raises:
        UnsupportedNet: the order is not "layer", the rule also has a carry, or a feedback loop is
            not covered by the rule's backward pass.
    """
    if ops.sequence is None:
        return
    if order != "layer":
        ways = {"time": "run in time order", "rates": "run in rates"}
        raise UnsupportedNet(
            f"net: expected a rule that leaves trains alone where the net is {ways[order]}, got "
            "one with a sequence; it acts in layer order (run_by_layer) alone."
        )
    if ops.carry != keep:
        raise UnsupportedNet(
            "net: expected a rule with a sequence to leave states between steps alone, got one "
            "with a carry too; a sequence takes the whole train, drop one of them."
        )
    for loop in plan.components if plan.edges else ():
        came = _uncovered(plan, loop, ops, training) if loop.edges else ""
        if came:
            raise UnsupportedNet(
                f"net.feedback.{loop.edges[0].number}: expected a loop that the rule's own "
                f"backward pass covers, got {came}; drop it or use bptt."
            )


def _uncovered(plan: Plan, loop: Component, ops: Ops, training: bool) -> str:
    """Return what in a feedback loop the rule's own backward pass cannot handle; "" if nothing."""
    if not isinstance(ops.sequence, OwnBackward):
        return "a sequence for single layers (nets.ops.OwnBackward is one for loops)"
    if not isinstance(ops.synapse, Plain | Credited) or ops.emit != keep:
        return "a synapse or emit of the rule's, whose gradient inside the loop would be left out"
    dropped = [site.name for site in loop.sites if training and site.spec.dropout]
    if dropped:
        return f"dropout inside it, in layer {dropped[0]}"
    spec = loop.blocks[0].spec
    if spec.join != "none" and spec.tap == "input":
        return f"a shortcut from its input, in block {loop.first}"
    for edge in plan.edges:
        source, target = edge.spec.source, edge.spec.target
        leaves = loop.holds(source) and not loop.holds(target) and source != loop.end - 1
        enters = loop.holds(target) and not loop.holds(source) and target != loop.first
        if leaves or enters:
            return f"edge {edge.number}, which leaves or enters in its middle"
    return ""
