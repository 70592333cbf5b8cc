"""The cost record of a run: parameters, operations, energy, training memory."""

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch

from spikeloom.base.errors import SpikeloomError
from spikeloom.inference.evaluate import EVALUATION_BATCH, predict
from spikeloom.measure.unchanged import one_call, training_size, unchanged
from spikeloom.meters.base import watch
from spikeloom.meters.clock import Timing, rounds_for, stopwatch, time_interleaved
from spikeloom.meters.energy import FP32, INT32, NOTE, Energy, paper_energy, strict_energy
from spikeloom.meters.memory import Interval, memory_accesses
from spikeloom.meters.operations import OperationMeter
from spikeloom.meters.peak import peak_allocated
from spikeloom.meters.products import count_nonzero_operations, count_operations
from spikeloom.meters.record import OperationRecord
from spikeloom.meters.settling import settling
from spikeloom.meters.spikes import SpikeMeter, SpikeRecord
from spikeloom.program.batching import batches, fewest_samples
from spikeloom.program.setup import Workbench
from spikeloom.records.costs import (
    CostRecord,
    Energies,
    EnergyBounds,
    EnergyRecord,
    Growth,
    InferenceCosts,
    LayerEnergies,
    LayerRecord,
    MeanRecord,
    NonzeroProducts,
    SettlingRecord,
    Totals,
    TrainingCosts,
    UntrainedCosts,
)
from spikeloom.records.progress import SILENT, Progress
from spikeloom.records.units import milliseconds

LATENCY_ROUNDS = 21
"""Timed passes of one sample, where they are short."""

GROWTH_ROUNDS = 11
"""Timed calls of a rule on all steps and on half of them, where they are short."""

TIMING_SECONDS = 2.0
"""Seconds for measuring a time, beyond its fewest rounds."""

NONZERO_SAMPLES = 32
"""Most training samples whose products are examined."""

PER_SAMPLE = ("ac", "mac", "mac_dense", "ac_folded", "mac_folded")
"""Counts of a layer that are recorded per sample."""

METERED_SAMPLES = 1000
"""Test samples the meters watch; the standard errors in the record say whether that is enough."""


def measure_costs(
    bench: Workbench, *, samples: int = METERED_SAMPLES, progress: Progress = SILENT
) -> CostRecord:
    """Measure what inference and training cost, at the present weights.

    Joules are a model, not a measurement. The net is left as it was.

    Args:
        bench: what to measure.
        samples: how many test samples the meters watch, at most.
        progress: receives the number of samples metered.
    """
    with unchanged(bench):
        measured = _measured(bench, samples, progress)
        return CostRecord(**measured, training=_training(bench))


def measure_net(
    bench: Workbench, *, samples: int = METERED_SAMPLES, progress: Progress = SILENT
) -> UntrainedCosts:
    """Measure what inference costs, of a net that its rule refuses; see `measure_costs`."""
    with unchanged(bench):
        return UntrainedCosts(**_measured(bench, samples, progress), training=None)


def _measured(bench: Workbench, samples: int, progress: Progress) -> dict[str, Any]:
    """Measure everything but training, by field of `Costs`."""
    operations, spikes = metered(bench, samples, progress)
    return {
        "note": f"energies: {NOTE}, in pJ per inference",
        "parameters": sum(parameter.numel() for parameter in bench.inference_parameters()),
        "metered_samples": operations.samples,
        "spikes": MeanRecord.of(spikes.total),
        "rate_per_step": spikes.rate_per_step,
        "spikes_per_neuron": spikes.spikes_per_neuron,
        "ac": MeanRecord.of(operations.ac),
        "mac": MeanRecord.of(operations.mac),
        "formula_macs": operations.formula,
        "totals": Totals(**{name: operations.per_sample(name) for name in Totals.model_fields}),
        "energy": _energies(operations),
        "inference": _inference(bench),
        "settling": _settling(bench),
        "layers": _layers(operations, spikes),
    }


def metered(
    bench: Workbench, samples: int, progress: Progress = SILENT
) -> tuple[OperationRecord, SpikeRecord]:
    """Run the first test samples under meters; the head's sites are shown to them too.

    Args:
        bench: what to run; it is left in evaluation mode.
        samples: how many, at most.
        progress: receives the number of samples done.
    """
    operations, spikes = OperationMeter(), SpikeMeter()
    net, head = bench.net, bench.head
    net.eval()
    head.eval()
    count = min(samples, len(bench.splits.test))
    progress.phase("costs", count)
    with torch.no_grad():
        for index in batches(count, EVALUATION_BATCH, None):
            batch = bench.batch(bench.splits.test, index, epoch=0, part="test")
            with watch(net, batch.xs, operations, spikes, kind=bench.input_kind):
                features, _ = predict(bench, batch)
                for site in head.inference_sites:
                    with bench.fabric.autocast():
                        scores = site.synapse(head.reduced(features)).unsqueeze(0)
                    operations.see(site, features, scores, scores)
            progress.advance(len(index))
    return operations.read(), spikes.read()


def _energies(record: OperationRecord) -> Energies:
    """Price the same counts in both conventions, in pJ.

    "dense_ann" is no measured net: all products of the spec's ReLU net, run once. "driven" is what
    layers take that read the net's own spikes. The last two add memory accesses to strict energies
    of the same type.
    """
    integer, real = strict_energy(record, INT32), strict_energy(record, FP32)
    return Energies(
        paper_int32=_energy(paper_energy(record, INT32)),
        paper_int32_output=_energy(paper_energy(record, INT32, activity="output")),
        strict_int32=_energy(integer),
        strict_fp32=_energy(real),
        strict_fp32_folded=_energy(strict_energy(record, FP32, fold_pool=True)),
        memory_aware_int32=_bounds(integer.snn, memory_accesses(record, INT32)),
        memory_aware_fp32=_bounds(real.snn, memory_accesses(record, FP32)),
    )


