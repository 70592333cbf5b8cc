r"""Surrogate slopes, used in place of the derivative of the spike function.

Each is a frozen dataclass with one method, ``slope(u, v_th)``, where :math:`u = v - v_{th}`.
All but `Periodic` are even in u and have their peak at u = 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from spikeloom.base.checks import above
from spikeloom.base.fields import FAMILIES, Checked, Family
from spikeloom.base.registry import Registry
from spikeloom.neurons.peers import SURROGATE_NAMES

SURROGATES: Registry[type["Surrogate"]] = Registry("surrogate", "spikeloom.neurons", ("slope",))


@runtime_checkable
class Surrogate(Protocol):
    """A slope used in place of dH/du."""

    def slope(self, u: Tensor, v_th: Tensor | float) -> Tensor:
        """Return the slope at distance u from the threshold v_th (same unit as u)."""
        ...


FAMILIES[Surrogate] = Family(SURROGATES, ("slope",))


class Slope(Checked):
    """Base of the slopes here: all their numbers must be finite and above 0."""

    renamed: ClassVar[Mapping[str, str]] = SURROGATE_NAMES

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in vars(self).items():
            if not isinstance(value, bool):
                self.expect_in(name, above(0))


@SURROGATES.register("triangle")
@dataclass(frozen=True)
class Triangle(Slope):
    r"""Piecewise-linear slope.

    .. math:: \gamma \max(0, 1 - |u| / w), \qquad w = width \cdot v_{th}

    With ``relative=False`` the half-width is `width` itself, in the unit of v.

    Args:
        gamma: peak.
        width: half-width of the support, in thresholds (or in the unit of v).
        relative: measure the width in thresholds.

    Source:
        Panda et al. 2020, eq. 4 (gamma = 0.3, relative); SLTT's code (gamma = 1, absolute).
    """

    gamma: float = 0.3
    width: float = 1.0
    relative: bool = True

    def slope(self, u: Tensor, v_th: Tensor | float) -> Tensor:
        """Return the slope at u."""
        width = self.width * v_th if self.relative else self.width
        return (1 - u.abs() / width).clamp_(min=0).mul_(self.gamma)


@SURROGATES.register("rectangle")
@dataclass(frozen=True)
class Rectangle(Slope):
    r"""Box: a constant height near the threshold, else 0.

    .. math:: height \cdot [\, 2 |u| \le width \,]

    Source:
        SLTT's code (width = height = 1).
    """

    width: float = 1.0
    height: float = 1.0

    def slope(self, u: Tensor, v_th: Tensor | float) -> Tensor:
        """Return the slope at u."""
        return (u.abs() <= self.width / 2).to(u.dtype) * self.height


@SURROGATES.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Slope):
    r"""Derivative of a logistic function; peak k / 4.

    .. math:: k\,\sigma(ku)\,(1 - \sigma(ku))

    Source:
        OTTT's code (k = 4).
    """

    k: float = 4.0

    def slope(self, u: Tensor, v_th: Tensor | float) -> Tensor:
        """Return the slope at u."""
        half = (u * self.k).sigmoid_()
        return torch.addcmul(half, half, half, value=-1).mul_(self.k)  # k (h - h^2)


@SURROGATES.register("arctan")
@dataclass(frozen=True)
class Arctan(Slope):
    r"""Derivative of a scaled arctangent; peak a / 2.

    .. math:: \frac{a/2}{1 + (\frac{\pi}{2} a u)^2}

    Source:
        Fang et al. 2021 (SEW-ResNet code, a = 2: peak 1).
    """

    a: float = 2.0

    def slope(self, u: Tensor, v_th: Tensor | float) -> Tensor:
        """Return the slope at u."""
        return (u * (math.pi / 2 * self.a)).square_().add_(1).reciprocal_().mul_(self.a / 2)


@SURROGATES.register("fast_sigmoid")
@dataclass(frozen=True)
class FastSigmoid(Slope):
    r"""Derivative of a fast sigmoid; peak h.

    .. math:: h\,(1 + k|u|)^{-2}

    Source:
        Zenke & Ganguli 2018 (SuperSpike), h = 1.
    """

    k: float = 25.0
    height: float = 1.0

    def slope(self, u: Tensor, v_th: Tensor | float) -> Tensor:
        """Return the slope at u."""
        return u.abs().mul_(self.k).add_(1).pow_(-2).mul_(self.height)


@SURROGATES.register("exponential")
@dataclass(frozen=True)
class Exponential(Slope):
    r"""Exponential decay on both sides of the threshold; peak h.

    .. math:: h\,e^{-k|u|}

    Source:
        Shrestha & Orchard 2018 (SLAYER) for the form.
    """

    k: float = 5.0
    height: float = 1.0

    def slope(self, u: Tensor, v_th: Tensor | float) -> Tensor:
        """Return the slope at u."""
        return u.abs().mul_(-self.k).exp_().mul_(self.height)


@SURROGATES.register("periodic")
@dataclass(frozen=True)
class Periodic(Checked):
    r"""A slope around every multiple of the threshold, for units with several spikes per step.

    .. math:: base.slope(d), \qquad d = u - v_{th} \max(0, \lfloor u / v_{th} + 1/2 \rfloor)

    d is the distance from the nearest of the thresholds :math:`v_{th}, 2 v_{th}, \ldots`

    Args:
        base: the slope around each of them.

    Source:
        Weidel & Sheik 2021 (WaveSense); `PeriodicExponential` of sinabs.
    """

    base: Surrogate = field(default_factory=Exponential)

    renamed: ClassVar[Mapping[str, str]] = SURROGATE_NAMES

    def slope(self, u: Tensor, v_th: Tensor | float) -> Tensor:
        """Return the slope at u."""
        passed = (u / v_th + 0.5).floor().clamp(min=0)
        return self.base.slope(u - v_th * passed, v_th)
