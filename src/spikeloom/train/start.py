"""What a run reports at its start: the data, the net, and the predicted time."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from spikeloom.base.errors import NumericalError
from spikeloom.base.memory import free_bytes, in_words
from spikeloom.data import Samples, Splits
from spikeloom.inference.evaluate import EVALUATION_BATCH, predict
from spikeloom.measure.health import memory_line
from spikeloom.measure.unchanged import one_call, training_size, unchanged
from spikeloom.meters.clock import Timing, stopwatch
from spikeloom.nets.spec.grammar import write
from spikeloom.program.batching import batches
from spikeloom.program.setup import Workbench
from spikeloom.records.units import span

FEWEST_BATCHES = 3
"""Fewer batches have no quartiles: one is measured then, and no range is given."""

MOST_BATCHES = 7
"""Batches of training, and of validation, that are measured at most."""

SHARE = 0.02
"""Part of an epoch's batches that may be measured before it."""

FREE_SECONDS = 0.3
"""Seconds that measuring may take however short an epoch is."""

LONGEST_NET = 100
"""Characters of a net's text in the line about it; the record has it whole."""


@dataclass(frozen=True)
class Prediction:
    """Seconds that the epochs of a stage will take.

    Args:
        seconds: from the medians over the batches.
        low, high: from the lower and the upper quartiles.
        batches: number of batches measured.

    Example:
        >>> str(Prediction(180, 130, 250, 8)), str(Prediction(80, 70, 100, 8))
        ('3 min (2 to 4)', '80 s (70 s to 2 min)')
    """

    seconds: float
    low: float
    high: float
    batches: int

    def __str__(self) -> str:
        middle, low, high = map(span, (self.seconds, self.low, self.high))
        if low == high:
            return middle
        if len({text.split()[1] for text in (low, middle, high)}) == 1:
            low = low.split()[0]
            high = high.split()[0]
        return f"{middle} ({low} to {high})"


def data_line(splits: Splits) -> str:
    """Describe the data: images per part, classes, shape.

    Example:
        >>> from spikeloom.data import load_data
        >>> data_line(load_data("digits"))
        'data: digits: 1,197 training, 250 validation, 350 test images, 10 classes, 1x8x8'
    """
    counts = [f"{len(part):,}" for _, part in splits.parts()]
    plain = len(splits.shape) == 3 and not splits.scaling.time
    return (
        f"data: {splits.name}: {counts[0]} training, {counts[1]} validation, {counts[2]} test "
        f"{'images' if plain else 'samples'}, {_targets(splits)}, "
        f"{'x'.join(map(str, splits.shape))}"
    )


def _targets(splits: Splits) -> str:
    if not splits.train.y.is_floating_point():
        return f"{splits.classes} classes"
    return f"{splits.classes} numbers to answer" if splits.classes > 1 else "a number to answer"


def net_line(bench: Workbench) -> str:
    """Describe the net: name or text, parameters of a prediction, T."""
    net = bench.recipe.net
    text = net.preset or net.text or write(bench.net.spec)
    text = text if len(text) <= LONGEST_NET else text[: LONGEST_NET - 1] + "\N{HORIZONTAL ELLIPSIS}"
    count = sum(parameter.numel() for parameter in bench.inference_parameters())
    return f"net: {text}, {count:,} parameters, T = {bench.steps}"


def room_line(predicted: int, bench: Workbench) -> str:
    """Say what memory a batch will take, and what is free."""
    free = free_bytes(bench.fabric.device)
    return memory_line(predicted, bench) + ("" if free is None else f"; free {in_words(free)}")


def predict_seconds(bench: Workbench) -> Prediction | None:
    r"""Predict how long the epochs of a stage take, from batches that are measured.

    .. math:: E (n_b t_b + n_v t_v)

    with E epochs of n_b batches that are encoded and learned from in t_b, and n_v batches of
    validation that take t_v. Both are medians over different batches, after one that is not timed,
    and the quartiles are added alike. The optimizer's step and what follows the last epoch are not
    in it. The workbench is left as it was.

    Returns:
        The prediction; None where a batch gave a value that is not finite.
    """
    train, held = bench.splits.train, bench.splits.validation
    size, held_size = min(training_size(bench), len(train)), min(EVALUATION_BATCH, len(held))

    def rows_of(number: int, size: int, samples: Samples) -> Tensor:
        return (number * size + torch.arange(size)) % len(samples)

    def validate(number: int) -> None:
        batch = bench.batch(held, rows_of(number, held_size, held), epoch=0, part="validation")
        with torch.no_grad():
            predict(bench, batch)

    with unchanged(bench), suppress(NumericalError):
        once, _ = one_call(bench, size)

        def step(number: int) -> None:
            once(bench.batch(train, rows_of(number, size, train), epoch=0, part="train"))

        updates = len(batches(len(train), bench.stage.batch, None))
        shares = -(-len(held) // (held_size * bench.team.size))
        learning = _timed(step, updates)
        bench.modules().eval()
        validate(0)  # its kernels are compiled
        validating = _timed(validate, shares)
        low, middle, high = (
            bench.stage.epochs * (updates * batch + shares * check)
            for batch, check in zip(_quartiles(learning), _quartiles(validating), strict=True)
        )
        return Prediction(middle, low, high, learning.rounds + validating.rounds)
    return None


def _timed(call: Callable[[int], object], count: int) -> Timing:
    """Time a call on as many batches as is cheap beside an epoch, which has `count` of them."""
    first = stopwatch(lambda: call(0))
    rounds = int(max(FREE_SECONDS / max(first, 1e-9), SHARE * count))
    more = range(1, min(rounds, MOST_BATCHES)) if rounds >= FEWEST_BATCHES else ()
    return Timing((first, *(stopwatch(partial(call, number)) for number in more)))


def _quartiles(timing: Timing) -> tuple[float, float, float]:
    low, high = timing.quartiles
    return low, timing.median, high


def time_line(predicted: Prediction, bench: Workbench) -> str:
    """Say how long training will take, between which quartiles, and what that rests on."""
    epochs = bench.stage.epochs
    which = f" of stage {bench.number + 1}" if len(bench.recipe.stages) > 1 else ""
    return (
        f"time: about {predicted} for {epochs} epoch{'s' if epochs > 1 else ''}{which} "
        f"(measured on {predicted.batches} batches)"
    )
