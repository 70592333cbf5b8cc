"""The error at a head's outputs, for rules that send it back in a way of their own."""

from collections.abc import Callable

import torch
from torch import Tensor

from spikeloom.nets.ops import Ops, Visit
from spikeloom.nets.readout import Error, Loss


def error_of(loss: Callable[[Tensor, Ops], Loss], h: Tensor, ops: Ops) -> Error:
    r"""Return loss, outputs and the error, by autograd from the loss to the outputs alone.

    .. math:: e = \partial L / \partial o

    o are the results of the head's maps side by side, in the order in which its loss asks for
    them (logits first); of a head without maps, its features.

    Args:
        loss: of features.
        h: the features.
        ops: how maps are computed.

    Shape:
        h: [B, D], or [T, B, D] for a head that reads trains; o, e: [B, M K], or as h without maps.
    """
    outputs: list[Tensor] = []

    def synapse(visit: Visit, x: Tensor) -> Tensor:
        with torch.no_grad():
            o = ops.synapse(visit, x)
        outputs.append(o.detach().requires_grad_())
        return outputs[-1]

    h = h.detach().requires_grad_()
    with torch.enable_grad():
        logits, value = loss(h, Ops(synapse=synapse))
    found = outputs or [h]
    with torch.autocast(h.device.type, enabled=False):
        grads = torch.autograd.grad(value, found, allow_unused=True)
    pairs = zip(found, grads, strict=True)
    errors = [torch.zeros_like(o) if grad is None else grad for o, grad in pairs]
    o = torch.cat([one.detach() for one in found], dim=-1)
    return Error(logits.detach(), value.detach(), o, torch.cat(errors, dim=-1))
