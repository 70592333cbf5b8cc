"""Batch norms that units apply themselves, in their own kernels."""

import torch
from torch import Tensor, nn

from spikeloom.base.tracing import hooked
from spikeloom.kernels.layout import Layout
from spikeloom.kernels.moments import moments
from spikeloom.neurons.base import Theta, Unit
from spikeloom.neurons.normed import CENTRE, SCALE, SHIFT
from spikeloom.neurons.trains import compiled

_FEW = 4
"""Steps below which a norm that does not repeat along memory is cheaper before the unit."""


def joinable(norm: nn.Module) -> bool:
    """Whether a norm is torch's own: scale and shift, statistics that it keeps, no hooks."""
    if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        return False
    kept = norm.track_running_stats and norm.running_mean is not None
    return bool(norm.affine and kept and not hooked(norm))


def joins(norm: nn.BatchNorm1d | nn.BatchNorm2d, unit: Unit, currents: Tensor) -> bool:
    r"""Whether a unit's kernel can take a norm along, and gains by it.

    Args:
        norm: a joinable one.
        unit: behind its norm (`neurons.normed`).
        currents: without the norm; a single step of those that stay.

    Shape:
        currents: [T, B, C, ...].
    """
    found = compiled(unit, currents)
    if found is None or not found.rests_at_zero:  # a start that reads the current reads another
        return False
    state = torch.float64 if currents.dtype == torch.float64 else torch.float32
    held = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    if currents.dtype == torch.float16 or any(
        one.dtype != state for one in held if one is not None
    ):
        return False
    if currents.shape[0] >= _FEW:
        return True
    per_channel = norm.weight.view(-1, *[1] * (currents.dim() - 3))
    return Layout.of(currents).period([per_channel]) is not None


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
