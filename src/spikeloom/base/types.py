"""Types shared by all rooms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom.base.errors import ShapeError
from spikeloom.base.seeding import SampleRng


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples ready for a network.

    Args:
        xs: encoded input, time first.
        target: class numbers.
        rng: the samples' random streams.
        number: of the batch in its epoch, for draws made once per batch.

    Shape:
        xs: [T, B, ...]; target: [B].

    Raises:
        ShapeError: xs and target hold different numbers of samples, or no step or sample.
    """

    xs: Tensor
    target: Tensor
    rng: SampleRng
    number: int = 0

    def __post_init__(self) -> None:
        good = self.xs.dim() >= 3 and self.target.dim() == 1
        if not good or self.xs.shape[1] != len(self.target) or min(self.xs.shape[:2]) < 1:
            raise ShapeError(
                "batch: expected xs [T, B, ...] with time as the first axis and target [B], got "
                f"{tuple(self.xs.shape)} and {tuple(self.target.shape)}; encode the input first."
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
