"""Made data sets: every sample is a function of (seed, part, number), on every machine."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError
from spikeloom.base.memory import in_words, total_bytes
from spikeloom.base.seeding import SampleRng

Draw = Callable[[SampleRng], Tensor]
"""Makes the samples that a stream of draws stands for, [B, T, D]."""

CHUNK = 512
"""Samples that are made at once, so that draws take little memory beside the samples."""


def draw_parts(name: str, sizes: Mapping[str, int], seed: int, draw: Draw) -> dict[str, Tensor]:
    """Draw the samples of every part, each from streams of its own.

    Sample n of a part does not depend on the part's size: a larger part begins with the smaller.

    Args:
        name: of the set, part of its streams' names.
        sizes: of the parts.
        seed: of the set.
        draw: makes samples.
    """

    def part(word: str, count: int) -> Tensor:
        stream = f"{name}/{word}"
        rows = torch.arange(count).split(CHUNK)
        return torch.cat([draw(SampleRng(seed, 0, index, stream)) for index in rows])

    return {word: part(word, count) for word, count in sizes.items()}


def check_memory(name: str, samples: int, shape: tuple[int, int], todo: str) -> None:
    """Refuse samples of one byte a value that the machine cannot hold.

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
