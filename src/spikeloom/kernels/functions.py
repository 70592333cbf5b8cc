"""Autograd functions around kernels: what they save for the backward pass, and for how long."""

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
"""Computes a train once more with torch's operators.

It takes currents, thetas and first states; it returns the outputs, and the last states where they
were wanted.
"""


class TrainCall(NamedTuple):
    """Arguments of `TrainFunction` that are no tensors.

    Args:
        run: the kernels.
        thetas: number of trained quantities among the tensors; states follow them.
        options: what the caller wants.
        again: the same train with torch's operators.
    """

    run: Run
    thetas: int
    options: TrainOptions
    again: Again

    def given(self, currents: Tensor, rest: Sequence[Any]) -> Given:
        """Return the inputs of the train."""
        return Given(currents, rest[: self.thetas], rest[self.thetas :])


class StepCall(NamedTuple):
    """Arguments of `StepFunction` that autograd does not follow.

    Args:
        run: the kernels.
        before: pivot of the last step, whose buffer is used again; or the states of a first step.
        spent: see `TrainOptions`.
        reader: tells the next step whether this step's backward pass is still to come.
        left: receives the new pivot. It is no output of the function, since no gradient may pass
            through it.
    """

    run: Run
    before: Sequence[Tensor | None] | Pivot
    spent: bool
    reader: Reader
    left: list[Tensor]


class TrainFunction(torch.autograd.Function):
    r"""A whole train. It saves the currents, and nothing else that grows with T.

    The backward pass computes the states again from the currents. If the currents are spent and
    the graph is not kept, it writes their gradient over them.

    With a `rate` the last three thetas are centre :math:`\mu`, scale :math:`a` and shift :math:`b`
    of a batch norm :math:`y = a (c - \mu) + b` by the statistics of these currents: :math:`\mu` is
    their mean over n values per channel, :math:`a = \gamma r` with
    :math:`r = 1 / \sqrt{\sigma^2 + \epsilon}`. The gradient through both statistics,

    .. math:: -\frac{a r^2}{n} \frac{\partial L}{\partial a} (c - \mu)
        - \frac{a}{n} \frac{\partial L}{\partial b},

    is added to the gradient of the currents through y. It needs two sums over all currents, so the
    backward pass runs two kernels: one for the sums, then one for everything else.

    A backward pass that is itself differentiated, or gets gradients in batches, computes the train
    again with torch's operators: the results of kernels carry no graph.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any, call: TrainCall, currents: Tensor, *rest: Any
    ) -> tuple[Tensor, ...]:
        out, last = call.run.forward(call.given(currents, rest), call.options.final)
        ctx.call = call
        # Saved by autograd, not as attributes of ctx: autograd checks that they are not changed
        # before the backward pass, shows them to hooks, and frees them with the graph.
        ctx.save_for_backward(currents, *rest)
        ctx.set_materialize_grads(False)  # zeros for last states that nobody read cost time
        return out, *last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # noqa: D102
        call: TrainCall = ctx.call
        grad, *finals = grads
        currents, *rest = ctx.saved_tensors
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
    """One step whose state passes no gradient to the next; it saves the pivot, not the current.

    If nobody else holds the gradient of the output, the gradient of the current overwrites it.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any, call: StepCall, current: Tensor, *thetas: Tensor
    ) -> Tensor:
        out, pivot = call.run.step(current, thetas, call.before, call.spent)
        call.left.append(pivot)
        # not the whole call: it would keep the states before this step alive
        ctx.run, ctx.reader = call.run, call.reader
        ctx.save_for_backward(pivot, *thetas)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102
        refuse_second(_CUT, _WHOLE)  # it would need the current, which is not saved
        if not ordinary(*grads):
            raise UnsupportedNet.of(
                _CUT,
                "the gradient of one backward pass",
                "one under a transform (is_grads_batched, vmap)",
                _WHOLE,
            )
        pivot, *thetas = ctx.saved_tensors
        # After this pass the next step may overwrite the pivot, unless the graph is kept for a
        # second pass.
        ctx.reader.waits = graph_is_kept()
        # Asked before `step_back` gets the gradient: one more holder would change the answer.
        spent = is_nobodys(grads)
        result, sums = ctx.run.step_back(pivot, thetas, grads[0], spent)
        return None, result, *sums
