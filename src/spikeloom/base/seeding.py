"""Random draws that depend on (seed, epoch, sample) alone.

A draw for one sample is the same whichever batch, process or resumed run the sample sits in.
"""

import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SampleRng:
    """Independent random streams, one per sample of a batch.

    Args:
        seed: of the run.
        epoch: number of the pass over the data; another epoch gives other draws.
        index: the samples' numbers in their data set, shape [B].
        stream: what the draws are for; `stream_for` derives further ones.
    """

    seed: int
    epoch: int
    index: Tensor
    stream: str = ""
    _samples: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_samples", self.index.tolist())

    def stream_for(self, name: str) -> "SampleRng":
        """Return the stream of these samples used for `name`."""
        return SampleRng(self.seed, self.epoch, self.index, f"{self.stream}/{name}")

    def uniform(
        self, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        r"""Draw from U[0, 1) for each sample.

        Shape:
            result: [B, \*shape].
        """
        out = torch.empty((len(self._samples), *shape), dtype=dtype, device=device)
        generator = torch.Generator(device=device)
        for row, sample in enumerate(self._samples):
            generator.manual_seed(derive_seed(self.seed, self.epoch, sample, self.stream))
            torch.rand(shape, dtype=dtype, device=device, generator=generator, out=out[row])
        return out

    def numbers(self, count: int) -> Tensor:
        r"""Draw `count` numbers from U[0, 1) for each sample, without a generator per sample.

        Number j of a sample is :math:`2^{-53} \lfloor m(k + (j + 1) g) / 2^{11} \rfloor` with the
        mixing function m and the step g of SplitMix64, where k mixes the sample's number with a key
        of (seed, epoch, stream). So the first numbers do not depend on how many are drawn, and none
        depends on the device.

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
    """Scatter the bits of 64-bit numbers: the finaliser of SplitMix64, a bijection."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


Rng: TypeAlias = SampleRng | torch.Generator


def uniform(
    rng: Rng, batch: int, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device
) -> Tensor:
    r"""Draw [batch, \*shape] from U[0, 1), per sample or from one generator."""
    if isinstance(rng, torch.Generator):
        draw = torch.rand((batch, *shape), dtype=dtype, device=rng.device, generator=rng)
        return draw.to(device)
    return rng.uniform(shape, dtype=dtype, device=device)


def stream_for(rng: Rng, name: str) -> Rng:
    """Return the stream of `rng` kept for `name`; a plain generator serves every name."""
    return rng if isinstance(rng, torch.Generator) else rng.stream_for(name)


def derive_seed(*parts: object) -> int:
    """Map any parts to one 63-bit seed, stable over processes and Python versions."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
