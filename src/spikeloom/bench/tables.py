"""The tables of the benchmark, as rows of text."""

from collections.abc import Sequence
from typing import Any

from spikeloom.bench.growth import Curve, Flatness
from spikeloom.bench.measure import Measured
from spikeloom.bench.reach import Figure, best_floor, memory_floor
from spikeloom.bench.spread import Spread, seconds, time_ratio
from spikeloom.bench.workloads import Workload
from spikeloom.records import units

Rows = list[tuple[str, ...]]

_ORDER = ("floor", "ours", "peer")


def workload_title(workload: Workload, precision: str) -> str:
    """Say in one line what every contender had to train."""
    return (
        f"{workload.name}, {precision}: {workload.about}; T = {workload.steps}, "
        f"batch {workload.batch}"
    )


def contender_rows(found: Measured, workload: str, precision: str) -> Rows:
    """Return one row per contender, floors first, each kind by time; headings first."""
    best = best_floor(found, workload, precision)
    rows: Rows = [
        (
            "contender",
            "ms",
            "quartiles",
            "fastest",
            "x best ANN",
            "quartiles",
            "peak MB",
            "x ANN",
            "process MB",
            "backend",
        )
    ]
    here = [row for row in found.rows if (row.workload, row.precision) == (workload, precision)]
    here.sort(key=lambda row: (_ORDER.index(row.kind), seconds(row.rounds).median))
    for row in here:
        spent = seconds(row.rounds)
        ratio = time_ratio(row.rounds, best.rounds) if best is not None else None
        floor = memory_floor(found, row)
        layout = "" if row.layout == "contiguous" else row.layout
        rows.append(
            (
                row.contender + (" (best ANN)" if row is best else ""),
                _median(spent),
                "-" if spent.doubt else _range(spent),
                "-" if spent.doubt else milliseconds(min(min(turn) for turn in row.rounds)),
                "-" if ratio is None or ratio.doubt else f"{ratio.median:.2f}",
                "-" if ratio is None or ratio.doubt else between(ratio),
                f"{units.megabytes(row.peak):.1f}",
                "-" if floor is None else f"{row.peak / floor.peak:.2f}",
                f"{units.megabytes(row.process):.0f}",
                ", ".join(filter(None, (row.backend, row.version, layout))),
            )
        )
    return rows


def reach_rows(figures: Sequence[Figure]) -> Rows:
    """Return target, measured figure and verdict of every figure."""
    rows: Rows = [("figure", "on", "against", "target", "measured", "quartiles", "met")]
    for one in figures:
        value, verdict = one.value, {None: "-", True: "yes", False: "no"}[one.met]
        rows.append(
            (
                one.what,
                one.where,
                one.beside or "-",
                one.target,
                "not measured" if value is None else "-" if one.doubt else f"{value.median:.2f}",
                "-" if value is None or one.doubt or value.low == value.high else between(value),
                verdict,
            )
        )
    return rows


def growth_rows(curves: Sequence[Curve]) -> Rows:
    """Return milliseconds by size; curves must share workload and axis."""
    axis = curves[0].axis
    rows: Rows = [(axis, *(f"{one.contender} {part}" for one in curves for part in ("ms", "MB")))]
    for place, size in enumerate(curves[0].sizes):
        cells = [
            cell
            for one in curves
            for cell in (_with_range(one, place), f"{units.megabytes(one.peaks[place]):.1f}")
        ]
        rows.append((str(size), *cells))
    return rows


def flat_rows(flatness: Sequence[Flatness]) -> Rows:
    """Return peak memory in MB by T."""
    rows: Rows = [("rule", "on", *(f"T = {count}" for count in flatness[0].steps))]
    for one in flatness:
        cells = [f"{units.megabytes(peak):.2f}" for peak in one.peaks]
        rows.append((one.contender, one.workload, *cells))
    return rows


def neuron_lines(neuron: dict[str, Any]) -> list[str]:
    """Say how long the neuron alone takes, and the stream it is compared with."""
    both, forward, stream = (Spread.of(neuron[name]) for name in ("neuron", "forward", "stream"))
    rate = neuron["bytes"] / stream.median / 1e9
    shape = " x ".join(map(str, neuron["shape"]))
    return [
        f"neuron alone on {shape}, fp32, backend {neuron['backend']}: "
        f"{_median(both)} ms ({_range(both)}), forward alone "
        f"{_median(forward)} ms ({_range(forward)})",
        f"streaming {units.megabytes(neuron['bytes']):.0f} MB: {_median(stream)} ms "
        f"({_range(stream)}), {'-' if stream.doubt else f'{rate:.1f}'} GB/s",
    ]


def milliseconds(value: float) -> str:
    """Write seconds as milliseconds with three digits or so.

    Example:
        >>> milliseconds(0.00123), milliseconds(0.0456), milliseconds(1.2345)
        ('1.23', '45.6', '1234')
    """
    value *= 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def between(spread: Spread) -> str:
    """Write quartiles.

    Example:
        >>> between(Spread(1.5, 1.25, 2))
        '1.25..2.00'
    """
    return f"{spread.low:.2f}..{spread.high:.2f}"


def _median(spread: Spread) -> str:
    return "-" if spread.doubt else milliseconds(spread.median)


def _with_range(curve: Curve, place: int) -> str:
    spread = curve.spreads[place]
    return "-" if spread.doubt else f"{milliseconds(spread.median)} ({_range(spread)})"


def _range(spread: Spread) -> str:
    return f"{milliseconds(spread.low)}..{milliseconds(spread.high)}"
