"""What an encoder is: a frozen value that gives each sample a time axis."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ShapeError
from spikeloom.base.registry import Registry
from spikeloom.base.seeding import Rng
from spikeloom.base.types import FLOATS, InputKind, Values

ENCODERS: Registry[type["Encoder"]] = Registry("encoder", "spikeloom.encoders", ("about", "encode"))


@runtime_checkable
class Encoder(Protocol):
    """A map from samples to trains; `about` is its line in a listing.

    Encoders act on every sample alone: the other samples of a batch do not change its train.
    `reads_time` says whether samples bring their own time axis, [B, T, ...].
    """

    about: ClassVar[str]
    reads_time: ClassVar[bool] = False

    def encode(self, x: Tensor, steps: int, rng: Rng) -> Tensor:
        """Return the train of every sample, in the type and on the device of `x`.

        Args:
            x: samples.
            steps: length T of the train, at least 1.
            rng: random streams; encoders that draw nothing ignore it.

        Shape:
            x: [B, ...]; result: [T, B, ...].

        Raises:
            ConfigError: steps below 1.
            ShapeError: x has no batch dimension or is no float tensor.
        """
        ...

    def gives(self, values: Values) -> InputKind:
        """Return what kind of values its trains hold, for the count of operations.

        The default is "real", the most expensive kind: a multiplication for every value that is not
        0, at every step.

        Args:
            values: what the samples are.
        """
        return "real"

    def length(self, shape: Sequence[int]) -> int | None:
        """Return the one T that samples of a shape can be read in; None where any T will do.

        Args:
            shape: of one sample.
        """
        return None

    def check(self, x: Tensor) -> None:
        """Refuse samples that this code cannot encode; by default there are none.

        Shape:
            x: [B, ...], as `encode` takes them.

        Raises:
            DataError: a sample cannot be encoded.
        """

    def caution(self, x: Tensor) -> str | None:
        """Say which samples this code cannot tell apart, and what to do; None for no caution.

        Shape:
            x: [B, ...], some samples as `encode` takes them.
        """
        return None

    def still(self, x: Tensor) -> Tensor:
        """Return what a net without time sees: the sample itself, undistorted.

        Shape:
            x: [B, ...]; result: one step's share of it, without the time axis.
        """
        return x


def check_call(where: str, x: Tensor, steps: int) -> None:
    """Check the arguments that every encoder takes.

    Raises:
        ConfigError: steps below 1.
        ShapeError: x has no batch dimension or is no float tensor.
    """
    at_least(1).check(f"{where}.steps", steps, "set the number of time steps")
    if x.ndim < 1:
        raise ShapeError.of(where, "x [B, ...]", "a scalar", "add a batch dimension")
    if x.dtype not in FLOATS:
        todo = "scale it first, e.g. with Samples.take"
        raise ShapeError.of(where, "x as a float tensor", x.dtype, todo)
