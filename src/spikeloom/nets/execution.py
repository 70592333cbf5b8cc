"""How a net is computed, as a value: the results are the same up to rounding, the cost is not."""

from dataclasses import dataclass
from typing import Literal, get_args

from spikeloom.nets.layer import require
from spikeloom.neurons.trains import Kernels

Layout = Literal["auto", "rows", "channels_last"]


@dataclass(frozen=True)
class Execution:
    """How a net is computed.

    Args:
        kernels: "auto" takes compiled loops where they exist and are worth compiling, "compiled"
            wherever they exist, "reference" never.
        layout: how images lie in memory: "channels_last" is what convolutions on a CPU are
            fastest with, and what "auto" takes.

    Raises:
        ConfigError: another choice.
    """

    kernels: Kernels = "auto"
    layout: Layout = "auto"

    def __post_init__(self) -> None:
        for name, known in (("kernels", Kernels), ("layout", Layout)):
            value = getattr(self, name)
            require(
                value in get_args(known),
                f"execution.{name}",
                f"one of {get_args(known)}",
                value,
                "change it",
            )
