"""Delayed recall: a cue, a delay with distractors, a go signal; the answer is the cue."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from spikeloom.base.checks import at_least, expect, within
from spikeloom.base.seeding import SampleRng
from spikeloom.data._split import Count, part_samples
from spikeloom.data.base import DATA, DataInfo, Samples, Scaling, Splits
from spikeloom.data.timed.made import check_memory, draw_parts

NAME = "delayed_recall"
BLANK = -1

Steps = Annotated[int, at_least(1, most=10**5)]
Width = Annotated[int, at_least(1, most=10**4)]


@dataclass(frozen=True)
class Recall:
    """The task: K symbols, of which each step shows one or none.

    Args:
        classes: K.
        cue: first steps, which show the label's symbol.
        delay: steps after them.
        go: last steps, which show the go signal.
        width: channels that show one symbol, all of them at once.
        distractors: probability that a step of the delay shows a symbol drawn at random.
        balanced: show every other symbol as often as the cue in the delay, at random steps.
    """

    classes: int
    cue: int
    delay: int
    go: int
    width: int
    distractors: float
    balanced: bool

    @property
    def shape(self) -> tuple[int, int]:
        """T and D of a sample; the go signal has the last channels."""
        return self.cue + self.delay + self.go, (self.classes + 1) * self.width

    @property
    def owed(self) -> int:
        """Steps of the delay that balance takes."""
        return (self.classes - 1) * self.cue if self.balanced else 0

    def labels(self, index: Tensor) -> Tensor:
        """Return the labels of samples, by their numbers: all classes are equally frequent."""
        return index % self.classes

    def draw(self, rng: SampleRng) -> Tensor:
        """Return the samples of a stream: 1 where a channel fires.

        Shape:
            result: [B, T, D], booleans.
        """
        y = self.labels(rng.index)
        shown = torch.cat([y[:, None].expand(-1, self.cue), self._delay(y, rng)], 1)
        steps, _ = self.shape
        x = torch.zeros(len(y), steps, self.classes + 1, dtype=torch.bool)
        # a blank fires nothing: it is written to a channel that the go signal then takes
        place = torch.where(shown == BLANK, self.classes, shown)
        x[:, : shown.shape[1]].scatter_(2, place[:, :, None], True)
        x[:, :, self.classes] = torch.arange(steps) >= steps - self.go
        return x.repeat_interleave(self.width, 2)

    def _delay(self, y: Tensor, rng: SampleRng) -> Tensor:
        """Return the symbols of the delay, [B, delay]; `BLANK` for none."""
        draws = rng.numbers(3 * self.delay).view(len(y), 3, self.delay)
        appears, which, order = draws.unbind(1)  # [B, delay]
        symbols = (which * self.classes).long()
        symbols[appears >= self.distractors] = BLANK
        if not self.balanced:
            return symbols
        others = (y[:, None] + 1 + torch.arange(self.classes - 1)) % self.classes  # [B, K - 1]
        symbols[:, : self.owed] = others.repeat(1, self.cue)
        return symbols.gather(1, order.argsort(dim=1, stable=True))


def load_recall(
    root: Path | None = None,
    *,
    classes: Annotated[int, at_least(2, most=10**4)] = 10,
    delay: Annotated[int, at_least(0, most=10**5)] = 20,
    cue: Steps = 1,
    go: Steps = 1,
    width: Width = 1,
    distractors: Annotated[float, within(0, 1)] = 0.5,
    balanced: bool = True,
    seed: Annotated[int, at_least(0)] = 0,
    train_size: Count = 2000,
    validation: Count = 500,
    test: Count = 500,
    normalise: bool = False,
) -> Splits:
    r"""Make the set: the label is the symbol of the first steps, asked for after the delay.

    .. math::
        T = cue + delay + go, \qquad D = (K + 1)\, width

    With `balanced`, every sample shows every symbol `cue` times, and beyond that symbols that do
    not depend on the label. What a sample holds, without its order, then says nothing about the
    label: a model that sees each step alone and adds up its answers is at chance, 1 / K.

    Args:
        root: not read.
        classes: number of symbols, K.
        delay: steps between cue and go signal.
        cue: steps that show the label's symbol.
        go: steps that show the go signal.
        width: channels of a symbol.
        distractors: probability of a random symbol, at every step of the delay that balance
            leaves free.
        balanced: show every other symbol as often as the cue.
        seed: of all draws.
        train_size: how many training samples to make.
        validation: how many validation samples to make.
        test: how many test samples to make.
        normalise: use mean and deviation of the training part, per channel.

    Shape:
        x: [N, T, D], booleans.

    Raises:
        ConfigError: a delay too short for balance, or samples that do not fit into memory.

    Source:
        ours; cue, delay and recall as in Hochreiter and Schmidhuber 1997, sec. 5.1, and the
        store-recall task of Bellec et al. 2018.
    """
    task = Recall(classes, cue, delay, go, width, distractors, balanced)
    expect(
        delay >= task.owed,
        f"data.{NAME}.delay",
        f"{task.owed} steps or more, to balance {classes} symbols",
        delay,
        "raise it, take fewer classes, or set balanced = false",
    )
    sizes = {"train": train_size, "validation": validation, "test": test}
    todo = "make delay, classes, width or the parts smaller"
    check_memory(NAME, sum(sizes.values()), task.shape, todo)
    drawn = draw_parts(NAME, sizes, seed, task.draw)
    parts = {
        part: Samples(x, task.labels(torch.arange(len(x))), Scaling(time=True), values="events")
        for part, x in drawn.items()
    }
    return part_samples(
        NAME,
        parts["train"],
        parts["test"],
        classes=classes,
        validation=parts["validation"],
        train_size=None,
        normalise=normalise,
    )


def _steps(options: Mapping[str, Any]) -> int:
    return options["cue"] + options["delay"] + options["go"]


DATA.register(NAME)(
    DataInfo(
        "made: recall a cue after a delay with distractors; [T, D]",
        (22, 11),
        10,
        load_recall,
        source="made in memory, from a seed",
        steps=_steps,
    )
)
