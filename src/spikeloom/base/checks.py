"""Checks of what a user gives: one way to refuse, and ranges that an annotation can state.

A range stands in the annotation of a field or option, ``alpha: Annotated[float, within(0, 1)]``,
where `base.fields` reads it in Python and in TOML alike, or is asked for one value by `check`.
"""

import math
import re
import sys
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from spikeloom.base.errors import ConfigError, SpikeloomError
from spikeloom.base.toml import LARGEST_WHOLE

Ends = Literal["[]", "[)", "(]", "()"]
"""Which ends belong to an interval, in the usual brackets."""


def expect(
    good: bool,
    path: str,
    expected: str,
    value: object,
    todo: str = "change it",
    *,
    kind: type[SpikeloomError] = ConfigError,
) -> None:
    """Refuse a value unless `good`.

    Args:
        good: whether the value is right.
        path: its address.
        expected: what should stand there.
        value: that came, quoted as Python writes it.
        todo: what to do.
        kind: of the error.

    Example:
        >>> expect(0 > 1, "rules.sltt.k_steps", "1 or more", 0)
        Traceback (most recent call last):
        spikeloom.base.errors.ConfigError: rules.sltt.k_steps: expected 1 or more, got 0; change it.
    """
    if not good:
        raise kind.of(path, expected, shown(value), todo)


def shown(value: Any) -> str:
    """Return how a message quotes a value: text as it is, tensors by their kind and shape."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")  # no tensor without torch
    if torch is not None and isinstance(value, torch.nn.Parameter):
        return f"an nn.Parameter of shape {tuple(value.shape)}"
    if torch is not None and isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if numpy is not None and isinstance(value, numpy.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return f"{value.bit_length()} bits"
    return repr(value)


@runtime_checkable
class Limit(Protocol):
    """A limit in an annotation, beyond the type."""

    def fault(self, value: Any) -> str:
        """Return what was expected in the place of a value; empty where it is right."""
        ...


@runtime_checkable
class Reader(Protocol):
    """Stands in an annotation whose values are read in a way of their own."""

    def read(self, value: Any, path: str) -> Any:
        """Return the value as it is kept, or refuse it.

        Raises:
            ConfigError: with the path.
        """
        ...


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds; NaN is in none.

    Args:
        low, high: bounds.
        ends: which of them belong to the range.
        noun: what the number is, "a decay"; beside a lower bound that belongs to the range what
            it counts, in the number of the bound: "step" beside 1.
        whole: say the whole interval, not only the bound that was crossed.

    Example:
        >>> within(0, 1, "[)", "a decay").fault(1.0)
        'a decay in [0, 1)'
        >>> above(0).fault(0.0), at_least(1, most=9).fault(0), at_least(1, most=9).fault(10)
        ('a number above 0', '1 or more', '9 at most')
        >>> at_least(1).fault(1)
        ''
    """

    low: float = -math.inf
    high: float = math.inf
    ends: Ends = "[]"
    noun: str = ""
    whole: bool = False

    def fault(self, value: float) -> str:
        """Return what was expected; empty for a number in range."""
        shut_low, shut_high = self.ends[0] == "[", self.ends[1] == "]"
        high_enough = value >= self.low if shut_low else value > self.low
        low_enough = value <= self.high if shut_high else value < self.high
        if high_enough and low_enough:
            return ""
        noun = self.noun or "a number"
        if self.whole:
            return f"{noun} in {self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"
        counted = f" {self.noun}" if self.noun else ""
        if not high_enough:
            low = _written(self.low)
            return f"{low}{counted} or more" if shut_low else f"{noun} above {low}"
        high = _written(self.high)
        return f"{high} at most" if shut_high else f"{noun} below {high}"

    def check(self, path: str, value: float | None, todo: str = "change it") -> None:
        """Refuse a number outside; None stands for no number and is left alone."""
        if value is not None and (expected := self.fault(value)):
            raise ConfigError.of(path, expected, shown(value), todo)


def _written(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def at_least(low: float, counted: str = "", *, most: float = math.inf) -> Range:
    """Return the range of numbers from `low` on, with a technical bound where there is one.

    Args:
        low: smallest.
        counted: what is counted, in the number that `low` asks for: "step" beside 1.
        most: largest.
    """
    return Range(low, most, "[]", counted)


def above(low: float, noun: str = "", *, most: float = math.inf) -> Range:
    """Return the range of numbers above `low`, with a technical bound where there is one."""
    return Range(low, most, "(]", noun)


def within(low: float, high: float, ends: Ends = "[]", noun: str = "") -> Range:
    """Return an interval."""
    return Range(low, high, ends, noun, whole=True)


@dataclass(frozen=True)
class Length:
    """A list of at least `low` and at most `high` entries, which are called `counted`."""

    low: int
    counted: str
    high: float = math.inf

    def fault(self, value: Any) -> str:
        """Return what was expected; empty for a right length."""
        return Range(self.low, self.high, noun=self.counted).fault(len(value))


@dataclass(frozen=True)
class Form:
    """A text of a form, which `words` describe in messages."""

    pattern: str
    words: str

    def fault(self, value: str) -> str:
        """Return what was expected; empty for a text of the form."""
        return "" if re.fullmatch(self.pattern, value, re.DOTALL) else self.words


FILLED = Form(".+", "a text that is not empty")


def check_number(path: str, value: float) -> None:
    """Refuse a number that is not finite, or a whole one of more than 64 bits.

    Raises:
        ConfigError: it is not finite, or too large.
    """
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ConfigError.of(path, "a whole number of 64 bits at most", shown(value))
    if not math.isfinite(value):
        raise ConfigError.of(path, "a finite number", shown(value))
