"""The table: one row per entry, accuracy never without its cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spikeloom.report.efficiency import efficiency, measured_anns
from spikeloom.report.means import (
    latency_of,
    means,
    over,
    seconds_of,
    slowdown_of,
    slower_than,
    spread_text,
    time_of,
)
from spikeloom.report.pick import front, unsettled

Record = dict[str, Any]

NOTE = (
    "Energy is a model, not a measurement (45 nm, 2014). EE = E_ANN / E_net against the measured "
    "ReLU net of the same spec in this table, above 1 the net is cheaper; - where there is none. "
    "paper: Panda et al. 2020, eq. 8-11, int32. strict: exact operations by operand, fp32, zero "
    "operands skipped on both sides. \N{DEGREE SIGN} no other row is as accurate at the same or "
    "less strict energy (means over seeds); \N{ALMOST EQUAL TO} behind it: no rank, since a row of "
    "no more energy is within one test sample or the deviation over seeds. \N{PLUS-MINUS SIGN} is "
    "the standard deviation over seeds; two seeds are shown in brackets. ms: prediction of one "
    "sample on this machine, all T steps; MB/step and ms/step: what one more time step adds to the "
    "peak and to the time of training on a batch. Times in ms are medians over rounds, "
    "\N{PLUS-MINUS SIGN} half the distance of the quartiles or the deviation over seeds; - where "
    "that is too wide or was not measured. time s and x ANN (the training time relative to the "
    "ANN's, seed by seed) need two seeds or more. AC, MAC and spikes are per inference; train ops "
    "are dense multiply-accumulates executed per training sample, forward + backward; train MB is "
    "the allocator's peak for one batch."
)

FRONT = " \N{DEGREE SIGN}"
"""Behind the labels of the Pareto set."""

NO_RANK = "\N{ALMOST EQUAL TO}"
"""Behind a mark of rank that rests on a difference too small for one."""


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        heading: above it.
        rank: which leave first where the terminal is narrow, 1 before 2; 0 never leaves.
    """

    heading: str
    rank: int = 0


COLUMNS = (
    Column("entry"),
    Column("test %"),
    Column("T"),
    Column("ms", 6),
    Column("params", 3),
    Column("spikes", 9),
    Column("AC", 1),
    Column("MAC", 2),
    Column("uJ paper", 7),
    Column("EE paper"),
    Column("uJ strict"),
    Column("EE strict"),
    Column("train ops", 4),
    Column("train MB"),
    Column("MB/step", 7),
    Column("ms/step", 4),
    Column("time s", 8),
    Column("x ANN", 5),
)
HEADINGS = tuple(column.heading for column in COLUMNS)


def entry_rows(entries: Sequence[Record]) -> list[tuple[str, ...]]:
    """Turn the entries of a results file into rows of text, headings first.

    Entries that have neither run, failed nor been refused are left out.
    """
    ran = [entry for entry in entries if entry["runs"]]
    anns = measured_anns(entries)
    clocks: dict[str, Record] = {}
    for entry in ran:
        if not (entry["control"] or entry["runs"][0]["facts"]["spiking"]):
            clocks.setdefault(entry["runs"][0]["data"], entry)
    uneven = len({len(entry["runs"]) for entry in ran}) > 1
    best = front(list(entries)) if len(ran) > 1 else set()
    doubtful = unsettled(list(entries)) if best else set()
    rows: list[tuple[str, ...]] = [HEADINGS]
    for entry in entries:
        if entry["runs"]:
            label = entry["label"] + FRONT * (entry["label"] in best)
            label += NO_RANK * (entry["label"] in doubtful)
            rows.append((label, _accuracy(entry, uneven), *_costs(entry, anns, clocks)))
        elif verdict := verdict_of(entry):
            rows.append((entry["label"], verdict, *["-"] * (len(HEADINGS) - 2)))
    return rows


def verdict_of(entry: Record) -> Literal["failed", "refused"] | None:
    """Return "failed" or "refused" where an entry is not whole, else None."""
    if entry.get("error"):
        return "failed"
    return "refused" if entry.get("refusal") else None


