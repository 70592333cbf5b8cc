"""The autograd functions around runs: what they store, and until when."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikeloom.base.autograd import gradients_again, is_nobodys, refuse_second
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.torch_private import graph_is_kept
from spikeloom.base.tracing import ordinary
from spikeloom.kernels.runs import Given, Pivot, Reader, Run, TrainOptions, none

Again = Callable[..., Sequence[Tensor]]
"""Takes currents, thetas and first states, and returns what a train returned, by torch's operators:
outputs, and the last states where they were wanted."""


class TrainCall(NamedTuple):
    """One call of `TrainFunction`, besides the tensors that autograd follows.

    Args:
        run: the kernels.
        thetas: how many trained quantities stand behind the currents; states follow.
        options: what was asked.
        again: the same by torch's operators.
    """

    run: Run
    thetas: int
    options: TrainOptions
    again: Again

    def given(self, currents: Tensor, rest: Sequence[Any]) -> Given:
        """Return what the train reads."""
        return Given(currents, rest[: self.thetas], rest[self.thetas :])


class StepCall(NamedTuple):
    """One call of `StepFunction`, besides the tensors that autograd follows.

    Args:
        run: the kernels.
        before: what the last step left, whose memory is used again; or the states of a first step.
        spent: as in `TrainOptions`.
        reader: this step's backward pass, as its `Pivot` knows it.
        left: takes the pivot out. It is no output for autograd: no gradient goes through it.
    """

    run: Run
    before: Sequence[Tensor | None] | Pivot
    spent: bool
    reader: Reader
    left: list[Tensor]


class TrainFunction(torch.autograd.Function):
    r"""A train; it stores the currents, and nothing that grows with T besides.

    Currents that are nobody else's make room for their gradient, unless the graph is kept.

    With a `rate` the last three thetas are :math:`\mu, a, b` of a norm
    :math:`y = a (c - \mu) + b` whose statistics are those of these currents: :math:`\mu` is the
    mean of n values and :math:`a = \gamma r` with the rate
    :math:`r = 1 / \sqrt{\sigma^2 + \epsilon}`. Through both the currents get, besides what they
    have through y,

    .. math:: -\frac{a r^2}{n} \frac{\partial L}{\partial a} (c - \mu)
        - \frac{a}{n} \frac{\partial L}{\partial b}.

    Both sums are over all currents, so the kernel runs twice: for the sums, then for the rest.

    Where more is asked of the backward pass than numbers (a graph of its own, gradients in batches)
    the train is computed again by torch's operators.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any, call: TrainCall, currents: Tensor, *rest: Any
    ) -> tuple[Tensor, ...]:
        out, last = call.run.forward(call.given(currents, rest), call.options.final)
        ctx.call = call
        # Through autograd, not on ctx: it counts their versions, shows them to hooks of a user, and
        # frees them with the graph.
        ctx.save_for_backward(currents, *rest)
        ctx.set_materialize_grads(False)  # zeros for last states that nobody read cost a train
        return out, *last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # noqa: D102
        call: TrainCall = ctx.call
        grad, *finals = grads
        currents, *rest = ctx.saved_tensors
        # A kernel's result is numbers without a history: where this pass is to be differentiated
        # itself, or carries gradients in batches, torch's operators take over.
        if torch.is_grad_enabled() or not ordinary(currents, *rest, *grads):
            wanted = ctx.needs_input_grad[1:]
            return None, *gradients_again(call.again, (currents, *rest), grads, wanted)
        given = call.given(currents, rest)
        if grad is None:
            grad = call.run.out_like(currents).zero_()
        wants = any(ctx.needs_input_grad[2 + call.thetas :])
        result, theta_grads, state_grads = call.run.backward(
            given, grad, finals or none(given.states), wants, call.options.rate
        )
        return None, result, *theta_grads, *(state_grads or none(given.states))


_CUT = "net.stepper"
_WHOLE = "it keeps too little for that where ops cut; use net.step"


class StepFunction(torch.autograd.Function):
    """One step whose state passes no gradient on; it stores the pivot that is the state.

    A gradient that is nobody else's makes room for that of the current.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any, call: StepCall, current: Tensor, *thetas: Tensor
    ) -> Tensor:
        out, pivot = call.run.step(current, thetas, call.before, call.spent)
        call.left.append(pivot)
        ctx.run, ctx.reader = call.run, call.reader  # not the call: it would hold the state before
        ctx.save_for_backward(pivot, *thetas)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102
        refuse_second(_CUT, _WHOLE)  # the current, which the pivot depends on, is not kept
        if not ordinary(*grads):
            raise UnsupportedNet(
                f"{_CUT}: expected the gradient of one backward pass, got one under a transform "
                f"(is_grads_batched, vmap); {_WHOLE}."
            )
        pivot, *thetas = ctx.saved_tensors
        ctx.reader.waits = graph_is_kept()  # else the next step may write over the pivot
        spent = is_nobodys(grads)  # before the call below takes hold of it
        result, sums = ctx.run.step_back(pivot, thetas, grads[0], spent)
        return None, result, *sums
