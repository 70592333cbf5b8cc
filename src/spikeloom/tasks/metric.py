"""Metrics as data: name, unit, direction and bounds. Tasks compute the values."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """Describes one metric of a task.

    Args:
        name: name in records, one lower-case word, e.g. "accuracy".
        title: name in table heads and messages; by default `name`.
        unit: unit shown after the title; with "%" values in [0, 1] are shown as percent.
        best: whether high or low values are better.
        least: lowest possible value; None for no bound.
        most: highest possible value; None for no bound.
        decimals: number of decimals shown; None for four significant digits.
        of_samples: whether the value is a share of the samples, so that its resolution is 1 / N.
        about: one line for table legends.

    Example:
        >>> error = Metric("mae", "MAE", best="low", least=0)
        >>> max([0.3, 0.1, 0.2], key=error.rank)
        0.1
    """

    name: str
    title: str = ""
    unit: str = ""
    best: Literal["high", "low"] = "high"
    least: float | None = None
    most: float | None = None
    decimals: int | None = None
    of_samples: bool = False
    about: str = ""

    def rank(self, value: float) -> float:
        """Return a number that is higher for better values, for sorting and selection."""
        return value if self.best == "high" else -value

    def shown(self, value: float) -> float:
        """Return a value as shown in the metric's unit."""
        return 100 * value if self.unit == "%" else value

    def gained(self, by: float) -> str:
        """Write a difference of two shown values, with the unit."""
        return f"{by:.1f} points" if self.unit == "%" else f"{by:.3g} {self.unit}".strip()

    def written(self, value: float) -> str:
        """Write a shown value with the metric's decimals, without the unit."""
        return f"{value:.4g}" if self.decimals is None else f"{value:.{self.decimals}f}"

    def allows(self, value: float) -> bool:
        """Whether a value lies within the metric's bounds."""
        low = self.least is None or value >= self.least
        return low and (self.most is None or value <= self.most)

    @property
    def word(self) -> str:
        """The metric's name in messages."""
        return self.title or self.name


ACCURACY = Metric(
    "accuracy",
    unit="%",
    least=0,
    most=1,
    decimals=2,
    of_samples=True,
    about="share of test samples that are classified right",
)
"""The metric of classification, and of all records from before there were other tasks."""


def named(name: str) -> Metric:
    """Return the metric of a record that holds its name only."""
    return ACCURACY if name == ACCURACY.name else Metric(name)
