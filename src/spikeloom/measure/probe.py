"""Spikes, potentials and answers of a few test samples, for the page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.data import Samples
from spikeloom.inference.over_time import answers
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.spec.codec import to_table
from spikeloom.neurons.base import State
from spikeloom.neurons.declared import CHARGED, FIRING_LEVEL
from spikeloom.program.setup import Workbench
from spikeloom.records import part
from spikeloom.records.samples import ImageRecord, SampleRecord, SamplesRecord, TraceRecord
from spikeloom.records.storage import FORMAT

LARGEST = 300_000
"""Bytes of samples.json at most: neurons are dropped first, then samples, then late steps."""

THINNINGS = 2
"""How often neurons are halved before samples are dropped."""

IMAGE_SIDE = 48
"""Larger images are averaged down to this side."""


@torch.no_grad()
def probe(bench: Workbench, count: int = 4, neurons: int = 48, traces: int = 6) -> SamplesRecord:
    """Record some test samples on their way through the net: the content of samples.json.

    The samples are the first of the test part with different classes. Of each spiking layer and
    pass, `neurons` are shown: the layer is cut into as many stretches and the most active neuron of
    each is taken (the first where several are), the same for all samples. So they are spread
    evenly, but fire more than the layer's mean. `traces` of them are chosen likewise for their
    potentials, which come from running the unit's own equation on the currents once more. A unit
    that declares no `charged` shows no potentials, one without `firing_level` no level.

    Args:
        bench: what to run.
        count: samples.
        neurons: shown per layer and pass, at most.
        traces: potentials per layer and pass, at most.
    """
    record = _record(bench, count, neurons, traces)
    for _ in range(THINNINGS):
        if _too_large(record):
            record = _with(record, tuple(map(_thinned, record.samples)))
    while _too_large(record) and len(record.samples) > 1:
        record = _with(record, record.samples[: len(record.samples) // 2])
    while _too_large(record) and record.steps > 1:
        steps = record.steps // 2
        record = _with(record, tuple(_cut(sample, steps) for sample in record.samples))
        record = record.model_copy(update={"steps": steps})
    return record


def _too_large(record: SamplesRecord) -> bool:
    return len(json.dumps(record.table())) > LARGEST


def _with(record: SamplesRecord, samples: tuple[SampleRecord, ...]) -> SamplesRecord:
    return record.model_copy(update={"samples": samples})


def _thinned(sample: SampleRecord) -> SampleRecord:
    """Drop every second trace, and every second neuron that has none."""
    layers = []
    for layer in sample.layers:
        traced = layer.traced[::2]
        kept = [row for row, one in enumerate(layer.shown) if row % 2 == 0 or one in traced]
        left = {
            "shown": tuple(layer.shown[row] for row in kept),
            "spikes": tuple(layer.spikes[row] for row in kept),
            "traced": traced,
            "v": layer.v[::2],
            "levels": layer.levels[::2],
        }
        layers.append(layer.model_copy(update=left))
    return sample.model_copy(update={"layers": tuple(layers)})


def _cut(sample: SampleRecord, steps: int) -> SampleRecord:
    """Drop all but the first steps."""
    layers = tuple(
        layer.model_copy(
            update={
                "spikes": tuple(tuple(t for t in train if t < steps) for train in layer.spikes),
                "v": tuple(v[:steps] for v in layer.v),
            }
        )
        for layer in sample.layers
    )
    return sample.model_copy(update={"logits": sample.logits[:steps], "layers": layers})


def _answered(target: Tensor, answer: Tensor) -> dict[str, Any]:
    """Return what should have been answered, and of classes what was."""
    if target.is_floating_point():
        return {"target": _short(target.tolist())}
    return {"label": int(target), "prediction": int(answer.argmax())}


def choose(y: Tensor, count: int) -> list[int]:
    """Return the first rows of different classes, then the first of the others, in order.

    Of real targets they are the first rows.

    Shape:
        y: [N, ...].
    """
    if y.is_floating_point():
        return list(range(min(count, len(y))))
    seen: set[int] = set()
    first, rest = [], []
    for row, label in enumerate(y.tolist()):
        (rest if label in seen else first).append(row)
        seen.add(label)
        if len(first) == count:
            break
    return sorted((first + rest)[:count])


def spread(activity: Tensor, count: int) -> list[int]:
    """Cut positions into `count` stretches and return the most active of each.

    Shape:
        activity: [N].
    """
    size = len(activity)
    count = min(count, size)
    bounds = [row * size // count for row in range(count + 1)]
    return [
        start + int(activity[start:end].argmax())
        for start, end in zip(bounds, bounds[1:], strict=False)
    ]


def _record(bench: Workbench, count: int, neurons: int, traces: int) -> SamplesRecord:
    """Record everything, whatever its size."""
    test = bench.splits.test
    rows = choose(test.y, count)
    batch = bench.batch(test, torch.tensor(rows), epoch=0, part="test")
    activity = _Activity()
    with bench.net.observe(activity):
        final = answers(bench, batch, range(1, bench.steps + 1))
    shown = {name: spread(one, neurons) for name, one in activity.spikes.items()}
    traced = {
        name: [shown[name][row] for row in spread(one[shown[name]], traces)]
        for name, one in activity.spikes.items()
    }
    watcher = _Watcher(shown, traced)
    with bench.net.observe(watcher):
        answers(bench, batch, (bench.steps,))
    return SamplesRecord(
        format=FORMAT,
        steps=bench.steps,
        classes=tuple(bench.splits.labels) or None,
        samples=tuple(
            SampleRecord(
                index=row,
                **_answered(batch.target[place], final.logits[-1, place]),
                image=_image(test, row),
                logits=tuple(_short(one) for one in final.logits[:, place].tolist()),
                layers=watcher.layers(bench.net, place),
            )
            for place, row in enumerate(rows)
        ),
    )


class _Activity:
    """Observer that sums the spikes of every neuron."""

    def __init__(self) -> None:
        self.spikes: dict[str, Tensor] = {}

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        if site.unit is None or not site.unit.spiking:
            return
        here = s_out.flatten(2).count_nonzero((0, 1)).cpu()  # [N]
        before = self.spikes.get(site.name)
        self.spikes[site.name] = here if before is None else before + here


@dataclass(eq=False)
class Trace:
    """Spikes of one site, beside those of its unit run once more.

    Shape:
        s, again: [T, B, shown]; u, level: [T, B, traced] and [traced].
    """

    s: list[Tensor]
    again: list[Tensor]
    u: list[Tensor]
    state: State
    level: Tensor | None


class _Watcher:
    """Observer that keeps chosen neurons' spikes and runs their unit once more on the currents."""

    def __init__(self, shown: dict[str, list[int]], traced: dict[str, list[int]]) -> None:
        self.shown = shown
        self.traced = traced
        self.traces: dict[str, Trace] = {}

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        if site.name not in self.shown or site.neuron is None:
            return
        unit, theta = site.neuron.unit, site.neuron.theta()
        if site.name not in self.traces:
            state = unit.init(current[0]) if unit.stateful else None
            self.traces[site.name] = Trace([], [], [], state, self._level(site))
        trace = self.traces[site.name]
        shown, traced = self.shown[site.name], self.traced[site.name]
        charged = CHARGED.of(unit)
        for now, out in zip(current.unbind(0), s_out.unbind(0), strict=True):
            if charged is not None:
                u = charged(trace.state, now, theta)
                trace.u.append(u.flatten(1)[:, traced].float().cpu())
            again, trace.state = unit.step(trace.state, now, theta)
            trace.again.append(again.flatten(1)[:, shown].cpu())
            trace.s.append(out.flatten(1)[:, shown].cpu())

    def layers(self, net: SpikingNet, place: int) -> tuple[TraceRecord, ...]:
        """Return the rows of one sample, in the net's order."""
        rows = []
        for site in net.sites:
            trace = self.traces.get(site.name)
            if trace is None or site.neuron is None:
                continue
            level = trace.level
            s = torch.stack(trace.s)[:, place]  # [T, shown]
            v = torch.stack(trace.u)[:, place].T.tolist() if trace.u else []
            rows.append(
                TraceRecord(
                    site=site.name,
                    unit=to_table(site.neuron.unit)["name"],
                    neurons=_count(site),
                    v_th=None if level is None else _rounded(float(level.mean())),
                    shown=tuple(self.shown[site.name]),
                    spikes=tuple(tuple(one.nonzero().flatten().tolist()) for one in s.T),
                    traced=tuple(self.traced[site.name]) if v else (),
                    v=tuple(_short(one) for one in v),
                    levels=_short(level.tolist()) if v and level is not None else (),
                )
            )
        return tuple(rows)

    def _level(self, site: Site) -> Tensor | None:
        """Return the potential at which each traced neuron fires; None where no unit says it."""
        assert site.neuron is not None
        level = FIRING_LEVEL.of(site.neuron.unit)
        if level is None:
            return None
        value = torch.as_tensor(level(site.neuron.theta())).float().cpu()
        return value.expand(site.out_shape).flatten()[self.traced[site.name]]


