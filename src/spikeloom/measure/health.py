"""Messages before and after the first epoch: predicted memory, dead and saturated layers.

"Training memory" is the peak of tensor allocations while a rule learns from one batch: what it
keeps for the backward pass or as traces, gradients, and temporary tensors. It is `peak_bytes` of
the cost record, so that the two can be compared. Weights, optimizer state, the
encoded batch and the data set come on top; `memory_line` and `memory_warning` count the first
three.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from spikeloom.base.memory import free_bytes, in_words
from spikeloom.measure.unchanged import one_call, training_size, unchanged
from spikeloom.meters.base import modes_kept, watch
from spikeloom.meters.firing import FiringMeter
from spikeloom.meters.peak import allocations, highest, peak_allocated
from spikeloom.program.batching import batches
from spikeloom.program.setup import Workbench
from spikeloom.records import units
from spikeloom.records.run import HealthRecord
from spikeloom.rules.base import RULES

PROBES = (4, 8)
"""Batch sizes from which memory is extrapolated."""

DEAD = 0.95
"""A layer is dead where this share of its neurons, or more, never fires.

Healthy layers have up to half of theirs silent: image borders, sparse codes, few steps.
"""

SATURATED = 0.2
"""A spiking layer is saturated where this share, or more, fires at every step on every sample.

Such a neuron is a bias that costs a spike per step. Healthy layers have none, or a tenth of them
at most, also at T = 1, since most neurons are driven by some samples and not by others. Layers at
a rate of 1/2 whose neurons are either on or off are not meant: they still tell samples apart.
"""


def predict_memory(bench: Workbench) -> int:
    r"""Predict the peak bytes of learning from one batch, without running one.

    The rule runs on two small batches. Each allocation and release of the one is matched with
    its counterpart in the other, its size taken as :math:`a + b B`, and the peak is read from the
    sequence so extrapolated: exact where the same operators run at every batch size, also where
    the peak moves to another place. Where that order differs, and on CUDA, the peaks of batches
    of a quarter and a half are extrapolated instead.

    The workbench is left as it was.
    """
    size, device = training_size(bench), bench.fabric.device
    with unchanged(bench):
        if size <= max(PROBES):
            return peak_allocated(one_call(bench, size)[0], device)
        if device.type == "cpu":
            small, large = (_allocations(bench, probe, size) for probe in PROBES)
            if len(small) == len(large):
                reach = (size - PROBES[0]) / (PROBES[1] - PROBES[0])
                pairs = zip(small, large, strict=True)
                return highest(least + reach * (most - least) for least, most in pairs)
        quarter, half = max(2, size // 4), size // 2
        low, high = (peak_allocated(one_call(bench, probe)[0], device) for probe in (quarter, half))
    return round(low + (size - quarter) / (half - quarter) * (high - low))


def _allocations(bench: Workbench, probe: int, size: int) -> list[int]:
    """Return the allocations of a small batch, with the kernels the whole one will take."""
    net, kept = bench.net, bench.net.execution
    net.execution = replace(kept, worth=-(-kept.worth * probe // size))
    try:
        return allocations(one_call(bench, probe)[0])
    finally:
        net.execution = kept


def memory_line(predicted: int, bench: Workbench) -> str:
    """Say what a batch will take, or a process's share of it; e.g. before the first epoch."""
    weights = _bytes(bench.modules().state_dict().values())
    return (
        f"training memory: about {in_words(predicted)} per batch of {training_size(bench)} "
        f"(T = {bench.steps}), weights and optimizer state "
        f"{in_words(weights + _optimizer_bytes(bench))}"
    )


def memory_warning(predicted: int, bench: Workbench) -> str | None:
    """Return a sentence where a batch will hardly fit into the free memory, with what to do."""
    size, free = training_size(bench), free_bytes(bench.fabric.device)
    probe = torch.arange(min(2, size))
    xs = bench.batch(bench.splits.train, probe, epoch=0, part="train").xs
    encoded = xs.untyped_storage().nbytes() // len(probe) * size
    fixed = _optimizer_bytes(bench)
    needed = predicted + encoded + fixed
    if free is None or needed <= free:
        return None
    fits = max(0, int((free - fixed) / (predicted + encoded) * size))
    advice = [f"set batch = {fits}" if fits else "take a smaller net"]
    if bench.rule.facts.memory == "linear" and bench.steps > 1:
        facts = {name: RULES.find(name).facts for name in RULES.names()}
        every = [entry for entry in facts.items() if entry[1].spiking and entry[1].order == "time"]
        constant = [name for name, entry in every if entry.memory == "constant"]
        advice += ["fewer steps"]
        advice += [f"a rule whose memory does not grow with T ({', '.join(constant)})"]
    return (
        f"training memory: expected at most the {in_words(free)} that are free on "
        f"{bench.fabric.device}, got about {in_words(needed)}; {' or '.join(advice)}."
    )


