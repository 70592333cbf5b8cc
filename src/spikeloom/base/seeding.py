"""Random draws that depend on (seed, epoch, sample) alone.

A draw for one sample is the same whichever batch, process or resumed run the sample sits in.
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
"""Type in which uniform numbers are drawn, whatever type they are wanted in."""

EXACT = (torch.float32, torch.float64)
"""Types that hold every number drawn; lower ones would round some of them up to 1."""


@dataclass(frozen=True, eq=False)
class SampleRng(Checked):
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

    called: ClassVar[str] = "rng"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_samples", self.index.tolist())

    def stream_for(self, name: str) -> "SampleRng":
        """Return the stream of these samples used for `name`."""
        return SampleRng(self.seed, self.epoch, self.index, f"{self.stream}/{name}")

    def uniform(
        self, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        r"""Draw from U[0, 1) for each sample: the same numbers in either type.

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
    r"""Draw [batch, \*shape] from U[0, 1), per sample or from one generator.

    Args:
        rng: where draws come from.
        batch: number of samples.
        shape: of one sample's draws.
        dtype: float32 or float64. The numbers are those of float32 in either, so that runs at two
            precisions see the same draws.
        device: where the result lies.
    """
    assert dtype in EXACT
    if isinstance(rng, torch.Generator):
        draw = torch.rand((batch, *shape), dtype=DRAWN, device=rng.device, generator=rng)
        return draw.to(device, dtype)
    return rng.uniform(shape, dtype=dtype, device=device)


def stream_for(rng: Rng, name: str) -> Rng:
    """Return the stream of `rng` kept for `name`; a plain generator serves every name.

    Raises:
        ConfigError: no random stream at all.
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
    """Map any parts to one 63-bit seed, stable over processes and Python versions."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
