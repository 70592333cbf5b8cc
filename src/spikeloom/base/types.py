"""Types shared by all rooms."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from spikeloom.base.errors import NumericalError, ShapeError
from spikeloom.base.fields import Checked
from spikeloom.base.seeding import SampleRng

Values: TypeAlias = Literal["real", "events", "counts"]
"""What stored samples hold: real values, events (-1, 0, 1), or numbers of events."""

InputKind: TypeAlias = Literal["constant", "real", "events", "counts"]
"""What a net is given at each step: the same real values at every step, real values that change,
events (-1, 0, 1), or numbers of events. Said by encoder and data; values do not tell."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of real values that are computed with; those of 8 and 4 bits are for storage alone."""


class Across(Protocol):
    """Figures and tensors over all processes that share a batch; all ask in the same order."""

    def total(self, value: float) -> float:
        """Return the sum."""
        ...

    def highest(self, value: float) -> float:
        """Return the largest one."""
        ...

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of tensors of one shape and type, one from each process."""
        ...

    def mean(self, x: Tensor, samples: int) -> Tensor:
        """Return the mean of tensors, each counted as often as its process has samples."""
        ...


class Alone:
    """One process: a figure is its own."""

    def total(self, value: float) -> float:
        """Return the value."""
        return value

    def highest(self, value: float) -> float:
        """Return the value."""
        return value

    def sum(self, x: Tensor) -> Tensor:
        """Return the tensor."""
        return x

    def mean(self, x: Tensor, samples: int) -> Tensor:
        """Return the tensor."""
        return x


ALONE = Alone()


def check_labels(where: str, target: object) -> None:
    """Refuse what are no class numbers, one per sample.

    Raises:
        ShapeError: no tensor [B] of int64, or an empty one.
    """
    if not isinstance(target, Tensor) or target.dim() != 1 or not len(target):
        came = tuple(target.shape) if isinstance(target, Tensor) else repr(target)
        raise ShapeError.of(where, "class numbers [B] in a tensor", came, "pass one per sample")
    if target.dtype != torch.int64:
        raise ShapeError.of(
            where, "class numbers as int64", target.dtype, "convert them (target.long())"
        )


@dataclass(frozen=True, eq=False)
class Batch(Checked):
    """Samples ready for a network.

    Args:
        xs: encoded input, time first.
        target: what should be answered: class numbers, or real numbers.
        rng: the samples' random streams.
        number: of the batch in its epoch, for draws made once per batch.
        across: what a rule that is not linear in the batch asks of the processes with other shares.

    Shape:
        xs: [T, B, ...]; target: [B] of int64, or [B, ...] of a float type.

    Raises:
        ShapeError: xs and target hold different numbers of samples, no step or sample, or targets
            that are neither int64 class numbers nor real numbers.
        NumericalError: a value of xs is not finite. Spikes would hide it from the loss.
    """

    xs: Tensor
    target: Tensor
    rng: SampleRng
    number: int = 0
    across: Across = ALONE

    called: ClassVar[str] = "batch"

    def __post_init__(self) -> None:
        super().__post_init__()
        real = isinstance(self.target, Tensor) and self.target.dtype in FLOATS
        good = self.xs.dim() >= 3 and (self.target.dim() == 1 or real)
        if not good or self.xs.shape[1] != len(self.target) or min(self.xs.shape[:2]) < 1:
            raise ShapeError.of(
                "batch",
                "xs [T, B, ...] with time as the first axis and target [B]",
                f"{tuple(self.xs.shape)} and {tuple(self.target.shape)}",
                "encode the input first",
            )
        if not real:
            check_labels("batch", self.target)
        seen = self.xs[:1] if self.xs.stride(0) == 0 else self.xs
        finite = torch.isfinite(seen)
        if not finite.all():
            step, sample, *_ = place = (~finite).nonzero()[0].tolist()
            raise NumericalError.of(
                "batch",
                "a finite input",
                f"{seen[tuple(place)].item()} in sample {int(self.rng.index[sample])}, step {step}",
                "correct the data",
            )

    @classmethod
    def of(
        cls, xs: Tensor, target: Tensor, *, seed: int = 0, epoch: int = 0, number: int = 0
    ) -> "Batch":
        """Build a batch whose samples are numbered by their place in it."""
        return cls(xs, target, SampleRng(seed, epoch, torch.arange(len(target))), number)

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return self.xs.shape[0]

    @property
    def size(self) -> int:
        """Number of samples B."""
        return self.xs.shape[1]
