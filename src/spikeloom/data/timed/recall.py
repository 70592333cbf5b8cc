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
    """The samples of the task: each step shows one of K symbols, the go signal, or nothing.

    Args:
        classes: number of symbols, K.
        cue: number of first steps, which show the label's symbol.
        delay: number of steps after the cue.
        go: number of last steps, which show the go signal.
        width: number of channels of a symbol; all of them fire to show it.
        distractors: probability that a step of the delay shows a random symbol.
        balanced: whether the delay shows every other symbol as often as the cue, at random steps.
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
        """T and D of a sample; the last channels belong to the go signal."""
        return self.cue + self.delay + self.go, (self.classes + 1) * self.width

    @property
    def owed(self) -> int:
        """Number of steps of the delay that are needed to balance the symbols."""
        return (self.classes - 1) * self.cue if self.balanced else 0

    def labels(self, index: Tensor) -> Tensor:
        """Return the labels of samples by their numbers; all classes are equally frequent."""
        return index % self.classes

    def draw(self, rng: SampleRng) -> Tensor:
        """Return the samples of a batch; True where a channel fires.

        Shape:
            result: [B, T, D], bool.
        """
        y = self.labels(rng.index)
        shown = torch.cat([y[:, None].expand(-1, self.cue), self._delay(y, rng)], 1)
        steps, _ = self.shape
        x = torch.zeros(len(y), steps, self.classes + 1, dtype=torch.bool)
        # blanks are written to the go channel, which the line after the scatter overwrites
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
    r"""Make the data set: the label is the symbol of the first steps, asked for after a delay.

    .. math::
        T = cue + delay + go, \qquad D = (K + 1)\, width

    With `balanced`, every sample shows every symbol `cue` times; further symbols do not depend on
    the label. So how often each symbol appears tells nothing about the label, only the order does.
    A model without memory, which sees each step alone and sums its answers, stays at chance, 1 / K.

    Args:
        root: not used.
        classes: number of symbols, K.
        delay: steps between cue and go signal.
        cue: number of steps that show the label's symbol.
        go: number of steps that show the go signal.
        width: number of channels of a symbol.
        distractors: probability of a random symbol at each step of the delay that is not used to
            balance the symbols.
        balanced: whether the delay shows every other symbol as often as the cue.
        seed: seed of all random draws.
        train_size: number of training samples.
        validation: number of validation samples.
        test: number of test samples.
        normalise: whether to normalise each channel with mean and deviation of the training part.

    Shape:
        x: [N, T, D], bool.

    Raises:
        ConfigError: the delay is too short to balance the symbols, or the samples do not fit into
            memory.

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
