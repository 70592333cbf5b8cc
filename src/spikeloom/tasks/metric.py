"""Figures that answers are judged by: names, units and directions, without anything to compute."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One figure that answers are judged by.

    Args:
        name: as records have it, one word in small letters, e.g. "accuracy".
        title: as heads of tables have it; the name by default.
        unit: behind the title; "%" shows shares as percent.
        best: whether high or low values are good.
        least: lowest value there can be; None for no bound.
        most: highest, likewise.
        decimals: how many are written, in its unit; None for four significant digits.
        of_samples: whether it is a share of samples, so that one of N is worth 1/N.
        about: one line, for legends.

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
        """Return what is higher for better values, to sort and to choose by."""
        return value if self.best == "high" else -value

    def shown(self, value: float) -> float:
        """Return a value in the metric's unit."""
        return 100 * value if self.unit == "%" else value

    def gained(self, by: float) -> str:
        """Write a difference of two values in the metric's unit."""
        return f"{by:.1f} points" if self.unit == "%" else f"{by:.3g} {self.unit}".strip()

    def written(self, value: float) -> str:
        """Write a value in the metric's unit, without it."""
        return f"{value:.4g}" if self.decimals is None else f"{value:.{self.decimals}f}"

    def allows(self, value: float) -> bool:
        """Whether it can have a value."""
        low = self.least is None or value >= self.least
        return low and (self.most is None or value <= self.most)

    @property
    def word(self) -> str:
        """What it is called in a sentence."""
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
"""What every run was judged by before there were other tasks."""


def named(name: str) -> Metric:
    """Return a metric of which only the name is known."""
    return ACCURACY if name == ACCURACY.name else Metric(name)
