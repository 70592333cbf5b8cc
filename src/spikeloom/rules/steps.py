"""What rules with a loss at every step share: the loop over time, and constant input."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from spikeloom.base.autograd import backpropagate
from spikeloom.base.types import Batch
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Ops
from spikeloom.nets.readout import Objective
from spikeloom.nets.walk.walk import Held, is_constant
from spikeloom.rules.base import RuleReport


def learn_by_step(
    net: SpikingNet,
    batch: Batch,
    objective: Objective,
    ops: Ops,
    *,
    active: Collection[int] | None = None,
    after_step: Callable[[], None] | None = None,
    may_hold: bool = True,
) -> RuleReport:
    r"""Run step by step, going backward at once from the loss of each active step.

    .. math:: L = \frac{1}{T} \sum_t \ell(o[t], y)

    Each step's graph is freed before the next step, so memory does not grow with T. Where the
    input is constant and the weights stay, the first current is computed once: each step adds to
    its gradient, and one backward pass at the end takes the sum through the synapse.

    Args:
        net: the network.
        batch: encoded input.
        objective: loss of one step's features.
        ops: the rule's seams. `carry` must cut: the graph of a step is gone when the next one runs.
        active: steps t with a backward pass, from 0; at the others the net only advances. None for
            all of them.
        after_step: called after the backward pass of each active step; an online rule commits here.
        may_hold: whether the first current of a constant input may be computed once for all steps.
            False where weights change within the batch, or where what the rule does to the first
            layer changes from step to step (a trace of the input).
    """
    steps = batch.steps
    held = leaves = None
    if may_hold and steps > 1 and is_constant(batch.xs):
        held = net.hold(batch.xs[0], ops, steps=steps, rng=batch.rng)
        leaves = held.leaves()
    stepper = net.stepper(ops, rng=batch.rng, held=leaves)
    loss = logits = None
    for t, x in enumerate(batch.xs.unbind(0)):
        learning = active is None or t in active
        with torch.set_grad_enabled(learning):
            h = stepper(x)
            step = objective(h, ops)
        del h  # the backward pass frees what it no longer needs, layer by layer
        if learning:
            backpropagate([step.value / steps])
            if after_step is not None:
                after_step()
        value, scores = step.value.detach() / steps, step.logits.detach() / steps
        loss = value if loss is None else loss + value
        logits = scores if logits is None else logits + scores
    if held is not None and leaves is not None:
        _backward(held, leaves)
    assert loss is not None and logits is not None
    return RuleReport(loss, logits)


def _backward(held: Held, leaves: Held) -> None:
    """Send the gradients collected at the leaves through what was computed once."""
    pairs = [
        (value, leaf.grad)
        for value, leaf in zip(held.tensors(), leaves.tensors(), strict=True)
        if leaf.grad is not None
    ]
    if pairs:
        values: list[Tensor] = [value for value, _ in pairs]
        backpropagate(values, [grad for _, grad in pairs])
