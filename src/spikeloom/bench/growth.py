"""How time and memory grow: with T and B in powers of two, and the online rules' memory with T."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from spikeloom.bench.plan import Plan
from spikeloom.bench.process import Process, Refused
from spikeloom.bench.spread import Rounds, Spread, seconds
from spikeloom.bench.workloads import SMALL_CONV, WORKLOADS, Workload
from spikeloom.records.progress import SILENT, Progress

Axis = Literal["T", "B"]

SIZES: dict[Axis, tuple[int, ...]] = {
    "T": tuple(2**power for power in range(8)),
    "B": tuple(2**power for power in range(9)),
}
QUICK_SIZES: dict[Axis, tuple[int, ...]] = {"T": (1, 2, 4), "B": (1, 2, 4)}

GROWING = ("bptt", "sltt", "dsr", "ide", "spide", "ann-fold")
"""Contenders whose growth is measured."""

FLAT_STEPS = (8, 64, 256)
QUICK_FLAT_STEPS = (2, 4)

GROWING_NETS = (WORKLOADS["mlp"], SMALL_CONV)

GROWTH_ROUNDS = 3


@dataclass(frozen=True)
class Curve:
    """Seconds per step of one contender against T or B.

    Args:
        workload: its name.
        contender: its name.
        axis: what grows.
        fixed: the other one.
        sizes: of what grows.
        seconds: median of each size.
        peaks: bytes of each size.
        spreads: of the seconds, with their quartiles.
    """

    workload: str
    contender: str
    axis: Axis
    fixed: int
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    peaks: tuple[int, ...]
    spreads: tuple[Spread, ...] = ()

    @property
    def steepest(self) -> Spread:
        """Largest factor by which time grows where the size doubles; 2 is linear growth.

        Its quartiles are the least and most that those of both sizes leave open.
        """
        pairs = list(zip(self.spreads, self.spreads[1:], strict=False))
        if not pairs:
            return Spread(1.0, 1.0, 1.0)
        before, after = max(pairs, key=lambda pair: pair[1].median / pair[0].median)
        return Spread(
            after.median / before.median,
            after.low / before.high,
            after.high / before.low,
            min(before.count, after.count),
        )


@dataclass(frozen=True)
class Flatness:
    """Peak memory of an online rule at several T.

    Args:
        workload: its name.
        contender: its name.
        steps: the T.
        peaks: bytes at each T.
    """

    workload: str
    contender: str
    steps: tuple[int, ...]
    peaks: tuple[int, ...]

    @property
    def growth(self) -> float:
        """Peak at the largest T over that at the smallest."""
        return self.peaks[-1] / self.peaks[0]


def measure_growth(plan: Plan, progress: Progress = SILENT) -> list[Curve]:
    """Time a step at every size, one process per contender, all sizes taking turns."""
    sizes = QUICK_SIZES if plan.quick else SIZES
    rounds = 1 if plan.quick else GROWTH_ROUNDS
    names = [name for name in GROWING if name in plan.contenders]
    curves = []
    for workload in GROWING_NETS:
        for axis, values in sizes.items():
            try:
                curves += _curves(plan, workload, axis, values, names, rounds, progress)
            except Refused as reason:
                progress.warn(f"{workload.name} against {axis} was not measured: {reason}")
    return curves


def measure_flatness(plan: Plan, progress: Progress = SILENT) -> list[Flatness]:
    """Measure the peak memory of our online rules at several T; none is timed."""
    steps = QUICK_FLAT_STEPS if plan.quick else FLAT_STEPS
    members = plan.members().items()
    online = [name for name, one in members if one.online and one.kind == "ours"]
    workloads = [one for one in plan.workloads if one.name in ("conv", "mlp")]
    found = []
    progress.phase("memory against T", len(online) * len(workloads) * len(steps), "figures")
    for workload in workloads:
        for name in online:
            peaks = []
            try:
                with Process(plan.threads, plan.python_of(name)) as process:
                    for count in steps:
                        table = workload.sized(steps=count)
                        facts = process.open(_key(table), name, table, timed=False)
                        peaks.append(int(facts["peak"]))
                        process.ask("close", key=_key(table))
                        progress.advance(1)
            except Refused as reason:
                progress.warn(f"{name} has no memory against T on {workload.name}: {reason}")
                continue
            found.append(Flatness(workload.name, name, steps, tuple(peaks)))
    return found


def _curves(
    plan: Plan,
    workload: Workload,
    axis: Axis,
    values: Sequence[int],
    names: Sequence[str],
    rounds: int,
    progress: Progress,
) -> list[Curve]:
    works = [
        workload.sized(steps=one) if axis == "T" else workload.sized(batch=one) for one in values
    ]
    progress.phase(
        f"{workload.name} against {axis}", len(names) * len(works) * (rounds + 1), "turns"
    )
    peaks: dict[str, list[int]] = {}
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        for name in names:
            process = Process(plan.threads, plan.python_of(name))
            stack.callback(process.close)
            processes[name] = process
            peaks[name] = []
            for work in works:
                peaks[name].append(int(process.open(_key(work), name, work)["peak"]))
                progress.advance(1)
        turns: dict[tuple[str, int], list[tuple[float, ...]]] = {}
        for _ in range(rounds):
            for place, work in enumerate(works):
                for name, process in processes.items():
                    reply = process.ask("turn", key=_key(work), steps=plan.steps)
                    turns.setdefault((name, place), []).append(tuple(reply["seconds"]))
                    progress.advance(1)
        times: dict[str, list[Rounds]] = {
            name: [turns[name, place] for place in range(len(works))] for name in names
        }
    fixed = workload.batch if axis == "T" else workload.steps
    return [
        Curve(
            workload.name,
            name,
            axis,
            fixed,
            tuple(values),
            tuple(seconds(rounds).median for rounds in times[name]),
            tuple(peaks[name]),
            tuple(seconds(rounds) for rounds in times[name]),
        )
        for name in names
    ]


def _key(workload: Workload) -> str:
    return f"{workload.name} {workload.steps} {workload.batch}"
