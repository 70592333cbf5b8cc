"""Synthetic data sets: a sample depends only on seed, part and number, on every machine."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError
from spikeloom.base.memory import in_words, total_bytes
from spikeloom.base.seeding import SampleRng

Draw = Callable[[SampleRng], Tensor]
"""Makes the samples [B, T, D] of a batch from its random streams."""

CHUNK = 512
"""Samples that are made at once; it limits the memory for random numbers."""


def draw_parts(name: str, sizes: Mapping[str, int], seed: int, draw: Draw) -> dict[str, Tensor]:
    """Draw the samples of every part; each sample has a random stream of its own.

    Sample n of a part does not depend on the part's size: a larger part begins with the same
    samples.

    Args:
        name: name of the data set; it is part of the names of the streams.
        sizes: number of samples of each part.
        seed: seed of the data set.
        draw: makes samples.
    """

    def part(word: str, count: int) -> Tensor:
        stream = f"{name}/{word}"
        rows = torch.arange(count).split(CHUNK)
        return torch.cat([draw(SampleRng(seed, 0, index, stream)) for index in rows])

    return {word: part(word, count) for word, count in sizes.items()}


def check_memory(name: str, samples: int, shape: tuple[int, int], todo: str) -> None:
    """Refuse samples, of one byte per value, that do not fit into memory.

    Raises:
        ConfigError: they do not fit.
    """
    room, needed = total_bytes(), samples * shape[0] * shape[1]
    if room is not None and needed > room:
        raise ConfigError.of(
            f"data.{name}",
            f"samples that fit into the {in_words(room)} of this machine",
            f"{samples} of {list(shape)}, {in_words(needed)}",
            todo,
        )
