"""The targets: limit, measured figure, and whether it is met."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spikeloom.bench.growth import Curve, Flatness
from spikeloom.bench.measure import Measured, Row
from spikeloom.bench.spread import Spread, fastest, time_ratio
from spikeloom.records import units

FULL = "bptt"
"""The contender of ours with the reference's gradients."""

FLAT = 1.05
"""Growth of memory from the smallest to the largest T that still counts as flat."""

STRAIGHT = 2.3
"""Growth of time where T or B doubles that still counts as linear: 2, and 15 % for noise."""

NEURON = 2.5


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Args:
        what: is measured.
        where: workload and precision.
        value: measured; None where the contenders for it did not take part.
        limit: to keep to, or None where the figure only informs.
        above: the limit is a floor instead of a ceiling.
        beside: who it is compared with.
        timed: the value is one of time, which needs rounds enough and a spread.
    """

    what: str
    where: str
    value: Spread | None
    limit: float | None = None
    above: bool = False
    beside: str = ""
    timed: bool = False

    @property
    def doubt(self) -> str | None:
        """Why the value is not reported; None where it is, or where there is none."""
        return self.value.doubt if self.timed and self.value is not None else None

    @property
    def target(self) -> str:
        """The limit in words."""
        if self.limit is None:
            return "-"
        return f"{'>=' if self.above else '<='} {self.limit:g}"

    @property
    def met(self) -> bool | None:
        """Whether the median keeps to the limit; None where there is nothing to judge."""
        if self.value is None or self.limit is None or self.doubt:
            return None
        reached = self.value.median
        return reached >= self.limit if self.above else reached <= self.limit


@dataclass(frozen=True)
class _Limits:
    """Limits of a workload; figures of others are shown without one."""

    time: dict[str, float]
    memory: float
    peer: dict[str, float]
    online: float = 1.3
    saving: float | None = None
    fewer: float | None = None


_LIMITS = {
    "conv": _Limits(
        time={"fp32": 1.15, "bf16": 1.2},
        memory=1.3,
        peer={"fp32": 1.3, "bf16": 2.0},
        saving=0.7,
        fewer=0.6,
    ),
    "mlp": _Limits(time={"fp32": 1.15, "bf16": 1.2}, memory=1.5, peer={"fp32": 1.3, "bf16": 1.3}),
}
SAVING_TIME = 1.25
STEPWISE = ("sltt", "sltt-k2", "ottt-a", "ottt-o")
"""Rules whose memory has the limit of a single step; that of others is shown only."""


def best_floor(found: Measured, workload: str, precision: str) -> Row | None:
    """Return the fastest ReLU net on all T*B images, whatever its layout and folding."""
    rows = [row for row in _of(found, workload, precision) if row.kind == "floor"]
    return _fastest([row for row in rows if not row.online])


def memory_floor(found: Measured, row: Row) -> Row | None:
    """Return the ReLU net a row's memory is compared with, the leanest where there are several.

    That is the one on T*B images at once; for what learns step by step, one pass of B images.
    """
    rows = [one for one in _of(found, row.workload, row.precision) if one.kind == "floor"]
    rows = [one for one in rows if one.online == row.online]
    if not row.online:
        rows = [one for one in rows if "fold" in one.contender]
    return min(rows, key=lambda one: one.peak, default=None)


def fastest_peer(found: Measured, workload: str, precision: str) -> Row | None:
    """Return the fastest other library."""
    return _fastest([row for row in _of(found, workload, precision) if row.kind == "peer"])


def reach(
    found: Measured,
    neuron: dict[str, Any] | None,
    flatness: Sequence[Flatness],
    curves: Sequence[Curve],
) -> list[Figure]:
    """Return every figure that was measured, workload by workload.

    Args:
        found: rows.
        neuron: reply of `measure_neuron`.
        flatness: memory against T.
        curves: growth.
    """
    figures: list[Figure] = []
    for workload, precision in dict.fromkeys((row.workload, row.precision) for row in found.rows):
        figures += _of_bptt(found, workload, precision)
        figures += _of_online(found, workload, precision)
    figures += _of_flatness(flatness)
    if neuron is not None:
        value = time_ratio([[one] for one in neuron["neuron"]], [[one] for one in neuron["stream"]])
        figures.append(
            Figure(
                "neuron alone, forward + backward: time",
                "fp32",
                value,
                NEURON,
                timed=True,
                beside=f"streaming {units.megabytes(neuron['bytes']):.0f} MB",
            )
        )
    for curve in curves:
        name = f"{curve.contender}: largest factor where {curve.axis} doubles"
        limit = STRAIGHT if curve.contender == FULL else None
        figures.append(Figure(name, curve.workload, curve.steepest, limit, timed=True))
    return figures


def _of_bptt(found: Measured, workload: str, precision: str) -> Iterator[Figure]:
    where, limits = f"{workload} {precision}", _LIMITS.get(workload)
    ours = found.find(workload, precision, FULL)
    best, peer = (ask(found, workload, precision) for ask in (best_floor, fastest_peer))
    if ours is None:
        return
    if best is not None:
        limit, beside = limits and limits.time.get(precision), f"best ANN ({best.contender})"
        yield _time("BPTT: time", where, ours, best, limit, beside)
    yield _memory(found, "BPTT", where, ours, limits and limits.memory)
    if peer is not None:
        limit, beside = limits and limits.peer.get(precision), f"fastest peer ({peer.contender})"
        yield replace(_time("BPTT: times faster", where, peer, ours, limit, beside), above=True)
    yield from _of_saving(found, ours, where, limits)


def _of_saving(found: Measured, ours: Row, where: str, limits: _Limits | None) -> Iterator[Figure]:
    limit = limits and limits.saving
    rows = [row for row in _of(found, ours.workload, ours.precision) if row.saving]
    for row in rows:
        yield _memory(found, f"{row.contender}, saving memory", where, row, limit)
        most = SAVING_TIME if limit is not None else None
        yield _time(f"{row.contender}, saving memory: time", where, row, ours, most, FULL)
    if limit is not None and not rows:
        yield Figure("BPTT saving memory: memory", where, None, limit, beside="no such contender")


def _of_online(found: Measured, workload: str, precision: str) -> Iterator[Figure]:
    where, limits = f"{workload} {precision}", _LIMITS.get(workload)
    for row in _of(found, workload, precision):
        if row.kind == "ours" and row.online:
            limit = limits.online if limits and row.contender in STEPWISE else None
            yield _memory(found, row.contender, where, row, limit)
    whole, fewer = (found.find(workload, precision, name) for name in ("sltt", "sltt-k2"))
    if whole is not None and fewer is not None:
        yield _time("sltt-k2: time", where, fewer, whole, limits and limits.fewer, "sltt")


def _of_flatness(flatness: Sequence[Flatness]) -> Iterator[Figure]:
    for one in flatness:
        yield Figure(
            f"{one.contender}: memory at T = {one.steps[-1]}",
            f"{one.workload} fp32",
            Spread.of([one.growth]),
            FLAT,
            beside=f"T = {one.steps[0]}",
        )


def _time(what: str, where: str, row: Row, base: Row, limit: float | None, beside: str) -> Figure:
    value = time_ratio(row.rounds, base.rounds)
    return Figure(what, where, value, limit, beside=beside, timed=True)


def _memory(found: Measured, name: str, where: str, row: Row, limit: float | None) -> Figure:
    floor = memory_floor(found, row)
    value = Spread.of([row.peak / floor.peak]) if floor is not None else None
    beside = "" if floor is None else f"ANN ({floor.contender})"
    return Figure(f"{name}: peak memory", where, value, limit, beside=beside)


def _of(found: Measured, workload: str, precision: str) -> list[Row]:
    return [row for row in found.rows if (row.workload, row.precision) == (workload, precision)]


def _fastest(rows: Sequence[Row]) -> Row | None:
    best = fastest({row.contender: row.rounds for row in rows})
    return next((row for row in rows if row.contender == best), None)
