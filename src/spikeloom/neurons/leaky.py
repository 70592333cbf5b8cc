"""Leaky integrate-and-fire neurons."""

import warnings
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

from spikeloom.base.errors import Hint
from spikeloom.neurons.base import UNITS
from spikeloom.neurons.integrate_fire import IF


@UNITS.register("lif")
@dataclass(frozen=True)
class LIF(IF):
    r"""Leaky integrate-and-fire neuron: `IF` with a decay.

    .. math:: u[t] = \alpha v[t-1] + i[t] \quad (or\ (1-\alpha)\, i[t]\ with\ scale\_input)

    All other fields are those of `IF`.

    Args:
        alpha: decay of the potential per step, in [0, 1]; 0 forgets, 1 is IF. A trained alpha is
            the logistic of its parameter, so it stays in (0, 1); this is its initial value.
        scale_input: multiply the input by 1 - alpha.

    Raises:
        ConfigError: a field out of range.

    Source:
        Neftci, Mostafa & Zenke 2019; Xiao et al. 2022 (alpha = 0.5); Meng et al. 2023
        (alpha = 1 - 1/1.1); Meng et al. 2022 (scale_input).
    """

    alpha: float = 0.5  # pyright: ignore[reportIncompatibleVariableOverride] - IF fixes it to 1
    scale_input: bool = False  # pyright: ignore[reportIncompatibleVariableOverride]

    learnable: ClassVar[tuple[str, ...]] = ("v_th", "alpha")

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Warn if `beta` is given without `alpha`: it may be meant as the membrane's decay."""
        beta = kwargs.get("beta")
        number = "alpha" not in kwargs and isinstance(beta, Real)
        if number and 0 < beta < 1:  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
            warnings.warn(
                f"{cls.place()}: beta = {beta} is the decay of the synaptic current here, and the "
                "membrane's decay (snnTorch's beta) is alpha; name alpha too.",
                Hint,
                stacklevel=2,
            )
        return super().__new__(cls, *args, **kwargs)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect("alpha", 0 <= self.alpha <= 1, "a decay in [0, 1]")
        if "alpha" in self.learn:
            self.expect("alpha", 0 < self.alpha < 1, "a start in (0, 1) for a trained decay")
