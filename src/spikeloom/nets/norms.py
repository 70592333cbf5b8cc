"""Batch norms that units apply themselves, in their own kernels."""

import torch
from torch import Tensor, nn

from spikeloom.kernels.moments import moments
from spikeloom.neurons.base import Theta
from spikeloom.neurons.normed import CENTRE, SCALE, SHIFT


def joinable(norm: nn.Module) -> bool:
    """Whether a norm is torch's own, with scale and shift and with statistics that it keeps."""
    known = type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d)
    return known and norm.affine and norm.running_mean is not None  # pyright: ignore


def norm_theta(norm: nn.BatchNorm1d | nn.BatchNorm2d, train: Tensor) -> tuple[Theta, Tensor | None]:
    r"""Return with what a unit applies a norm by itself (`neurons.normed`).

    In training that is statistics of the train, which move the running ones as they do in torch.

    Args:
        norm: a joinable one.
        train: currents whose statistics belong together.

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
            mean, var = _moved(mean, var, momentum, train.detach())
    view = (-1, *[1] * (train.dim() - 3))
    rate = torch.rsqrt(var + norm.eps)
    values = {CENTRE: mean, SCALE: norm.weight * rate, SHIFT: norm.bias}
    theta = {name: value.view(view) for name, value in values.items()}
    return theta, rate.view(view) if norm.training else None


def _moved(
    running_mean: Tensor, running_var: Tensor, momentum: float, train: Tensor
) -> tuple[Tensor, Tensor]:
    """Move running statistics towards those of a train, and return these: mean, biased variance."""
    found = moments(train)
    if found is None:
        flat = train.flatten(0, 1)
        return torch.batch_norm_update_stats(flat, running_mean, running_var, momentum)
    mean, var = found
    count = train.numel() // len(mean)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(var * (count / (count - 1)), momentum)
    return mean, var
