"""Types shared by all rooms."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from spikeloom.base.errors import NumericalError, ShapeError
from spikeloom.base.fields import Checked
from spikeloom.base.seeding import SampleRng

Values: TypeAlias = Literal["real", "events", "counts"]
"""Contents of stored samples: real values, events (-1, 0, 1), or numbers of events."""

InputKind: TypeAlias = Literal["constant", "real", "events", "counts"]
"""Input of a net: the same real values at every step, other real values at each step, events
(-1, 0, 1), or numbers of events. Encoder and data declare it; values alone do not show it."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of real values for arithmetic; types of 8 and 4 bits are for storage only."""


class Across(Protocol):
    """Reductions over all processes that share a batch; all must call them in the same order."""

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
    """Reductions over a single process."""

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
    """Check that a target has one class number per sample.

    Raises:
        ShapeError: it is no tensor [B] of int64, or is empty.
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
        rng: random streams of the samples.
        number: of the batch in its epoch, for random numbers drawn once per batch.
        across: reductions over the processes that share the batch, for rules that are not linear in
            it.

    Shape:
        xs: [T, B, ...]; target: [B] of int64, or [B, ...] of a float type.

    Raises:
        ShapeError: xs and target have different numbers of samples, there is no step or no sample,
            or the target has neither int64 class numbers nor real numbers.
        NumericalError: a value of xs is not finite. Spikes would hide it, so the loss would not
            show it.
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
        """Build a batch whose samples are numbered 0 to B - 1."""
        return cls(xs, target, SampleRng(seed, epoch, torch.arange(len(target))), number)

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return self.xs.shape[0]

    @property
    def size(self) -> int:
        """Number of samples B."""
        return self.xs.shape[1]
