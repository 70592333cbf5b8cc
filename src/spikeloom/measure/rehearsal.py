"""Errors that would appear only in training or at its end, found on a few samples beforehand."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from spikeloom.base.errors import (
    ConfigError,
    NumericalError,
    SpikeloomError,
    UnsupportedNet,
    too_big,
)
from spikeloom.base.memory import in_words, total_bytes
from spikeloom.data import Splits
from spikeloom.encoders import Encoder
from spikeloom.inference.over_time import answers
from spikeloom.measure.costs import metered
from spikeloom.measure.unchanged import one_call, training_size, unchanged
from spikeloom.meters.peak import peak_allocated
from spikeloom.program.batching import batches, fewest_samples
from spikeloom.program.recipe import Recipe
from spikeloom.program.setup import Workbench, prepare, set_up
from spikeloom.program.tables import placed

if TYPE_CHECKING:
    from spikeloom.program.fabric import Place

SAMPLES = 2
"""Samples of a rehearsal; norms may need as many, and nothing needs more."""

LONG_ENOUGH = 128
"""Steps after which the peak of a longer train grows by the step."""

NEAR = 64
"""Bytes that a rule may keep of a neuron and step at most, roughly."""

READ_AT_ONCE = 1024
"""Samples that are scaled at a time where an encoder checks all of them."""

_FREE = ("name", "seed", "paper", "published")
_FREE_IN_STAGE = ("epochs", "schedule", "clip", "patience", "select")
_FREE_IN_OPTIMIZER = ("lr", "weight_decay", "betas")


def set_up_first(recipe: Recipe, splits: Splits, fabric: "Place") -> Workbench:
    """Build the stages of a recipe and rehearse each at its initial weights; return the first.

    Raises:
        ConfigError, DataError, ShapeError, UnsupportedNet: what does not fit, with its path.
    """
    for number in range(1, len(recipe.stages)):  # they are built again in their turn
        rehearse(set_up(recipe, splits, stage=number, fabric=fabric))
    first = set_up(recipe, splits, stage=0, fabric=fabric)
    rehearse(first)
    return first


def rehearse(bench: Workbench) -> None:
    """Train a stage on a few samples, predict others and meter it; nothing is kept.

    A value that is not finite is no refusal: training stops at it by itself and names the epoch.

    Raises:
        SpikeloomError: whatever rule, net, head, encoder or meters refuse.
    """
    _check_samples(bench)
    train = len(bench.splits.train)
    with unchanged(bench), suppress(NumericalError):
        _check_steps(bench, min(SAMPLES, train))
        one_call(bench, min(max(SAMPLES, fewest_samples(bench)), train))
        bench.modules().eval()
        for part, samples in (("validation", bench.splits.validation), ("test", bench.splits.test)):
            few = torch.arange(min(SAMPLES, len(samples)))
            batch = bench.batch(samples, few, epoch=0, part=part)
            with torch.no_grad():
                answers(bench, batch, (bench.steps,))
        metered(bench, SAMPLES)


def _check_steps(bench: Workbench, size: int) -> None:
    """Refuse a T whose trains would never fit, by what a step adds to the peak of a short train.

    Only where T values of every neuron come near the memory there is; nothing is measured else.

    Raises:
        ConfigError: a batch needs more memory than the device has, whatever else uses it.
    """
    room, device = total_bytes(bench.fabric.device), bench.fabric.device
    step = NEAR * sum(prod(site.out_shape) for site in bench.net.sites)
    count = training_size(bench)
    if room is None or step * bench.steps * count < room:
        return
    half = min(LONG_ENOUGH, room // (8 * step * size)) or 1
    if bench.steps <= 2 * half:
        return
    kept, bench.net.execution = bench.net.execution, replace(bench.net.execution, worth=1)
    try:  # with the kernels that the long train will take
        calls = (one_call(bench, size, steps=steps)[0] for steps in (half, 2 * half))
        few, more = (peak_allocated(call, device) for call in calls)
    finally:
        bench.net.execution = kept
    needed = (more - few) / half * bench.steps * count / size
    if needed > room:
        raise ConfigError.of(
            f"stages.{bench.number}",
            f"what fits into the {in_words(room)} of {device}",
            f"about {in_words(int(needed))} for a batch of {count} at T = {bench.steps}",
            "make net, batch or steps smaller",
        )


def _check_samples(bench: Workbench) -> None:
    """Let an encoder check all samples, where it cannot encode every value.

    Raises:
        DataError: a sample cannot be encoded; the message names its part and about its row.
    """
    encoder = bench.encoder
    if type(encoder).check is Encoder.check or not bench.rule.facts.spiking:
        return
    for part, samples in bench.splits.parts():
        for rows in batches(len(samples), READ_AT_ONCE, None):
            x, _ = samples.take(rows, bench.dtype)
            with placed(f"data.{bench.splits.name}.{part}, from row {int(rows[0])}"):
                encoder.check(x)


def refusal(recipe: Recipe, splits: Splits) -> str | None:
    """Return why a rule refuses the net of one of a recipe's stages; None where none does.

    A failure that is no refusal is left to the run, which meets it again and keeps its traceback.

    Raises:
        ConfigError, DataError, ShapeError: what does not fit, with its path.
    """
    for number in range(len(recipe.stages)):
        with _fitting():
            bench = set_up(recipe, splits, stage=number, prepared=False, training=True)
        try:
            with _fitting():
                prepare(bench)
                rehearse(bench)
        except UnsupportedNet as error:
            return str(error)
        except SpikeloomError:
            raise
        except Exception:  # noqa: BLE001  of somebody's own rule or unit
            return None
    return None


@contextmanager
def _fitting() -> Iterator[None]:
    """Turn an error for want of memory into one line."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:
        refused = too_big(error)
        if refused is None:
            raise
        raise refused from None


def essence(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe can be refused: not rates, schedules, epochs, seed or provenance.

    Two recipes with one essence are refused for the same reason, or not at all.
    """
    table = recipe.model_dump(mode="json", exclude=set(_FREE))
    for stage in table["stages"]:
        for key in _FREE_IN_STAGE:
            del stage[key]
        for key in _FREE_IN_OPTIMIZER:
            del stage["optimizer"][key]
    return table
