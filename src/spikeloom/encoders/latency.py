"""Latency code: one spike per value, brighter is earlier."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from spikeloom.base.checks import above, within
from spikeloom.base.errors import DataError
from spikeloom.base.fields import Checked
from spikeloom.base.seeding import Rng
from spikeloom.base.types import InputKind, Values
from spikeloom.encoders.base import ENCODERS, Encoder, check_call

Curve: TypeAlias = Literal["linear", "log", "rc"]


@ENCODERS.register("latency")
@dataclass(frozen=True)
class Latency(Checked, Encoder):
    r"""Time to first spike.

    Each value fires once, at step :math:`\min(\operatorname{round}(t_f), T - 1)`, with

    .. math::
        \text{linear:}\quad t_f &= (T - 1)(1 - x) \\
        \text{log:}\quad t_f &= (T - 1) - \ln(a x + 1), \qquad a = e^{T-1} - 1 \\
        \text{rc:}\quad t_f &= \tau \ln \frac{x}{x - \theta} \quad (x > \theta),
        \qquad \text{else } T - 1

    where "rc" is the time at which a leaky integrator under current x reaches the cutoff
    :math:`\theta`. "linear" and "log" run from T - 1 at x = 0 to 0 at x = 1. Times are computed in
    float64 and rounded half to even. T < 256 merges grey levels of 8-bit images.

    Args:
        curve: "linear", "log" or "rc".
        cutoff: threshold of the integrator, in (0, 1); read by "rc" only.
        tau: time constant of the integrator in steps, above 0; read by "rc" only.
        silent_below: values up to and including this one never fire, in [0, 1); None lets every
            value fire, black at the last step.

    Raises:
        ConfigError: a field out of range.

    Source:
        "linear" and "log": LatencyEncoder of SpikingJelly (its docstring swaps the ends of "log");
        "rc": snnTorch's latency code. Silence for x = 0 is ours.

    Example:
        >>> xs = Latency().encode(torch.tensor([[0.0, 0.5, 1.0]]), 3, torch.Generator())
        >>> xs[:, 0].tolist()
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """

    curve: Curve = "linear"
    cutoff: Annotated[float, within(0, 1, "()")] = 0.01
    tau: Annotated[float, above(0)] = 1.0
    silent_below: Annotated[float, within(0, 1, "[)")] | None = 0.0
    about: ClassVar[str] = "one spike per value, brighter is earlier; inputs in [0, 1]"
    called: ClassVar[str] = "encoders.latency"

    def encode(self, x: Tensor, steps: int, rng: Rng) -> Tensor:
        """Place the one spike of every value.

        Shape:
            x: [B, ...], in [0, 1]; result: [T, B, ...].

        Raises:
            ConfigError: steps below 1.
            ShapeError: x has no batch dimension or is no float tensor.
            DataError: a value outside [0, 1].
        """
        check_call("encoders.latency", x, steps)
        self.check(x)
        fires = torch.ones_like(x) if self.silent_below is None else (x > self.silent_below).to(x)
        train = x.new_zeros((steps, *x.shape))  # [T, B, ...]
        return train.scatter_(0, self.times(x, steps).unsqueeze(0), fires.unsqueeze(0))

    def check(self, x: Tensor) -> None:
        """Refuse values outside [0, 1].

        Shape:
            x: [B, ...].

        Raises:
            DataError: a value is outside.
        """
        inside = (x >= 0) & (x <= 1)  # False for NaN as well
        if not bool(inside.all()):
            raise DataError.of(
                "encoders.latency",
                "x in [0, 1]",
                f"{x[~inside][0].item():.6g}",
                "set data.scale to the largest stored value and normalise = false",
            )

    def gives(self, values: Values) -> InputKind:
        """Return "events"."""
        return "events"

    def times(self, x: Tensor, steps: int) -> Tensor:
        """Return the step at which each value would fire, silent ones included.

        Shape:
            x: any, in [0, 1]; result: as x, int64 in [0, steps - 1].
        """
        last = steps - 1
        x = x.double()
        if self.curve == "linear":
            t = last * (1 - x)
        elif self.curve == "log":
            # ln(a x + 1) = T - 1 + ln(x + e^(1-T) (1 - x)): no e^(T-1), which overflows.
            t = -torch.logaddexp(x.log(), torch.log1p(-x) - last)
        else:
            reached = -self.tau * torch.log1p(-self.cutoff / x)
            t = torch.where(x > self.cutoff, reached, last)
        return t.round().clamp(0, last).long()
