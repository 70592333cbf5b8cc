"""A unit behind a batch norm whose centre, scale and shift are quantities of the unit."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeloom.neurons.base import State, Theta, Unit

CENTRE, SCALE, SHIFT = "norm_centre", "norm_scale", "norm_shift"


@dataclass(frozen=True)
class Normed:
    r"""A unit with a normalised current.

    .. math:: (s[t], v[t]) = step\big(v[t-1],\; a (c[t] - \mu) + b;\; \theta\big)

    One compiled kernel computes both, so normalised currents are never stored. Its theta is that of
    the unit, with :math:`\mu` ("norm_centre"), a ("norm_scale") and b ("norm_shift") added. The
    centre gets no gradient; `through_statistics` adds the gradient through the statistics.

    Args:
        unit: the equation.

    Example:
        >>> import torch
        >>> from spikeloom.neurons.integrate_fire import IF
        >>> norm = {"norm_centre": 1.0, "norm_scale": 2.0, "norm_shift": 0.25}
        >>> theta = {name: torch.tensor(value) for name, value in norm.items()}
        >>> unit, current = Normed(IF()), torch.tensor([1.25])
        >>> unit.step(unit.init(current), current, theta)[1].v.item()
        0.75
    """

    unit: Unit
    stateful: ClassVar[bool] = True
    per_channel = True

    @property
    def spiking(self) -> bool:
        """Whether outputs are spikes."""
        return self.unit.spiking

    @property
    def learn(self) -> tuple[str, ...]:
        """Names of the quantities: the unit's own, then the norm's."""
        return (*self.unit.learn, CENTRE, SCALE, SHIFT)

    def init(self, current: Tensor) -> State:
        """Return the unit's state before the first step."""
        return self.unit.init(current)

    def step(self, state: State, current: Tensor, theta: Theta) -> tuple[Tensor, State]:
        """Advance the unit by one step.

        Shape:
            current, output: [B, ...]; values of theta broadcast against it.
        """
        return self.unit.step(state, self._normalised(current, theta), theta)

    def rate(self, current: Tensor, theta: Theta) -> Tensor:
        """Return the unit's steady rate under a constant current."""
        return self.unit.rate(self._normalised(current, theta), theta)

    @staticmethod
    def _normalised(current: Tensor, theta: Theta) -> Tensor:
        return (current - theta[CENTRE].detach()) * theta[SCALE] + theta[SHIFT]


def through_statistics(currents: Tensor, theta: Theta, rate: Tensor) -> Theta:
    r"""Connect the theta of a norm to the statistics of its currents, for their gradient.

    The values stay as they are. With mean :math:`\mu` and variance :math:`\sigma^2` per channel,

    .. math::
        \frac{\partial a}{\partial \sigma^2} = -\frac{a r^2}{2}, \quad
        \frac{\partial (a (c - \mu) + b)}{\partial \mu} = -a,

    also for second derivatives.

    Args:
        currents: whose mean and variance `theta` was computed from.
        theta: of a `Normed` unit.
        rate: :math:`r = 1 / \sqrt{\sigma^2 + \epsilon}`.

    Shape:
        currents: [T, B, C, ...]; rate: [C, 1, ...].
    """
    axes = [axis for axis in range(currents.dim()) if axis != 2]
    wide = currents.to(rate.dtype)
    var, mean = (one.view_as(rate) for one in torch.var_mean(wide, axes, correction=0))
    now = torch.rsqrt(var - var.detach() + rate.detach().pow(-2))
    scale = theta[SCALE] * (now / now.detach())
    shift = theta[SHIFT] - scale * (mean - mean.detach())
    return {**theta, SCALE: scale, SHIFT: shift}
