"""Events or dense? Inference of whole nets at several rates of input spikes, both ways in turn.

Usage: python benchmarks/event_inference.py [--rounds 15] [--threads 2] [--only mlp] [--cpu-time]

Inputs are spikes drawn at a rate; weights are fresh, so hidden rates are whatever they give (they
stand in the table). Both ways run the same compiled neurons. "events" decides per layer and input,
after one call in which it measures; "time" runs step after step as a stream does, one frame at a
time. Times are medians of interleaved rounds, the ratio is the median of the rounds' ratios.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from spikeloom.base.allocator import keep_memory
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.walk.events import EventEngine
from spikeloom.report.table import to_markdown

RATES = (0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Case:
    """A net and what it is fed with."""

    name: str
    net: str
    shape: tuple[int, ...]
    steps: int
    batch: int
    order: str = "layer"


CASES = (
    Case("mlp, batch 1", "f512 f512 f10", (784,), 25, 1),
    Case("mlp, batch 1, by time", "f512 f512 f10", (784,), 25, 1, "time"),
    Case("mlp, batch 128", "f512 f512 f10", (784,), 25, 128),
    Case("conv, batch 16", "c64 c128 P c256 P f256 f10", (3, 32, 32), 8, 16),
    Case("conv, batch 1, by time", "c64 c128 P c256 P f256 f10", (3, 32, 32), 8, 1, "time"),
)


def main() -> None:
    """Print one row per case and rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time, for a busy machine and 1 thread"
    )
    chosen = parser.parse_args()
    clock = time.process_time if chosen.cpu_time else time.perf_counter
    torch.set_num_threads(chosen.threads)
    keep_memory()
    rows = [["case", "rate in", "dense ms", "events ms", "dense / events", "range", "by events"]]
    with torch.no_grad():
        for case in CASES:
            if chosen.only in case.name:
                rows += [row(case, rate, chosen.rounds, clock) for rate in RATES]
    print(to_markdown(rows))


def row(case: Case, rate: float, rounds: int, clock: Callable[[], float]) -> list[str]:
    """Measure one case at one rate."""
    torch.manual_seed(0)
    net = SpikingNet(case.net, case.shape).eval()
    net.execution = Execution(kernels="compiled")
    xs = (torch.rand(case.steps, case.batch, *case.shape) < rate).float()
    engine = EventEngine()
    run = net.run_by_time if case.order == "time" else net.run_by_layer
    times = interleaved([lambda: run(xs), lambda: run(xs, engine.ops)], rounds, clock)
    ratios = sorted(dense / events for dense, events in times)
    dense, events = (median(column) for column in zip(*times, strict=True))
    sites = [
        f"{name} {use.density / use.looked:.1%}{'' if use.by_events else ' (dense)'}"
        for name, use in engine.used.items()
        if use.looked
    ]
    return [
        case.name,
        f"{rate:.0%}",
        f"{1000 * dense:.2f}",
        f"{1000 * events:.2f}",
        f"{median(ratios):.2f}",
        f"{ratios[len(ratios) // 4]:.2f}-{ratios[-1 - len(ratios) // 4]:.2f}",
        ", ".join(sites) or "none",
    ]


def interleaved(
    calls: list[Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> list[tuple[float, ...]]:
    """Return the seconds of each call in each round; who goes first changes."""
    for _ in range(3):
        for call in calls:
            call()
    times = []
    for turn in range(rounds):
        spent = [0.0] * len(calls)
        for place in range(len(calls)):
            number = (turn + place) % len(calls)
            start = clock()
            calls[number]()
            spent[number] = clock() - start
        times.append(tuple(spent))
    return times


if __name__ == "__main__":
    main()
