r"""What a unit declares about its equation, beyond `init` and `step`, and the way to read it.

A declaration is an attribute, property or method of the class that defines `step`, or of a derived
class that keeps this `step` (`neurons.base.declares`). There are no defaults: nothing is guessed
from other attributes. A rule or meter that needs a declaration refuses units without it, by name;
a figure that can do without it says what it assumes.

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
from typing import Annotated, Any, Generic, TypeVar, cast

from torch import Tensor

from spikeloom.base.checks import above, expect
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.fields import Checked, conform
from spikeloom.neurons.base import State, Theta, Unit, declares

T = TypeVar("T")

DRIVE = 3.0
"""`firing_drive`, in thresholds, of neurons with decay 0; those with decay 1 need 1 less."""


@dataclass(frozen=True)
class RateClamp(Checked):
    r"""Declares that the firing rate is a clamp of the mean current, in the limit of many steps.

    With decay :math:`\lambda` (its `trace_decay`, above 0), threshold :math:`v_{th}` (its
    `firing_threshold`), potential :math:`v[t] = \lambda v[t-1] + q c[t] - v_{th} s[t]` and at most
    one spike per step,

    .. math::
        \frac{\sum_t \lambda^{T-t} s[t]}{\sum_t \lambda^{T-t}} \to
        clamp\left(\frac{q z}{v_{th}}, 0, 1\right), \qquad
        z = \frac{\sum_t \lambda^{T-t} c[t]}{\sum_t \lambda^{T-t}}

    with an error of at most :math:`|v[T]| / (v_{th} \sum_t \lambda^{T-t})`. The potential before
    the first step does not matter in the limit.

    Args:
        scale: q above 0: potential that a unit of current adds in one step.
        level: f above 0: the neuron fires where its potential reaches :math:`f v_{th}`.

    Raises:
        ConfigError: a field out of range.

    Source:
        Meng et al. 2022 (DSR), Xiao et al. 2021 (IDE).
    """

    scale: Annotated[float, above(0)] = 1.0
    level: Annotated[float, above(0)] = 1.0


@dataclass(frozen=True)
class NoRateClamp:
    """Declares that the rate is no clamp of the mean current, with the reason for error messages.

    Args:
        expected: what a clamp would need, e.g. "a soft reset".
        came: what the unit has instead.
    """

    expected: str
    came: str


@dataclass(frozen=True)
class StepOperations:
    """Operations of one neuron in one forward step.

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
    """Range of an output that counts spikes: 0 to 1 by default; -1 to 1 is ternary.

    Args:
        lowest: 0 or less.
        highest: 1 or more; None for no bound.
    """

    lowest: int = 0
    highest: int | None = 1

    @property
    def binary(self) -> bool:
        """Whether outputs are 0 or 1."""
        return self == Outputs()

    @property
    def largest(self) -> int | None:
        """The largest number of spikes of either sign; None for no bound."""
        return None if self.highest is None else max(-self.lowest, self.highest)


@dataclass(frozen=True)
class Declaration(Generic[T]):
    """One entry of the table above.

    Args:
        name: of the attribute.
        meaning: in a few words, for error messages.
        check: takes a declared value and its place; returns the value, or raises ConfigError.
        of_step: the declaration describes `step`, so a derived class with another `step` must
            declare it again.
    """

    name: str
    meaning: str
    check: Callable[[Any, str], T]
    of_step: bool = True

    def made(self, unit: object) -> bool:
        """Whether a unit makes this declaration."""
        return declares(unit, self.name) if self.of_step else hasattr(unit, self.name)

    def of(self, unit: Unit) -> T | None:
        """Return what a unit declares; None if it declares nothing.

        Raises:
            ConfigError: the declared value has the wrong type or is out of range.
        """
        if not self.made(unit):
            return None
        return self.check(getattr(unit, self.name), f"neurons.{type(unit).__name__}.{self.name}")

    def needed(self, unit: Unit, place: str, layer: str) -> T:
        """Return what a unit declares, or refuse a unit that declares nothing.

        Args:
            unit: of a layer.
            place: what needs the declaration, as the path of the error.
            layer: name of the layer.

        Raises:
            UnsupportedNet: the unit declares nothing.
            ConfigError: as in `of`.
        """
        if not self.made(unit):
            raise UnsupportedNet.of(
                place,
                f"neurons that declare {self.name}, {self.meaning}, in layer {layer}",
                f"{type(unit).__name__}, which declares none for its step",
                "add it to the class, or use a unit of the library",
            )
        return cast(T, self.of(unit))


_TODO = "change what it declares"


def _kind(*kinds: type) -> Callable[[Any, str], Any]:
    """Return a check that a declared value is an instance of one of the classes."""

    def check(value: Any, where: str) -> Any:
        names = " or ".join(kind.__name__ for kind in kinds)
        expect(isinstance(value, kinds), where, names, value, _TODO)
        return value

    return check


def _method(signature: str) -> Callable[[Any, str], Any]:
    """Return a check that a declaration is a method."""

    def check(value: Any, where: str) -> Any:
        expected = f"a method {where.rpartition('.')[2]}({signature})"
        expect(callable(value), where, expected, value, "define it so, or rename the attribute")
        return value

    return check


def _decay(value: Any, where: str) -> float | None:
    decay = conform(float | None, value, where)
    good = decay is None or 0 <= decay <= 1
    expect(good, where, "a factor in [0, 1], or None where no fixed number says it", decay, _TODO)
    return decay


def _above_zero(value: Any, where: str) -> float:
    number = conform(float, value, where)
    above(0).check(where, number, _TODO)
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
"""All of them, in the order of the table above."""
