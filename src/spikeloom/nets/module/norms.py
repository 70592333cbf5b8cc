"""Batch norms: of currents that stand for several steps, and in the kernels of units."""

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
    r"""Apply a norm in training as to `copies` equal currents in one batch, and return one of them.

    Mean, variance :math:`\sigma^2`, result and gradients are those of the current alone, of n
    values per channel. The running variance moves to the unbiased one of all T copies,

    .. math:: \frac{n T}{n T - 1}\,\sigma^2,

    where torch, which sees the current once, would take :math:`n / (n - 1)`.

    Args:
        norm: torch's, or one that takes the number of copies itself.
        current: what every copy is.
        copies: T.

    Shape:
        current, result: [N, C, ...].
    """
    if not isinstance(norm, OF_TORCH):
        return norm(current, copies)
    count = current.numel() // current.shape[1]
    if count == 1:  # a variance of 0 over all copies, and over two as well
        return norm(torch.cat([current, current]))[:1]
    kept = norm.running_var
    if kept is None or not norm.track_running_stats:
        return norm(current)
    # The update is linear: another start, and a share of the way from there, give the other end.
    share = copies * (count - 1) / (copies * count - 1)
    start = kept / share
    try:
        norm.running_var = start.clone()
        out = norm(current)
        # torch's own updates leave the version alone too: backward passes do not read the values
        kept.data.add_((norm.running_var - start) * share)
    finally:
        norm.running_var = kept
    return out


def step_after_step(norm: BatchNorm, current: Tensor, steps: int) -> Tensor:
    r"""Apply a norm in training as to `steps` equal currents one after the other; return one.

    .. math:: r \leftarrow (1 - m)^T r + (1 - (1 - m)^T)\, x

    for running mean and variance with momentum m; in the plain average over all updates (no
    momentum), x counts T times.

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
    """Return mean and (biased) variance per channel as a norm takes them in training.

    Shape:
        current: [N, C, ...]; mean, variance: [C].
    """
    if not isinstance(norm, OF_TORCH):
        return norm.statistics(current)  # of all processes
    axes = [axis for axis in range(current.dim()) if axis != 1]
    return current.mean(axes), current.var(axes, unbiased=False)


def joinable(norm: nn.Module) -> bool:
    """Whether a norm is torch's own: scale and shift, statistics that it keeps, no hooks."""
    if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        return False
    kept = norm.track_running_stats and norm.running_mean is not None
    return bool(norm.affine and kept and not hooked(norm))


def norm_theta(
    norm: nn.BatchNorm1d | nn.BatchNorm2d, train: Tensor, copies: int = 1
) -> tuple[Theta, Tensor | None]:
    r"""Return with what a unit applies a norm by itself (`neurons.normed`).

    In training that is statistics of the train, which move the running ones as they do in torch.

    Args:
        norm: a joinable one.
        train: currents whose statistics belong together.
        copies: of the train, as in `over_copies`.

    Returns:
        Theta, and in training the rate :math:`1 / \sqrt{\sigma^2 + \epsilon}`.

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
    """Move running statistics towards those of a train, and return these: mean, biased variance."""
    found = moments(train)
    if found is None:
        found = torch.batch_norm_update_stats(train.flatten(0, 1), None, None, 0.0)
    mean, var = found
    count = copies * train.numel() // len(mean)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(var * (count / (count - 1)), momentum)
    return mean, var
