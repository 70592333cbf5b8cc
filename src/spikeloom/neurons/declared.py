r"""What a unit declares of its own equation, beyond `init` and `step`, and the one way to read it.

A declaration is an attribute, property or method of the class that defines `step`, or of one
derived from it that keeps this `step` (`neurons.base.declares`). None of them has a default: what
is not declared is not known, whatever other names a unit has. Who needs one refuses units without
it, by name; a figure that goes on without one says how.

====================  ============================================================  =============
declaration           meaning                                                       needed by
====================  ============================================================  =============
``trace_decay``       :math:`\lambda` in [0, 1]: factor per step by which all that  OTTT, DSR,
                      a unit remembers of an input fades; None: no fixed number     IDE, SPIDE,
                                                                                    settling
``rate_clamp``        `RateClamp`, or `NoRateClamp` with the reason                 DSR, IDE,
                                                                                    SPIDE
``rate(current,       steady output rate under a constant current                   IDE, SPIDE,
theta)``                                                                            settling
``firing_threshold    :math:`v_{th}` above 0: the potential that a spike stands     DSR, IDE,
(theta)``             for, which a soft reset subtracts                             SPIDE,
                                                                                    amplitude
``charged(state,      potential u that `step` compares with the firing level,       traces of
current, theta)``     before any reset                                              potentials
``firing_level        the potential at which a neuron fires                         traces of
(theta)``                                                                           potentials
``firing_drive``      k above 0: standard deviation of the weights, times the root  initial
                      of the fan-in, with which populations fire                    weights
``most_firings        steps with an output other than 0, of so many steps, at most  share of
(steps)``                                                                           full neurons
``outputs``           `Outputs`: the values that an output can take                 share of full
                                                                                    neurons, joins
``step_operations``   `StepOperations` per neuron and step                          energy
``trained_bounds``    lowest and highest value of each trained quantity, by name    `project`
====================  ============================================================  =============

`theta` holds the trained quantities under the names that the unit gives them in `learn`; it may be
empty, which means the unit's constants.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.base.fields import Checked, conform
from spikeloom.neurons.base import State, Theta, Unit, declares

T = TypeVar("T")

DRIVE = 3.0
"""`firing_drive` in thresholds of neurons that forget at once; those that keep all need 1 less."""


@dataclass(frozen=True)
class RateClamp(Checked):
    r"""A unit whose rate is a clamp of its mean current, in the limit of many steps.

    With decay :math:`\lambda` (its `trace_decay`, above 0), threshold :math:`v_{th}` (its
    `firing_threshold`), potential :math:`v[t] = \lambda v[t-1] + q c[t] - v_{th} s[t]` and at most
    one spike per step,

    .. math::
        \frac{\sum_t \lambda^{T-t} s[t]}{\sum_t \lambda^{T-t}} \to
        clamp\left(\frac{q z}{v_{th}}, 0, 1\right), \qquad
        z = \frac{\sum_t \lambda^{T-t} c[t]}{\sum_t \lambda^{T-t}}

    up to :math:`|v[T]| / (v_{th} \sum_t \lambda^{T-t})`; the potential before the first step does
    not matter in the limit.

    Args:
        scale: q above 0: what a step's current adds to the potential, per unit of current.
        level: f above 0: the neuron fires where its potential reaches :math:`f v_{th}`.

    Raises:
        ConfigError: a field out of range.

    Source:
        Meng et al. 2022 (DSR), Xiao et al. 2021 (IDE).
    """

    scale: float = 1.0
    level: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scale", "level"):
            value = getattr(self, name)
            if value <= 0:
                raise ConfigError(
                    f"{self.place()}.{name}: expected a number above 0, got {value}; change it."
                )


@dataclass(frozen=True)
class NoRateClamp:
    """Why a unit's rate is no clamp of its mean current, in the words of a refusal.

    Args:
        expected: what it would take, as in "expected a soft reset".
        came: what the unit has instead.
    """

    expected: str
    came: str


@dataclass(frozen=True)
class StepOperations:
    """What one step costs one neuron; operations that no surrogate or gradient is part of.

    Args:
        multiplies: multiply-accumulates, divisions too.
        adds: additions alone.
        compares: comparisons.
    """

    multiplies: int = 0
    adds: int = 0
    compares: int = 0


@dataclass(frozen=True)
class Outputs:
    """Outputs that are whole numbers of spikes: 0 and 1 by default; -1 to 1 is ternary.

    Args:
        lowest: the lowest number, 0 or less.
        highest: the highest, 1 or more; None sets no bound.
    """

    lowest: int = 0
    highest: int | None = 1

    @property
    def binary(self) -> bool:
        """Whether they are 0 and 1."""
        return self == Outputs()

    @property
    def largest(self) -> int | None:
        """The largest number of spikes of either sign; None where there is no bound."""
        return None if self.highest is None else max(-self.lowest, self.highest)


@dataclass(frozen=True)
class Declaration(Generic[T]):
    """One thing that units may declare.

    Args:
        name: of the attribute.
        meaning: in a few words, for refusals.
        check: returns what was declared as its type says, or refuses it by its place.
        of_step: whether it speaks of `step`, so that a derived class with another `step` must
            declare it again.
    """

    name: str
    meaning: str
    check: Callable[[Any, str], T]
    of_step: bool = True

    def made(self, unit: object) -> bool:
        """Whether a unit declares it."""
        return declares(unit, self.name) if self.of_step else hasattr(unit, self.name)

    def of(self, unit: Unit) -> T | None:
        """Return what a unit declares; None where it declares nothing.

        Raises:
            ConfigError: it declares something of another type or range.
        """
        if not self.made(unit):
            return None
        return self.check(getattr(unit, self.name), f"neurons.{type(unit).__name__}.{self.name}")

    def needed(self, unit: Unit, place: str, layer: str) -> T:
        """Return what a unit declares, or refuse it.

        Args:
            unit: of a layer.
            place: who needs it, as messages begin.
            layer: its name.

        Raises:
            UnsupportedNet: the unit declares nothing.
        """
        if not self.made(unit):
            raise UnsupportedNet(
                f"{place}: expected neurons that declare {self.name}, {self.meaning}, in layer "
                f"{layer}, got {type(unit).__name__}, which declares none for its step; add it to "
                "the class, or use a unit of the library."
            )
        return self.check(getattr(unit, self.name), f"neurons.{type(unit).__name__}.{self.name}")


def _kind(*kinds: type) -> Callable[[Any, str], Any]:
    """Return a check that a value is of one of some classes."""

    def check(value: Any, where: str) -> Any:
        if isinstance(value, kinds):
            return value
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"{where}: expected {names}, got {value!r}; change what it declares.")

    return check


def _method(signature: str) -> Callable[[Any, str], Any]:
    """Return a check that a declaration is a method."""

    def check(value: Any, where: str) -> Any:
        if callable(value):
            return value
        name = where.rpartition(".")[2]
        raise ConfigError(
            f"{where}: expected a method {name}({signature}), got {value!r}; define it so, or "
            "rename the attribute."
        )

    return check


def _decay(value: Any, where: str) -> float | None:
    decay = conform(float | None, value, where)
    if decay is not None and not 0 <= decay <= 1:
        raise ConfigError(
            f"{where}: expected a factor in [0, 1], or None where no fixed number says it, got "
            f"{decay}; change what it declares."
        )
    return decay


def _above_zero(value: Any, where: str) -> float:
    number = conform(float, value, where)
    if number <= 0:
        raise ConfigError(
            f"{where}: expected a number above 0, got {number}; change what it declares."
        )
    return number


TRACE_DECAY: Declaration[float | None] = Declaration(
    "trace_decay", "the factor per step by which their memory of a spike decays", _decay
)
RATE_CLAMP: Declaration[RateClamp | NoRateClamp] = Declaration(
    "rate_clamp",
    "a RateClamp, as whose rate they answer in the limit of many steps",
    _kind(RateClamp, NoRateClamp),
)
RATE: Declaration[Callable[[Tensor, Theta], Tensor]] = Declaration(
    "rate", "the steady rate under a constant current", _method("current, theta")
)
FIRING_THRESHOLD: Declaration[Callable[[Theta], Tensor | float]] = Declaration(
    "firing_threshold", "the potential that a spike takes off", _method("theta")
)
CHARGED: Declaration[Callable[[State, Tensor, Theta], Tensor]] = Declaration(
    "charged", "the potential before any reset", _method("state, current, theta")
)
FIRING_LEVEL: Declaration[Callable[[Theta], Tensor | float]] = Declaration(
    "firing_level", "the potential at which they fire", _method("theta")
)
FIRING_DRIVE: Declaration[float] = Declaration(
    "firing_drive", "the deviation of currents with which they fire", _above_zero
)
MOST_FIRINGS: Declaration[Callable[[int], int]] = Declaration(
    "most_firings", "in how many of so many steps they fire at most", _method("steps")
)
OUTPUTS: Declaration[Outputs] = Declaration(
    "outputs", "the values that an output can take", _kind(Outputs)
)
STEP_OPERATIONS: Declaration[StepOperations] = Declaration(
    "step_operations", "the operations of one neuron and step", _kind(StepOperations)
)
TRAINED_BOUNDS: Declaration[Mapping[str, tuple[float, float]]] = Declaration(
    "trained_bounds",
    "the lowest and highest value of each trained quantity",
    _kind(Mapping),
    of_step=False,
)

DECLARATIONS: tuple[Declaration[Any], ...] = (
    TRACE_DECAY,
    RATE_CLAMP,
    RATE,
    FIRING_THRESHOLD,
    CHARGED,
    FIRING_LEVEL,
    FIRING_DRIVE,
    MOST_FIRINGS,
    OUTPUTS,
    STEP_OPERATIONS,
    TRAINED_BOUNDS,
)
"""All of them, as the table above lists them."""
