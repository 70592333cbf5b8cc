"""Random numbers that depend on (seed, epoch, sample) alone.

A sample gets the same numbers in any batch, in any process and in a resumed run.
"""

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError
from spikeloom.base.fields import Checked

DRAWN = torch.float32
"""Type in which uniform numbers are drawn; then they are converted to the requested type."""

EXACT = (torch.float32, torch.float64)
"""Types that represent every drawn number; others would round some of them up to 1."""


@dataclass(frozen=True, eq=False)
class SampleRng(Checked):
    """Independent random streams, one per sample of a batch.

    Args:
        seed: of the run.
        epoch: number of the pass over the data; each epoch has other random numbers.
        index: numbers of the samples in their data set, shape [B].
        stream: name of the purpose, e.g. of an encoder; `stream_for` derives further streams.
    """

    seed: int
    epoch: int
    index: Tensor
    stream: str = ""
    _samples: list[int] = field(init=False, repr=False, compare=False)

    called: ClassVar[str] = "rng"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_samples", self.index.tolist())

    def stream_for(self, name: str) -> "SampleRng":
        """Return the stream of these samples for the purpose `name`."""
        return SampleRng(self.seed, self.epoch, self.index, f"{self.stream}/{name}")

    def uniform(
        self, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        r"""Draw from U[0, 1) for each sample; the same numbers in float32 and float64.

        Shape:
            result: [B, \*shape].
        """
        assert dtype in EXACT
        out = torch.empty((len(self._samples), *shape), dtype=DRAWN, device=device)
        generator = torch.Generator(device=device)
        for row, sample in enumerate(self._samples):
            generator.manual_seed(derive_seed(self.seed, self.epoch, sample, self.stream))
            torch.rand(shape, dtype=DRAWN, device=device, generator=generator, out=out[row])
        return out.to(dtype)

    def numbers(self, count: int) -> Tensor:
        r"""Draw `count` numbers from U[0, 1) for each sample, for all samples at once.

        Number j of a sample is :math:`2^{-53} \lfloor m(k + (j + 1) g) / 2^{11} \rfloor` with the
        mixing function m and the increment g of SplitMix64; k is a hash of the sample's number with
        (seed, epoch, stream). So number j does not depend on `count` or on the device.

        Shape:
            result: [B, count], float64, on the CPU.

        Source:
            Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", fig. 16.
        """
        key = np.uint64(derive_seed(self.seed, self.epoch, self.stream))
        samples = np.array(self._samples, dtype=np.int64).view(np.uint64)
        start = _mix(_mix(samples * _STEP + key) ^ key)  # [B]; unsigned, so products wrap around
        steps = np.arange(1, count + 1, dtype=np.uint64) * _STEP
        bits = _mix(start[:, None] + steps) >> np.uint64(11)  # [B, count]
        return torch.from_numpy(bits.astype(np.float64) * 2.0**-53)


_STEP = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    """Return the mixing function of SplitMix64, a bijection of 64-bit numbers."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


Rng: TypeAlias = SampleRng | torch.Generator


def uniform(
    rng: Rng, batch: int, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device
) -> Tensor:
    r"""Draw [batch, \*shape] from U[0, 1), from a stream per sample or from one generator.

    Args:
        rng: source of the numbers.
        batch: number of samples.
        shape: of the numbers of one sample.
        dtype: float32 or float64. The numbers are drawn in float32 for both, so that runs in two
            precisions get the same ones.
        device: of the result.
    """
    assert dtype in EXACT
    if isinstance(rng, torch.Generator):
        draw = torch.rand((batch, *shape), dtype=DRAWN, device=rng.device, generator=rng)
        return draw.to(device, dtype)
    return rng.uniform(shape, dtype=dtype, device=device)


def stream_for(rng: Rng, name: str) -> Rng:
    """Return the stream of `rng` for the purpose `name`; a generator is returned as it is.

    Raises:
        ConfigError: `rng` is neither a SampleRng nor a generator.
    """
    if isinstance(rng, torch.Generator):
        return rng
    if not isinstance(rng, SampleRng):
        raise ConfigError.of(
            "rng",
            f"a random stream for '{name}'",
            f"{rng!r}",
            "pass a SampleRng (a Batch has one) or a torch.Generator",
        )
    return rng.stream_for(name)


def derive_seed(*parts: object) -> int:
    """Return a 63-bit hash of any values, the same in all processes and Python versions."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
