"""Closed forms of the steady firing rate under a constant current."""

from typing import Literal

import torch
from torch import Tensor


def steady_rate(
    x: Tensor,
    alpha: Tensor | float,
    *,
    reset: Literal["soft", "hard", "none"],
    level: float,
    most: int | None,
    refractory: int,
) -> Tensor:
    r"""Return the spikes per step of an integrate-and-fire neuron, in the limit of many steps.

    - soft reset: :math:`r = clamp(x, 0, most)`
    - hard reset to 0: :math:`r = 1 / n` with :math:`n = \ln(1 - f (1-\alpha)/x) / \ln\alpha`
      (:math:`\alpha = 1`: :math:`n = f / x`)
    - no reset: 1 if the potential settles at or above the level, else 0

    with :math:`n_{ref}` refractory steps :math:`r / (1 + n_{ref} r)`.

    Args:
        x: potential that one step adds, in thresholds.
        alpha: decay of the potential per step.
        reset: after a spike.
        level: f, the potential at which a neuron fires, in thresholds.
        most: largest number of spikes per step; None for no bound.
        refractory: number of steps after a spike in which a neuron cannot fire.

    Shape:
        x, result: [B, ...]; alpha broadcasts against it.

    Source:
        Xiao et al. 2021 (IDE), Meng et al. 2022 (DSR) for the soft reset.
    """
    if reset == "soft":
        r = x.clamp(0, most)
    elif reset == "hard":
        r = _hard(x, alpha, level)
    else:
        leak = torch.as_tensor(1 - alpha, dtype=x.dtype, device=x.device)
        r = ((x >= level * leak) & (x > 0)).to(x.dtype)
    return r / (1 + refractory * r) if refractory else r


def _hard(x: Tensor, alpha: Tensor | float, f: float) -> Tensor:
    if not isinstance(alpha, Tensor) and alpha == 1:
        return (x / f).clamp(0, 1)
    leak = torch.as_tensor(1 - alpha, dtype=x.dtype, device=x.device)
    level = f * leak
    reaches = x > level
    ratio = level / torch.where(
        reaches, x, 2 * level
    )  # 2 level where r = 0: a finite dummy, so that no gradient is NaN
    steps = torch.log1p(-ratio) / torch.log1p(-leak)
    return torch.where(reaches, 1 / steps.clamp(min=1), torch.zeros_like(x))
