"""Batch norms of currents that stand for several equal steps, and norms inside unit kernels."""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from spikeloom.base.torch_private import hooked
from spikeloom.kernels.moments import moments
from spikeloom.neurons.base import Theta
from spikeloom.neurons.normed import CENTRE, SCALE, SHIFT

OF_TORCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d


def over_copies(norm: BatchNorm, current: Tensor, copies: int) -> Tensor:
    r"""Apply a norm in training to `copies` equal currents in one batch; return one result.

    The copies are not made. With n values per channel, mean, variance :math:`\sigma^2`, result and
    gradients are those of a single copy. The running variance, however, is updated with the
    unbiased variance of all T copies,

    .. math:: \frac{n T}{n T - 1}\,\sigma^2,

    while torch, which sees one copy, would use :math:`n / (n - 1)`.

    Args:
        norm: a norm of torch, or one of ours that accepts the number of copies.
        current: one copy.
        copies: number of copies, T.

    Shape:
        current, result: [N, C, ...].
    """
    if not isinstance(norm, OF_TORCH):
        return norm(current, copies)
    count = current.numel() // current.shape[1]
    if count == 1:  # torch refuses a single value; the variance is 0 over two copies as over T
        return norm(torch.cat([current, current]))[:1]
    kept = norm.running_var
    if kept is None or not norm.track_running_stats:
        return norm(current)
    # The update is r <- (1 - m) r + m v, linear in r and in torch's variance v. Torch starts from
    # r / share here; share times the change is then the update that v * share would give.
    share = copies * (count - 1) / (copies * count - 1)
    start = kept / share
    try:
        norm.running_var = start.clone()
        out = norm(current)
        # `.data`: no new version, as in torch's own update; backward passes do not read the values
        kept.data.add_((norm.running_var - start) * share)
    finally:
        norm.running_var = kept
    return out


def step_after_step(norm: BatchNorm, current: Tensor, steps: int) -> Tensor:
    r"""Apply a norm in training to `steps` equal currents one after another; return one result.

    .. math:: r \leftarrow (1 - m)^T r + (1 - (1 - m)^T)\, x

    r is the running mean or variance, x that of the current, m the momentum. With momentum None
    (average over all updates) x counts T times.

    Shape:
        current, result: [N, C, ...].
    """
    momentum, tracked = norm.momentum, norm.num_batches_tracked
    if tracked is None or not getattr(norm, "track_running_stats", True):
        return norm(current)
    if momentum is None:
        norm.momentum = steps / (float(tracked) + steps)
    else:
        norm.momentum = 1 - (1 - momentum) ** steps
    try:
        return norm(current)
    finally:
        norm.momentum = momentum
        tracked += steps - 1


def statistics(norm: BatchNorm, current: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance per channel, as the norm computes them in training.

    Shape:
        current: [N, C, ...]; mean, variance: [C].
    """
    if not isinstance(norm, OF_TORCH):
        return norm.statistics(current)  # over all processes
    axes = [axis for axis in range(current.dim()) if axis != 1]
    return current.mean(axes), current.var(axes, unbiased=False)


def joinable(norm: nn.Module) -> bool:
    """Whether a kernel may apply a norm: a torch norm, affine, running statistics, no hooks."""
    if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        return False
    kept = norm.track_running_stats and norm.running_mean is not None
    return bool(norm.affine and kept and not hooked(norm))


def norm_theta(
    norm: nn.BatchNorm1d | nn.BatchNorm2d, train: Tensor, copies: int = 1
) -> tuple[Theta, Tensor | None]:
    r"""Return the quantities with which a unit's kernel applies a norm (`neurons.normed`).

    In training they come from the statistics of the train, and the running statistics are updated
    as in torch.

    Args:
        norm: a norm for which `joinable` is true.
        train: currents over which the statistics are taken.
        copies: number of times the train counts, as in `over_copies`.

    Returns:
        The quantities by name, and in training :math:`1 / \sqrt{\sigma^2 + \epsilon}`, else None.

    Shape:
        train: [T, B, C, ...]; theta, rate: [C, 1, ...].
    """
    mean, var, tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None and var is not None and tracked is not None
    if norm.training:
        with torch.no_grad():
            tracked += 1
            momentum = 1 / float(tracked) if norm.momentum is None else norm.momentum
            mean, var = _moved(mean, var, momentum, train.detach(), copies)
    view = (-1, *[1] * (train.dim() - 3))
    rate = torch.rsqrt(var + norm.eps)
    values = {CENTRE: mean, SCALE: norm.weight * rate, SHIFT: norm.bias}
    theta = {name: value.view(view) for name, value in values.items()}
    return theta, rate.view(view) if norm.training else None


def _moved(
    running_mean: Tensor, running_var: Tensor, momentum: float, train: Tensor, copies: int
) -> tuple[Tensor, Tensor]:
    """Update running statistics with those of a train; return its mean and biased variance."""
    found = moments(train)
    if found is None:
        found = torch.batch_norm_update_stats(train.flatten(0, 1), None, None, 0.0)
    mean, var = found
    count = copies * train.numel() // len(mean)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(var * (count / (count - 1)), momentum)
    return mean, var
