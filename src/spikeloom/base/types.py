"""Types shared by all rooms."""

from dataclasses import dataclass

from torch import Tensor

from spikeloom.base.seeding import SampleRng


@dataclass(frozen=True)
class Batch:
    """Samples ready for a network.

    Args:
        xs: encoded input, time first.
        target: class numbers.
        rng: the samples' random streams.

    Shape:
        xs: [T, B, ...]; target: [B].
    """

    xs: Tensor
    target: Tensor
    rng: SampleRng

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return self.xs.shape[0]

    @property
    def size(self) -> int:
        """Number of samples B."""
        return self.xs.shape[1]