def _energy(priced: Energy) -> EnergyRecord:
    return EnergyRecord.of(priced, net=priced.snn, dense_ann=priced.ann)


def _bounds(strict: float, accesses: Interval) -> EnergyBounds:
    return EnergyBounds(lower=strict + accesses.lower, upper=strict + accesses.upper)


def _settling(bench: Workbench) -> SettlingRecord | None:
    """Follow the rates of a net with feedback on some samples; None where none are defined."""
    if not bench.net.spec.feedback or not bench.net.spec.spiking:
        return None
    count = min(EVALUATION_BATCH, len(bench.splits.test))
    batch = bench.batch(bench.splits.test, torch.arange(count), epoch=0, part="test")
    try:
        with bench.fabric.autocast():
            result = settling(bench.net, batch.xs)
    except SpikeloomError:
        return None
    if not all(map(isfinite, (*result.residuals, *result.rates))):
        return None
    return SettlingRecord(samples=count, residuals=result.residuals, rates=result.rates)


@torch.no_grad()
def _inference(bench: Workbench) -> InferenceCosts:
    """Time the prediction of one encoded sample, all T steps, on the run's device and threads."""
    bench.modules().eval()
    sample = bench.batch(bench.splits.test, torch.tensor([0]), epoch=0, part="test")
    calls = {"sample": lambda: predict(bench, sample)}
    predict(bench, sample)  # kernels are compiled
    rounds = rounds_for(stopwatch(calls["sample"]), most=LATENCY_ROUNDS, budget=TIMING_SECONDS)
    timing = time_interleaved(calls, rounds=rounds)["sample"]
    return InferenceCosts(batch=1, **_timed("ms_per_sample", timing))


def _timed(name: str, timing: Timing) -> dict[str, Any]:
    """Return a time in ms as the fields of a record; no median where it is in doubt."""
    milli = timing.map(milliseconds)
    return {
        name: None if timing.doubt else milli.median,
        f"{name}_quartiles": milli.quartiles,
        f"{name}_doubt": timing.doubt,
        "rounds": timing.rounds,
    }


def _training(bench: Workbench) -> TrainingCosts:
    """Measure one call of the rule on a batch of the recipe's size, without updating anything."""
    size = training_size(bench)
    once, input_bytes = one_call(bench, size)
    peak = peak_allocated(once, bench.fabric.device)
    forward, backward = count_operations(once).per_sample(size)
    return TrainingCosts(
        batch=size,
        peak_bytes=peak,
        input_bytes=input_bytes,
        forward_macs=forward,
        backward_macs=backward,
        nonzero=_nonzero(bench, size),
        growth=_growth(bench, once, peak, size),
    )


def _nonzero(bench: Workbench, size: int) -> NonzeroProducts | None:
    """Count products without zeros on a quarter of the batch: examining operands takes memory."""
    some = max(min(-(-size // 4), NONZERO_SAMPLES), fewest_samples(bench))
    try:
        result = count_nonzero_operations(one_call(bench, some)[0])
    except torch.OutOfMemoryError:
        return None
    per_sample = {name: getattr(result, name) / some for name in NonzeroProducts.model_fields}
    return NonzeroProducts(**per_sample)


def _growth(bench: Workbench, once: Callable[[], None], peak: int, size: int) -> Growth | None:
    """Measure the same call on half the steps; None where there is no half, or none the rule takes.

    The differences over the steps say what one more step costs, whatever a call costs at T = 0.
    """
    steps, fewer = bench.steps, -(-bench.steps // 2)
    if fewer == steps:
        return None
    try:
        part, _ = one_call(bench, size, steps=fewer)
    except SpikeloomError:  # e.g. an option that names a later step
        return None
    low = peak_allocated(part, bench.fabric.device)
    rounds = rounds_for(2 * stopwatch(once), most=GROWTH_ROUNDS, budget=TIMING_SECONDS)
    timed = time_interleaved({"part": part, "whole": once}, rounds=rounds)
    more = Timing(  # of each round, so that what both met in it cancels
        tuple(
            (whole - brief) / (steps - fewer)
            for brief, whole in zip(timed["part"].times, timed["whole"].times, strict=True)
        )
    )
    return Growth(
        steps=(fewer, steps),
        peak_bytes=(low, peak),
        ms=tuple(milliseconds(timed[name].median) for name in ("part", "whole")),
        bytes_per_step=(peak - low) / (steps - fewer),
        **_timed("ms_per_step", more),
    )


def _layers(operations: OperationRecord, spikes: SpikeRecord) -> tuple[LayerRecord, ...]:
    """Return one row per layer and pass."""
    rates = {site.name: site for site in spikes.sites}
    paper, strict = (
        {layer.name: layer.ac + layer.mac for layer in energy.layers}
        for energy in (paper_energy(operations, INT32), strict_energy(operations, FP32))
    )
    rows = []
    for site in operations.sites:
        seen = rates.get(site.name)
        rows.append(
            LayerRecord.of(
                site,
                site=site.name,
                formula_macs=site.formula,
                rate_per_step=seen.rate_per_step if seen else None,
                spikes=seen.spikes / seen.samples if seen else None,
                **{name: getattr(site, name) / site.samples for name in PER_SAMPLE},
                energy=LayerEnergies(
                    paper_int32=paper.get(site.name, 0.0), strict_fp32=strict.get(site.name, 0.0)
                ),
            )
        )
    return tuple(rows)
