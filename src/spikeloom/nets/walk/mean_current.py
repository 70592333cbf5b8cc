"""Units whose backward pass uses their mean current (`nets.ops.MeanCurrent`)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.autograd import refuse_second
from spikeloom.kernels.runs import TrainOptions
from spikeloom.nets.how import How
from spikeloom.nets.ops import MeanCurrent, Visit
from spikeloom.neurons.base import Theta
from spikeloom.neurons.reduction import sum_over_time
from spikeloom.neurons.trains import run_train


def run_by_mean(
    sequence: MeanCurrent, visit: Visit, currents: Tensor, theta: Theta, how: How
) -> Tensor:
    """Run a unit over a train; the rule's function of the mean current gives the gradient.

    Shape:
        currents: [T, B, ...]; result: [T, B, ...], with the last two axes divided by `how.pool`.
    """
    job = _Job(sequence, visit, currents, theta, how)
    out: Tensor = _ByMean.apply(  # pyright: ignore[reportAssignmentType]
        job, currents, *theta.values()
    )
    return out


class _Job:
    """Values other than tensors that the forward pass leaves to the backward pass."""

    def __init__(
        self, sequence: MeanCurrent, visit: Visit, currents: Tensor, theta: Theta, how: How
    ) -> None:
        self.sequence, self.visit, self.how, self.names = sequence, visit, how, tuple(theta)
        self.steps, self.dtype = len(currents), currents.dtype
        self.constant = len(currents) == 1 or currents.stride(0) == 0
        self.weights = sequence.weights(visit, self.steps)
        # the gradient gets the layout of the currents: batch norms are slow with mixed layouts
        self.strides = None if self.constant else currents.stride()


class _ByMean(torch.autograd.Function):
    """Forward: the unit's spikes. Backward: the rule's function, from the saved mean current."""

    @staticmethod
    def forward(ctx: Any, job: _Job, currents: Tensor, *values: Tensor) -> Tensor:  # noqa: D102
        unit, how = job.visit.site.unit, job.how
        assert unit is not None
        theta = dict(zip(job.names, values, strict=True))
        z = currents[0] if job.constant else sum_over_time(currents, job.weights)
        ctx.job = job
        ctx.save_for_backward(z, *values)
        options = TrainOptions(how.pool, final=False)
        return run_train(unit, currents, theta, kernels=how.loop, options=options)[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: D102
        refuse_second("nets.ops.MeanCurrent", "its backward pass has no graph; use bptt")
        (grad,) = grads
        z, *values = ctx.saved_tensors
        job: _Job = ctx.job
        theta = dict(zip(job.names, values, strict=True))
        whole = sum_over_time(grad, job.weights).to(z.dtype)
        if job.how.pool > 1:  # the pool is an average: each neuron of a window gets an equal share
            whole = F.interpolate(whole / job.how.pool**2, scale_factor=job.how.pool)
        each, of_theta = job.sequence.backward(job.visit, job.steps, z, theta, whole)
        each = each.to(job.dtype).expand(job.steps, *each.shape)
        if job.strides is not None:
            like = torch.empty_strided(
                each.shape, job.strides, dtype=each.dtype, device=each.device
            )
            each = like.copy_(each)
        summed = [
            of_theta[name].sum_to_size(value.shape) if name in of_theta else None
            for name, value in theta.items()
        ]
        return None, each, *summed
