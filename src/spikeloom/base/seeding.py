"""Random draws that depend on (seed, epoch, sample) alone.

A draw for one sample is the same whichever batch, process or resumed run the sample sits in.
"""

import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias

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
