"""Everything one benchmark found."""

from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any

from spikeloom.bench.growth import Curve, Flatness, measure_flatness, measure_growth
from spikeloom.bench.machine import busy, machine
from spikeloom.bench.measure import Measured, measure
from spikeloom.bench.neuron import SHAPE
from spikeloom.bench.plan import Plan
from spikeloom.bench.process import Process, Refused
from spikeloom.bench.reach import Figure, reach
from spikeloom.records.progress import SILENT, Progress

NEURON_ROUNDS = 15
QUICK_SHAPE = (4, 2, 16, 8, 8)


@dataclass
class Result:
    """What one benchmark found.

    Args:
        found: rows, and who is missing.
        machine: hardware and versions.
        neuron: the neuron alone, or None where none of ours took part.
        flatness: memory of online rules against T.
        curves: time and memory against T and B.
        quick: whether sizes were small.
        stopped: whether it was interrupted.
        day: when, as an ISO date.
    """

    found: Measured
    machine: dict[str, str]
    neuron: dict[str, Any] | None = None
    flatness: list[Flatness] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    quick: bool = False
    stopped: bool = False
    day: str = field(default_factory=lambda: date.today().isoformat())

    def figures(self) -> list[Figure]:
        """Return the figures to reach; small sizes are not judged."""
        figures = reach(self.found, self.neuron, self.flatness, self.curves)
        return [replace(one, limit=None) for one in figures] if self.quick else figures

    def to_dict(self) -> dict[str, Any]:
        """Return everything as tables for JSON."""
        figures = [asdict(one) | {"met": one.met, "doubt": one.doubt} for one in self.figures()]
        return {**asdict(self), "figures": figures}


def run(plan: Plan, progress: Progress = SILENT) -> Result:
    """Run a plan; what was found so far is the result of one that is interrupted."""
    about = machine()  # its load is that of before
    if busy():
        progress.warn(
            f"other work is running (load {about['load before']}): times will be too long, and "
            "ratios uneven; run the benchmark alone"
        )
    result = Result(Measured(), about, quick=plan.quick)
    ours = any(one.kind == "ours" for one in plan.members().values())
    try:
        measure(plan, progress, result.found)
        result.neuron = _neuron(plan, progress) if ours else None
        if plan.growth:
            result.flatness = measure_flatness(plan, progress)
            result.curves = measure_growth(plan, progress)
    except KeyboardInterrupt:
        result.stopped = True
        progress.warn("stopped: what was measured so far follows")
    return result


def _neuron(plan: Plan, progress: Progress) -> dict[str, Any] | None:
    shape = QUICK_SHAPE if plan.quick else SHAPE
    progress.phase("neuron alone", 1, "figures")
    try:
        with Process(plan.threads) as process:
            reply = process.ask("neuron", shape=shape, rounds=2 if plan.quick else NEURON_ROUNDS)
    except Refused as reason:
        progress.warn(f"the neuron alone was not measured: {reason}")
        return None
    return {**reply, "shape": shape}
