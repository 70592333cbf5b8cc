"""Batch norm whose statistics are those of the whole batch, shared between processes."""

from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.base.autograd import refuse_second
from spikeloom.nets.module.net import SpikingNet
from spikeloom.program.processes import add_up


class _WeightedSum(torch.autograd.Function):
    r"""Sum over processes, :math:`S = \sum_r x_r`.

    Process r's loss is the mean over its share and counts :math:`n_r / N`. Its gradients are
    weighted only when they are committed, so what comes back from the others,
    :math:`\sum_q n_q\, \partial L_q / \partial S`, is divided by this process's own :math:`n_r`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, samples: int) -> Tensor:
        ctx.samples = samples
        return add_up(x.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        refuse_second("train.joint_norm", "sums over processes have no graph; use one process")
        return add_up(grads[0] * ctx.samples) / ctx.samples, None


class JointNorm(nn.Module):
    r"""A batch norm's parameters and buffers, normalising by statistics over all processes.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with mean and variance over the batch and positions of every process in training, and the
    running ones, which are equal everywhere, in evaluation.

    Args:
        norm: whose parameters and buffers are used, under the same names.

    Shape:
        input, output: [N, C, ...].
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.eps, self.momentum, self.affine = norm.eps, norm.momentum, norm.affine
        self.joint = True  # one process that measures something by itself says no
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))

    def forward(self, x: Tensor, copies: int = 1) -> Tensor:
        """Normalise; the running variance counts every value `copies` times."""
        view = (1, -1, *[1] * (x.dim() - 2))
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var, count = self._sums(x)
            self._move(mean, var, count * copies)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = (wide - mean.view(view)) * torch.rsqrt(var + self.eps).view(view)
        return (wide * self.weight.view(view) + self.bias.view(view)).to(x.dtype)

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and (biased) variance over all processes; nothing moves."""
        mean, var, _ = self._sums(x)
        return mean, var

    def _sums(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return mean, variance, and the number of values per channel."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = [axis for axis in range(x.dim()) if axis != 1]
        sums = torch.cat([x.sum(axes), x.new_tensor([x.numel() // x.shape[1]])])
        total = self._add_up(sums, len(x))
        count = float(total[-1].detach())
        mean = total[:-1] / count
        from_mean = x - mean.view(1, -1, *[1] * (x.dim() - 2))
        return mean, self._add_up(from_mean.square().sum(axes), len(x)) / count, count

    @torch.no_grad()
    def _move(self, mean: Tensor, var: Tensor, count: float) -> None:
        """Move the running statistics towards those of a batch with `count` values per channel."""
        self.num_batches_tracked += 1
        rate = self.momentum
        if rate is None:
            rate = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), rate)
        self.running_var.lerp_((var * count / (count - 1)).to(self.running_var), rate)

    def _add_up(self, x: Tensor, samples: int) -> Tensor:
        if not self.joint:
            return x
        total = _WeightedSum.apply(x, samples)
        assert isinstance(total, Tensor)
        return total


def join_norms(net: SpikingNet) -> None:
    """Let every batch norm of the net take its statistics over all processes."""
    joint = {name: JointNorm(norm) for name, norm in net.plan.norms.items()}  # pyright: ignore
    for site in net.sites:
        for name, norm in net.plan.norms.items():
            if site.norm is norm:
                site.norm = joint[name]  # pyright: ignore[reportAttributeAccessIssue]
    for name, norm in joint.items():
        net.plan.norms[name] = norm
