"""Integrate-and-fire neurons without leak, and the step that all spiking units here share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from spikeloom.base.checks import above, within
from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.fields import Checked
from spikeloom.neurons.base import UNITS, Theta, state_full, state_zeros
from spikeloom.neurons.declared import DRIVE, NoRateClamp, Outputs, RateClamp, StepOperations
from spikeloom.neurons.peers import UNIT_NAMES
from spikeloom.neurons.spike import spike
from spikeloom.neurons.steady import steady_rate
from spikeloom.neurons.surrogate import Surrogate, Triangle

Reset = Literal["soft", "hard", "none"]

ONE_SPIKE = "at most one spike per step"
"""A `RateClamp` clamps the rate at 1."""

NO_BOUND = "no lower bound of the potential"
"""A bound removes charge, so the rate no longer follows from the mean current."""


class SpikingState(NamedTuple):
    """State of a spiking neuron between two steps; parts that a unit does not need are None.

    Shape:
        all: [B, ...], as the current.
    """

    v: Tensor
    """Potential after the reset (order "after_fire") or before it ("next_step")."""
    s: Tensor | None
    """Spikes of the last step, for order "next_step"."""
    i: Tensor | None
    """Synaptic current, where beta > 0."""
    wait: Tensor | None
    """Refractory steps left."""


@UNITS.register("if")
@dataclass(frozen=True)
class IF(Checked):
    r"""Integrate-and-fire neuron.

    With decay :math:`\alpha = 1` (`LIF` sets another), input :math:`c[t]` and, where ``beta > 0``,
    synaptic current :math:`i[t] = \beta i[t-1] + c[t]` (else :math:`i = c`), order "after_fire" is

    .. math::
        u[t] = \alpha v[t-1] + i[t], \quad s[t] = H(u[t] - f v_{th}), \quad
        v[t] = u[t] - v_{th} s[t],

    and order "next_step" applies decay and reset to the same old potential:

    .. math:: v[t] = \alpha v[t-1] - v_{th} s[t-1] + i[t], \quad s[t] = H(v[t] - f v_{th}).

    A hard reset replaces the fired potential by v_reset (where "next_step": the decayed fired
    potential), reset "none" leaves it. The first step starts at :math:`v[0] = v_{init}`, i = 0 and
    s = 0.

    With `max_spikes` other than 1 a neuron can fire several times in a step:

    .. math:: s[t] = clamp(\lfloor u[t] / v_{th} - f \rfloor + 1, 0, max\_spikes),

    With `v_min` the potential after a step is :math:`\max(v[t], v_{min})`, without gradient where
    the bound is reached.

    Args:
        v_th: threshold, and the amount a soft reset subtracts; above 0.
        reset: "soft" subtracts v_th, "hard" sets v_reset, "none" does nothing.
        order: "after_fire" (OTTT, SLTT, IDE) or "next_step" (Panda eq. 2-3).
        fires: ">=" fires at the level, ">" only above it.
        fire_fraction: firing level in thresholds (DSR's alpha); the amount subtracted stays v_th.
        detach_reset: the reset carries no gradient.
        v_reset: potential after a hard reset.
        refractory: steps after a spike in which input is ignored and nothing fires; leak goes on.
        beta: decay of the synaptic current per step, in [0, 1); 0 means no synaptic current.
        scale_current: multiply the input of the synaptic current by 1 - beta.
        surrogate: slope used in place of the derivative of H.
        learn: trained quantities, from {"v_th"} (LIF: also "alpha").
        per_channel: one trained value per channel instead of one per population.
        v_th_min: lower bound of a trained v_th, kept by `Neuron.project`.
        max_spikes: largest number of spikes per step; None for no bound. Values other than 1 need a
            soft reset, no refractory steps and a fixed v_th; `Periodic` is a surrogate for them.
        v_min: lower bound of the potential after a step, 0 or less; None for no bound.
        v_init: potential before the first step, in the unit of v_th, at least v_min. With half a
            threshold the spike count of IF is rounded to the nearest integer, with 0 it is rounded
            down.

    Raises:
        ConfigError: a field out of range, or fields that exclude each other.

    Source:
        Panda et al. 2020, sec. 3.1; Xiao et al. 2022 and Meng et al. 2023 (code) for "after_fire";
        Weidel & Sheik 2021 and sinabs for `max_spikes`, sinabs for `v_min`; Bu et al. 2022
        ("Optimized potential initialization") for `v_init`.

    Example:
        >>> unit = IF()
        >>> s, state = unit.step(unit.init(torch.zeros(1)), torch.tensor([1.5]), {})
        >>> s.item(), state.v.item()
        (1.0, 0.5)
    """

    v_th: Annotated[float, above(0, "a threshold")] = 1.0
    reset: Reset = "soft"
    order: Literal["after_fire", "next_step"] = "after_fire"
    fires: Literal[">=", ">"] = ">="
    fire_fraction: Annotated[float, above(0, "a fraction")] = 1.0
    detach_reset: bool = False
    v_reset: float = 0.0
    refractory: int = 0
    beta: Annotated[float, within(0, 1, "[)", "a decay")] = 0.0
    scale_current: bool = False
    surrogate: Surrogate = field(default_factory=Triangle)
    learn: tuple[str, ...] = ()
    per_channel: bool = False
    v_th_min: float = 1e-3
    max_spikes: int | None = 1
    v_min: float | None = None
    v_init: float = 0.0

    spiking: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    learnable: ClassVar[tuple[str, ...]] = ("v_th",)
    renamed: ClassVar[Mapping[str, str]] = UNIT_NAMES
    alpha: ClassVar[float] = 1.0
    scale_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect("v_th_min", 0 < self.v_th_min <= self.v_th, "a bound in (0, v_th]")
        self.expect("refractory", self.refractory >= 0, "a number of steps, 0 or more")
        known = set(self.learnable)
        self.expect("learn", set(self.learn) <= known, f"names from {sorted(known)}")
        self.expect("learn", len(set(self.learn)) == len(self.learn), "each name once")
        lowest = self.v_min is None or self.v_min <= min(0, self.v_reset)
        self.expect("v_min", lowest, "a bound at most 0 and v_reset, or None")
        reached = self.v_min is None or self.v_init >= self.v_min
        self.expect("v_init", reached, f"a potential of v_min = {self.v_min} or more")
        if self.max_spikes != 1:
            self._check_many()

    def _check_many(self) -> None:
        """Refuse fields that have no meaning with several spikes per step."""
        good = self.max_spikes is None or self.max_spikes > 1
        self.expect("max_spikes", good, "1 or more, or None")
        where = f" where max_spikes is {self.max_spikes}"
        self.expect("reset", self.reset == "soft", f"soft{where}")
        self.expect("refractory", self.refractory == 0, f"no steps{where}")
        self.expect("learn", "v_th" not in self.learn, f"a fixed v_th{where}")

    def _todo(self, name: str, value: object) -> str | None:
        if isinstance(value, nn.Parameter) and name in self.learnable:
            return f'to train it give its start as a number and learn = ("{name}",)'
        if name == "v_reset" and value is None:
            return 'write reset = "soft" for a reset that subtracts the threshold'
        return None

    @property
    def trace_decay(self) -> float | None:
        """Decay of the memory: alpha; None if alpha is trained or there is a synaptic current."""
        return None if self.beta or "alpha" in self.learn else self.alpha

    @property
    def rate_clamp(self) -> RateClamp | NoRateClamp:
        """The clamp that the rate is, or the field that makes it something else."""
        if self.reset != "soft" or self.order != "after_fire":
            return NoRateClamp("a soft reset right after the spike", f"{self.reset}, {self.order}")
        if self.refractory or self.beta:
            return NoRateClamp("no refractory steps and no synaptic current", "some")
        if self.max_spikes != 1:
            return NoRateClamp(ONE_SPIKE, f"max_spikes = {self.max_spikes}")
        if self.v_min is not None:
            return NoRateClamp(NO_BOUND, f"v_min = {self.v_min}")
        if "alpha" in self.learn or self.alpha == 0:
            return NoRateClamp("a fixed decay above 0", "a trained one" if self.alpha else "0")
        scale = 1 - self.alpha if self.scale_input else 1.0
        if scale == 0:
            return NoRateClamp("a decay below 1 beside scale_input", f"alpha = {self.alpha}")
        return RateClamp(scale, self.fire_fraction)

    @property
    def firing_drive(self) -> float:
        r"""Drive :math:`(3 - \alpha) v_{th}`, over :math:`1 - \alpha` where the input is scaled."""
        drive = (DRIVE - self.alpha) * self.v_th
        return drive / max(1 - self.alpha, 1e-3) if self.scale_input else drive

    @property
    def outputs(self) -> Outputs:
        """Numbers of spikes: 0 to max_spikes."""
        return Outputs(0, self.max_spikes)

    @property
    def step_operations(self) -> StepOperations:
        """At least one addition and one comparison.

        A leak, a synaptic current and `max_spikes` other than 1 (a division) add one
        multiply-accumulate each; a lower bound of the potential adds one comparison.
        """
        leaks = "alpha" in self.learn or self.alpha != 1
        multiplies = int(leaks) + bool(self.beta) + (self.max_spikes != 1)
        return StepOperations(multiplies, adds=1, compares=1 + (self.v_min is not None))

    @property
    def trained_bounds(self) -> Mapping[str, tuple[float, float]]:
        """A trained threshold stays at v_th_min or above."""
        return {"v_th": (self.v_th_min, math.inf)}

    def firing_threshold(self, theta: Theta) -> Tensor | float:
        """Return v_th, which a soft reset subtracts."""
        return theta.get("v_th", self.v_th)

    def firing_level(self, theta: Theta) -> Tensor | float:
        """Return the potential at which a neuron fires."""
        return self.fire_fraction * self.firing_threshold(theta)

    def most_firings(self, steps: int) -> int:
        """Return the largest number of steps out of `steps` in which a neuron can fire."""
        return -(-steps // (1 + self.refractory))

    def init(self, current: Tensor) -> SpikingState:
        """Return the state before the first step: v = v_init, no current, not refractory."""
        zeros = state_zeros(current)
        return SpikingState(
            v=state_full(current, self.v_init) if self.v_init else zeros,
            s=zeros if self.order == "next_step" else None,
            i=zeros if self.beta else None,
            wait=zeros if self.refractory else None,
        )

    def step(
        self, state: SpikingState, current: Tensor, theta: Theta
    ) -> tuple[Tensor, SpikingState]:
        """Advance one step.

        Shape:
            current, spikes: [B, ...]; values of theta broadcast against it.

        Raises:
            ShapeError: the state belongs to another shape.
        """
        v_th = theta.get("v_th", self.v_th)
        i, u = self._charge(state, current, theta)
        s = spike(
            u - self.fire_fraction * v_th,
            self.surrogate,
            v_th=v_th,
            strict=self.fires == ">",
            most=self.max_spikes,
        )
        wait = state.wait
        if wait is not None:
            s = s * (wait == 0)
            wait = torch.where(s > 0, float(self.refractory), (wait - 1).clamp(min=0)).detach()
        if self.order == "next_step":
            return s, SpikingState(self._bounded(u), s, i, wait)
        return s, SpikingState(self._bounded(self._reset(u, s, v_th)), None, i, wait)

    def charged(self, state: SpikingState, current: Tensor, theta: Theta) -> Tensor:
        """Return the potential that `step` compares with the firing level, before any reset.

        Shape:
            current, result: [B, ...].

        Raises:
            ShapeError: the state belongs to another shape.
        """
        return self._charge(state, current, theta)[1]

    def _charge(
        self, state: SpikingState, current: Tensor, theta: Theta
    ) -> tuple[Tensor | None, Tensor]:
        """Return the new synaptic current (or None) and the potential before firing."""
        if state.v.shape != current.shape:
            raise ShapeError.of(
                f"neurons.{type(self).__name__}",
                f"a current shaped as the carried state, {tuple(state.v.shape)}",
                tuple(current.shape),
                "start with a fresh state",
            )
        alpha = theta.get("alpha", self.alpha)
        i, drive = self._drive(state, current, alpha)
        if state.s is None:
            return i, _leak(state.v, alpha, drive)
        v_th = theta.get("v_th", self.v_th)
        return i, self._reset(alpha * state.v, state.s, v_th) + drive

    def _drive(
        self, state: SpikingState, current: Tensor, alpha: Tensor | float
    ) -> tuple[Tensor | None, Tensor]:
        """Return the new synaptic current (or None) and what is added to the potential."""
        i, drive = None, current
        if state.i is not None:
            i = self.beta * state.i + ((1 - self.beta) if self.scale_current else 1) * current
            drive = i
        if self.scale_input:
            drive = (1 - alpha) * drive
        if state.wait is not None:
            drive = drive * (state.wait == 0)
        return i, drive

    def _reset(self, v: Tensor, s: Tensor, v_th: Tensor | float) -> Tensor:
        if self.detach_reset:
            s = s.detach()
        if self.reset == "soft":
            return v - v_th * s if isinstance(v_th, Tensor) else torch.sub(v, s, alpha=v_th)
        if self.reset == "hard":
            kept = v * (1 - s)
            return kept + self.v_reset * s if self.v_reset else kept
        return v

    def _bounded(self, v: Tensor) -> Tensor:
        if self.v_min is None:
            return v
        return torch.where(v <= self.v_min, self.v_min, v)  # NaN stays NaN

    def rate(self, current: Tensor, theta: Theta) -> Tensor:
        r"""Return the steady firing rate under a constant current c.

        It is `neurons.steady.steady_rate` of :math:`x = c / v_{th}`, with x multiplied by
        :math:`1 - \alpha` (scale_input) and by :math:`1 / (1 - \beta)` (beta without
        scale_current). v_init does not change it. With a soft reset,
        :math:`r = clamp(x, 0, max\_spikes)`:

        - For IF, r is the limit of the spike count over T; the error at T is at most
          :math:`(\max(1, f) + |v_{init}| / v_{th}) / T`.
        - For LIF with order "after_fire", r is the limit of the rate weighted by
          :math:`\alpha^{T-t}`; the error at T is at most
          :math:`|v[T] - \alpha^T v_{init}| / (v_{th} \sum_t \alpha^{T-t})`. With "next_step" the
          reset comes after the decay, and the neuron fires less.

        With a hard reset a simulated neuron fires every :math:`\lceil 1 / r \rceil` steps.

        Shape:
            current, result: [B, ...].

        Raises:
            ConfigError: a hard reset to another potential than 0 has no closed form here.
        """
        v_th = theta.get("v_th", self.v_th)
        alpha = theta.get("alpha", self.alpha)
        x = current / v_th
        if self.beta and not self.scale_current:
            x = x / (1 - self.beta)
        if self.scale_input:
            x = x * (1 - alpha)
        if self.reset == "hard" and self.v_reset:
            raise ConfigError.of(
                f"neurons.{type(self).__name__}.rate",
                "v_reset = 0 for a hard reset",
                self.v_reset,
                "no closed form is implemented, simulate instead",
            )
        return steady_rate(
            x,
            alpha,
            reset=self.reset,
            level=self.fire_fraction,
            most=self.max_spikes,
            refractory=self.refractory,
        )


def _leak(v: Tensor, alpha: Tensor | float, drive: Tensor) -> Tensor:
    """Return alpha v + drive; with a plain number alpha in a single pass over memory."""
    return alpha * v + drive if isinstance(alpha, Tensor) else torch.add(drive, v, alpha=alpha)
