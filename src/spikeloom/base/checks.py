"""Checks of user input: one function that raises the error, and ranges for annotations.

A range is part of the annotation of a field or option, ``alpha: Annotated[float, within(0, 1)]``;
`base.fields` applies it to values from Python and from TOML. `Range.check` checks a single value.
"""

import math
import re
import sys
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from spikeloom.base.errors import ConfigError, SpikeloomError
from spikeloom.base.toml import LARGEST_WHOLE

Ends = Literal["[]", "[)", "(]", "()"]
"""Brackets of an interval: "[" and "]" include the end, "(" and ")" exclude it."""


def expect(
    good: bool,
    path: str,
    expected: str,
    value: object,
    todo: str = "change it",
    *,
    kind: type[SpikeloomError] = ConfigError,
) -> None:
    """Raise an error about a value unless `good`.

    Args:
        good: whether the value is right.
        path: of the value.
        expected: the right values, in words.
        value: the wrong value; quoted by `shown`.
        todo: what to do.
        kind: class of the error.

    Example:
        >>> expect(0 > 1, "rules.sltt.k_steps", "1 or more", 0)
        Traceback (most recent call last):
        spikeloom.base.errors.ConfigError: rules.sltt.k_steps: expected 1 or more, got 0; change it.
    """
    if not good:
        raise kind.of(path, expected, shown(value), todo)


def shown(value: Any) -> str:
    """Return how a message quotes a value: its repr, or kind and shape of a tensor or array."""
    # not imported here: as long as torch is not imported no value is a tensor, and it loads slowly
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
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
        """Return what was expected instead of a value; "" if the value is right."""
        ...


@runtime_checkable
class Reader(Protocol):
    """A mark in an annotation that replaces the usual reading of its values."""

    def read(self, value: Any, path: str) -> Any:
        """Return the value to keep.

        Raises:
            ConfigError: a wrong value; the error has the path.
        """
        ...


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds; NaN is in no range.

    Args:
        low, high: bounds.
        ends: which bounds belong to the range.
        noun: word for messages: what the number is ("a decay"), or with `at_least` what it counts,
            in singular or plural as `low` needs it ("step" with 1).
        whole: messages give the whole interval, not only the bound that is violated.

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
        """Return what was expected; "" for a number in range."""
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
        """Raise ConfigError for a number outside; None is accepted."""
        if value is not None and (expected := self.fault(value)):
            raise ConfigError.of(path, expected, shown(value), todo)


def _written(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def at_least(low: float, counted: str = "", *, most: float = math.inf) -> Range:
    """Return the range of numbers from `low` on.

    Args:
        low: smallest.
        counted: what is counted, in singular or plural as `low` needs it: "step" with 1.
        most: largest, if there is a technical limit.
    """
    return Range(low, most, "[]", counted)


def above(low: float, noun: str = "", *, most: float = math.inf) -> Range:
    """Return the range of numbers above `low`, up to a technical limit if there is one."""
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
        """Return what was expected; "" for a right length."""
        return Range(self.low, self.high, noun=self.counted).fault(len(value))


@dataclass(frozen=True)
class Form:
    """A text that matches `pattern`, which `words` describe in messages."""

    pattern: str
    words: str

    def fault(self, value: str) -> str:
        """Return what was expected; "" for a text that matches."""
        return "" if re.fullmatch(self.pattern, value, re.DOTALL) else self.words


FILLED = Form(".+", "a text that is not empty")


def check_number(path: str, value: float) -> None:
    """Check that a number is finite, and an integer has 64 bits at most.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ConfigError.of(path, "a whole number of 64 bits at most", shown(value))
    if not math.isfinite(value):
        raise ConfigError.of(path, "a finite number", shown(value))
