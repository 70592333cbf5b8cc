"""Run a plan: one process per contender, all of a workload alive, taking turns."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from spikeloom.bench.contender import Kind, Precision
from spikeloom.bench.machine import memory_left
from spikeloom.bench.plan import Plan
from spikeloom.bench.process import Process, Refused
from spikeloom.bench.workloads import Workload
from spikeloom.records.progress import SILENT, Progress

KEY = "step"

RESERVE = 0.15
"""Share of the memory that stays free: contenders keep what they have taken while others run."""


@dataclass(frozen=True)
class Row:
    """What was measured of one contender on one workload at one precision.

    Args:
        workload: its name.
        precision: of products.
        contender: its name.
        kind: floor, ours or peer.
        online: compared in memory with one pass of B samples.
        saving: spends time for memory.
        rounds: seconds of every timed step, by round.
        peak: bytes the allocator gave out at most during a step, above its start.
        process: bytes by which the process grew over building it and its first steps.
        first: seconds of the first step, compilation included.
        loss: of the first step.
        layout: of images.
        backend: kernels in use.
        version: of the peer.
    """

    workload: str
    precision: Precision
    contender: str
    kind: Kind
    online: bool
    saving: bool
    rounds: tuple[tuple[float, ...], ...]
    peak: int
    process: int
    first: float
    loss: float
    layout: str
    backend: str
    version: str = ""


@dataclass
class Measured:
    """Rows, and the contenders that are missing, with the reason."""

    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def find(self, workload: str, precision: str, contender: str) -> Row | None:
        """Return a row, or None."""
        for row in self.rows:
            if (row.workload, row.precision, row.contender) == (workload, precision, contender):
                return row
        return None


def measure(plan: Plan, progress: Progress = SILENT, found: Measured | None = None) -> Measured:
    """Measure every contender on every workload at every precision.

    Args:
        plan: what to run.
        progress: receives the steps done, and the contenders left out.
        found: gets the rows as they come, for who may be interrupted; a new one by default.
    """
    found = Measured() if found is None else found
    for workload in plan.workloads:
        for precision in plan.precisions:
            _measure_one(plan, workload, precision, found, progress)
    return found


def _measure_one(
    plan: Plan, workload: Workload, precision: Precision, found: Measured, progress: Progress
) -> None:
    title = f"{workload.name} {precision}"
    with ExitStack() as stack:
        open_ones: dict[str, tuple[Process, dict[str, Any]]] = {}
        names = [name for name, one in plan.members().items() if workload.images or not one.images]
        progress.phase(f"{title}, warming up", len(names), "contenders")
        for name in names:
            try:
                if memory_left() < RESERVE:
                    raise Refused("no memory is left beside the others; name fewer contenders")
                if name not in found.skipped:
                    process, facts = open_step(plan, name, workload, precision)
                    stack.callback(process.close)
                    open_ones[name] = process, facts
            except Refused as reason:
                _skip(found, name, title, reason, progress)
            progress.advance(1)
        times: dict[str, list[tuple[float, ...]]] = {name: [] for name in open_ones}
        progress.phase(title, plan.rounds * len(open_ones), "turns")
        for turn in range(plan.rounds):
            names = list(times)
            first = turn % max(1, len(names))
            for name in (*names[first:], *names[:first]):
                try:
                    reply = open_ones[name][0].ask("turn", key=KEY, steps=plan.steps)
                    times[name].append(tuple(reply["seconds"]))
                except Refused as reason:
                    del times[name]
                    _skip(found, name, title, reason, progress)
                progress.advance(1)
    members = plan.members()
    for name, rounds in times.items():
        one = members[name]
        found.rows.append(
            Row(
                workload.name,
                precision,
                name,
                one.kind,
                one.online,
                one.saving,
                tuple(rounds),
                **open_ones[name][1],
            )
        )


def open_step(
    plan: Plan, name: str, workload: Workload, precision: Precision
) -> tuple[Process, dict[str, Any]]:
    """Start a contender's process and build its step there, in its fastest layout.

    Raises:
        Refused: it cannot be built; the process has ended.
    """
    layout = None
    while True:
        process = Process(plan.threads, plan.python_of(name))
        try:
            facts = process.open(KEY, name, workload, precision=precision, layout=layout)
        except BaseException:
            process.close()
            raise
        layout = facts.get("choose")
        if layout is None:
            return process, facts
        process.close()


def _skip(found: Measured, name: str, title: str, reason: Refused, progress: Progress) -> None:
    text = str(reason)
    if "is not installed" in text:
        found.skipped[name] = text
    else:
        found.skipped[f"{name} ({title})"] = text
    progress.warn(f"{name} is left out of {title}: {text}")
