"""What a run says at its start: the data, the net, and the time that was measured on them."""

from contextlib import suppress

import torch

from spikeloom.base.errors import NumericalError
from spikeloom.base.memory import free_bytes, in_words
from spikeloom.data import Splits
from spikeloom.inference.evaluate import EVALUATION_BATCH, predict
from spikeloom.measure.health import memory_line
from spikeloom.measure.unchanged import one_call, training_size, unchanged
from spikeloom.meters.clock import stopwatch
from spikeloom.nets.spec.grammar import write
from spikeloom.program.setup import Workbench, batches
from spikeloom.records.units import span

LONGEST_NET = 100
"""Characters of a net's text in the line about it; the record has it whole."""


def data_line(splits: Splits) -> str:
    """Say what is learned from: images per part, classes, shape.

    Example:
        >>> from spikeloom.data import load_data
        >>> data_line(load_data("digits"))
        'data: digits: 1,197 training, 250 validation, 350 test images, 10 classes, 1x8x8'
    """
    counts = [f"{len(part):,}" for _, part in splits.parts()]
    plain = len(splits.shape) == 3 and not splits.scaling.time
    return (
        f"data: {splits.name}: {counts[0]} training, {counts[1]} validation, {counts[2]} test "
        f"{'images' if plain else 'samples'}, {splits.classes} classes, "
        f"{'x'.join(map(str, splits.shape))}"
    )


def net_line(bench: Workbench) -> str:
    """Say what is trained: the net by name or text, T, and the parameters of a prediction."""
    net = bench.recipe.net
    text = net.preset or net.text or write(bench.net.spec)
    text = text if len(text) <= LONGEST_NET else text[: LONGEST_NET - 1] + "\N{HORIZONTAL ELLIPSIS}"
    count = sum(one.numel() for one in bench.inference_parameters())
    return f"net: {text}, {count:,} parameters, T = {bench.steps}"


def room_line(predicted: int, bench: Workbench) -> str:
    """Say what memory a batch will take, and what is free."""
    free = free_bytes(bench.fabric.device)
    return memory_line(predicted, bench) + ("" if free is None else f"; free {in_words(free)}")


def predict_seconds(bench: Workbench) -> float | None:
    r"""Predict how long the epochs of a stage take, from batches that are measured.

    .. math:: E (n_b (t_{enc} + t_{learn}) + \lceil n_v / b_v \rceil t_v)

    with E epochs of n_b batches, encoded in t_enc and learned from in t_learn, and validation on
    n_v samples in batches of b_v that take t_v. One of each is timed after one that is not. The
    optimizer's step and what follows the last epoch are not in it. The workbench is left as it was.

    Returns:
        Seconds; None where the batch gave a value that is not finite.
    """
    train, held = bench.splits.train, bench.splits.validation
    size, held_size = training_size(bench), min(EVALUATION_BATCH, len(held))
    rows, held_rows = torch.arange(min(size, len(train))), torch.arange(held_size)

    def validate() -> None:
        with torch.no_grad():
            predict(bench, bench.batch(held, held_rows, epoch=0, part="validation"))

    with unchanged(bench), suppress(NumericalError):
        once, _ = one_call(bench, len(rows))
        encoding = stopwatch(lambda: bench.batch(train, rows, epoch=0, part="train"))
        learning = stopwatch(once)
        bench.modules().eval()
        validate()  # its kernels are compiled
        validating = stopwatch(validate)
        updates = len(batches(len(train), bench.stage.batch, None))
        shares = -(-len(held) // (held_size * bench.team.size))
        return bench.stage.epochs * (updates * (encoding + learning) + shares * validating)
    return None


def time_line(seconds: float, bench: Workbench) -> str:
    """Say how long training will take, and what that rests on."""
    epochs = bench.stage.epochs
    which = f" of stage {bench.number + 1}" if len(bench.recipe.stages) > 1 else ""
    return (
        f"time: about {span(seconds)} for {epochs} epoch{'s' if epochs > 1 else ''}{which} "
        "(measured: one batch of training and one of validation)"
    )