def fitted(
    rows: Sequence[Sequence[str]], width: int | None
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Leave out columns until rows under `HEADINGS` fit a width; long labels are cut at the end.

    Args:
        rows: headings first.
        width: in characters; None fits everything.

    Returns:
        The rows, and the headings that were left out.
    """
    shown = list(range(len(COLUMNS)))
    out: list[str] = []
    order = sorted((row for row in shown if COLUMNS[row].rank), key=lambda row: COLUMNS[row].rank)
    wide = [max(len(row[column]) for row in rows) for column in shown]
    for column in order:
        if width is None or _total(wide, shown) <= width:
            break
        shown.remove(column)
        out.append(COLUMNS[column].heading)
    excess = 0 if width is None else max(0, _total(wide, shown) - width)
    label = max(16, wide[0] - excess)
    return [(_cut(row[0], label), *(row[column] for column in shown[1:])) for row in rows], out


def to_text(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns, the first to the left, the rest to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def to_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a Markdown table."""
    head, *body = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|---|" + "---:|" * (len(head) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join(lines)


def _total(wide: Sequence[int], shown: Sequence[int]) -> int:
    return sum(wide[column] for column in shown) + 2 * (len(shown) - 1)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _accuracy(entry: Record, uneven: bool) -> str:
    """Write mean and spread, and over how many runs where that is not plain."""
    one = means(entry)
    text = spread_text([100 * run["test_accuracy"] for run in entry["runs"]], "{:.2f}".format)
    if one.failed:
        return f"{text} ({one.failed} of {one.runs + one.failed} failed)"
    return text + (f" (n {one.runs})" if uneven else "")


def _costs(
    entry: Record, anns: dict[tuple[str, str], Record], clocks: dict[str, Record]
) -> tuple[str, ...]:
    one, first = means(entry), entry["runs"][0]
    found = efficiency(entry, anns)
    clock = clocks.get(first["data"])
    slower = slower_than(entry, clock) if clock and not entry["control"] else []
    forward = over(entry, lambda cost: cost["training"]["forward_macs"])
    backward = over(entry, lambda cost: cost["training"]["backward_macs"])
    return (
        str(first["steps"]),
        _time(time_of(entry, latency_of)),
        count(first["costs"]["parameters"]),
        "-" if one.spikes is None else count(one.spikes),
        count(over(entry, lambda cost: cost["ac"]["mean"])),
        count(over(entry, lambda cost: cost["mac"]["mean"])),
        joules(one.energy_paper),
        "-" if found is None else times(found.paper),
        joules(one.energy),
        "-" if found is None else times(found.strict),
        f"{count(forward)} + {count(backward)}",
        f"{one.memory:.1f}",
        _growth(entry),
        _time(time_of(entry, slowdown_of)),
        spread_text(seconds, "{:.1f}".format) if (seconds := seconds_of(entry)) else "-",
        spread_text(slower, "{:.1f}".format) if slower else "-",
    )


def _growth(entry: Record) -> str:
    """Write the memory one more step takes in training; older records and T = 1 do not say."""
    if not all(run["costs"]["training"].get("growth") for run in entry["runs"]):
        return "-"
    more = over(entry, lambda cost: cost["training"]["growth"]["bytes_per_step"]) / 1e6
    return f"{round(more, 2) + 0.0:.2f}"


def _time(found: tuple[float, float] | None) -> str:
    """Write milliseconds with their spread; without one they are no figure."""
    return "-" if found is None else milliseconds(*found)


def milliseconds(value: float, spread: float) -> str:
    """Write a time to the place of its spread's first digits.

    Example:
        >>> milliseconds(0.7134, 0.0213), milliseconds(12.34, 1.6)
        ('0.713 ± 0.021', '12.3 ± 1.6')
    """
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} ± {spread:.{digits}f}"


def times(value: float) -> str:
    """Write how many times a net's energy another takes."""
    return "inf (dead)" if value == float("inf") else f"{value:.2f}"


def joules(value: float) -> str:
    """Write microjoules: 1.234, and 0.00046 where three places show nothing."""
    return f"{value:.3f}" if value >= 1e-3 or value == 0 else f"{value:.2g}"


def count(value: float) -> str:
    """Write a count with three digits or so: 0.25, 873, 12.3k, 4.56M."""
    for limit, scale, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= limit:
            digits = value / scale
            return f"{digits:.{2 if digits < 10 else 1 if digits < 100 else 0}f}{unit}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"