def _image(samples: Samples, row: int) -> ImageRecord | None:
    """Return a sample as bytes, as it is stored; None where it is no grey or colour image."""
    shape, scaling = samples.shape, samples.scaling
    if len(shape) != 3 or shape[0] not in (1, 3):
        return None
    x = samples.take(torch.tensor([row]))[0]
    if scaling.mean:
        mean, std = (x.new_tensor(one).view(-1, 1, 1) for one in (scaling.mean, scaling.std))
        x = x * std + mean
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1 + 1e-3:  # no such scale: the image's own range
        x = (x - low) / ((high - low) or 1.0)
    sides = (min(shape[1], IMAGE_SIDE), min(shape[2], IMAGE_SIDE))
    if sides != shape[1:]:
        x = F.adaptive_avg_pool2d(x, sides)
    pixels = (255 * x[0]).round().clamp(0, 255).to(torch.uint8)
    channels, height, width = pixels.shape
    return ImageRecord(shape=(channels, height, width), pixels=tuple(pixels.flatten().tolist()))


def _count(site: Site) -> int:
    count = 1
    for size in site.out_shape:
        count *= size
    return count


def _short(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(_rounded(value) for value in values)


def _rounded(value: float) -> float:
    """Keep four digits; a potential beyond what records hold is shown at its bound."""
    return float(f"{max(-part.LARGEST, min(part.LARGEST, value)):.4g}")