def layer_health(bench: Workbench, samples: int = 256) -> tuple[HealthRecord, ...]:
    """Judge every layer by the firing of its neurons on validation samples.

    Args:
        bench: at its present weights; it is left as it was.
        samples: number of validation samples, taken evenly over the part.

    Returns:
        One row per site with a unit, BackRes passes apart: site, spiking, neurons, samples,
        rate_per_step, silent_share (neurons that never fire), full_share (neurons that fire at
        every step they can on 95 % of the samples), verdict "ok", "dead" or "saturated". For
        units that do not spike, "fires" means an output other than 0, and nothing is saturated.
    """
    part = bench.splits.validation
    count = min(samples, len(part))
    chosen = torch.linspace(0, len(part) - 1, count).long()
    meter = FiringMeter()
    with modes_kept(bench.net), torch.no_grad(), bench.fabric.autocast():
        bench.net.eval()
        for rows in batches(count, bench.stage.batch, None):
            batch = bench.batch(part, chosen[rows], epoch=0, part="validation")
            with watch(bench.net, batch.xs, meter):
                bench.net(batch.xs, rng=batch.rng)
    return tuple(
        HealthRecord.of(
            site,
            site=site.name,
            verdict=_verdict(site.silent_share, site.full_share if site.spiking else 0.0),
        )
        for site in meter.read()
    )


def health_lines(health: Sequence[HealthRecord], tiny: str | None = None) -> list[str]:
    """Return a sentence for each layer that is dead or saturated, with what to do.

    Dead layers right behind a dead one are named in its sentence: they get no input.

    Args:
        health: as `layer_health` returns it.
        tiny: what to say of the input where that is so small that the first layer cannot fire.
    """
    lines: list[str] = []
    row = 0
    while row < len(health):
        record = health[row]
        row += 1
        if record.healthy:
            continue
        behind = []
        while record.verdict == "dead" and row < len(health) and health[row].verdict == "dead":
            behind.append(health[row].site)
            row += 1
        if record.verdict == "dead":
            lines.append(_dead(record, behind, health, tiny if record is health[0] else None))
        else:
            lines.append(_full(record, health))
    return lines


def _verdict(silent: float, full: float) -> str:
    if silent >= DEAD:
        return "dead"
    return "saturated" if full >= SATURATED else "ok"


def _dead(
    record: HealthRecord, behind: list[str], health: Sequence[HealthRecord], tiny: str | None
) -> str:
    assert record.silent_share is not None  # it was just measured
    share, what = record.silent_share, "fired" if record.spiking else "gave anything but 0"
    who = "no neuron" if share == 1 else f"only {units.percent(1 - share):.1f} % of its neurons"
    does = "lower v_th or the learning rate" if record.spiking else "lower the learning rate"
    also = f", and none did in {', '.join(behind)} behind it" if behind and share == 1 else ""
    if behind and not also:
        also = f", and {', '.join(behind)} behind it are dead too"
    todo = f"{tiny}." if tiny else f"{does}, raise the gain before it, or add a norm."
    return (
        f"{_named(record, health)} is dead: {who} {what} on {record.samples} validation samples"
        f"{also}; {todo}"
    )


def _full(record: HealthRecord, health: Sequence[HealthRecord]) -> str:
    assert record.full_share is not None
    return (
        f"{_named(record, health)} is saturated: {units.percent(record.full_share):.0f} % of its "
        f"neurons fired at every step on nearly all of {record.samples} validation samples (rate "
        f"{record.rate_per_step:.2f} per step); raise v_th, lower the learning rate or the gain "
        "before it, or add a norm."
    )


def _named(record: HealthRecord, health: Sequence[HealthRecord]) -> str:
    """Name a layer, with its pass where it has several."""
    layer, _, number = record.site.rpartition(".")
    passes = sum(other.site.rpartition(".")[0] == layer for other in health)
    return f"layer {record.site}" + (f" (pass {number})" if passes > 1 else "")


def _optimizer_bytes(bench: Workbench) -> int:
    """Return what the optimizer will keep."""
    return bench.stage.optimizer.copies * _bytes(parameter for _, parameter in bench.parameters())


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
