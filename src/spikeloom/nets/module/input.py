"""What a net refuses at its border: inputs that do not fit it."""

from typing import TYPE_CHECKING

from torch import Tensor

from spikeloom.base.errors import ShapeError, UnsupportedNet
from spikeloom.base.types import FLOATS
from spikeloom.nets.how import Order
from spikeloom.nets.module.synapse import multiply
from spikeloom.nets.ops import Ops

if TYPE_CHECKING:
    from spikeloom.nets.module.net import SpikingNet


def check_input(net: "SpikingNet", xs: Tensor, *, in_time: bool) -> None:
    r"""Refuse an input that does not fit, and a net that does not run in time order.

    Args:
        net: the network.
        xs: its input.
        in_time: whether it is going to run step by step.

    Shape:
        xs: [T, B, \*in_shape].

    Raises:
        ShapeError: the input.
        UnsupportedNet: batch_all statistics in training, which need all steps at once.
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
    if in_time and net.training:
        for site in net.sites:
            if site.spec.norm == "batch_all":
                raise UnsupportedNet(
                    f"net layer {site.name}: expected norm 'batch_step', 'weight' or 'none' "
                    "for training in time order, got 'batch_all', whose statistics need all "
                    "steps; change the norm or use a rule that runs layer by layer."
                )


def check_sequence(order: Order, ops: Ops) -> None:
    """Refuse a rule's own way through whole trains where there are none.

    Raises:
        UnsupportedNet: it would never be called.
    """
    if order != "layer" and ops.sequence is not None:
        ways = {"time": "run in time order", "rates": "run in rates"}
        raise UnsupportedNet(
            f"net: expected a rule that leaves trains alone where the net is {ways[order]}, got "
            "one with a sequence; it acts in layer order (run_by_layer) alone."
        )
