"""The table: one row per entry, accuracy never without its cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal

from spikeloom.report.means import means, over
from spikeloom.report.pick import front

Record = dict[str, Any]

NOTE = (
    "Energy is a model, not a measurement (45 nm, 2014). EE = E_ANN / E_net against the ReLU net "
    "of the same spec, above 1 the net is cheaper. paper: Panda et al. 2020, eq. 8-11, int32. "
    "strict: exact operations by operand, fp32, zero operands skipped on both sides; * no such ANN "
    "in the table: all pairs of the spec stand in. \N{DEGREE SIGN} no other row is as accurate at "
    "the same or less strict energy (means over seeds, so differences below the deviation decide "
    "nothing). ms: prediction of one sample on this machine, all T steps. AC, MAC and spikes are "
    "per inference; train ops are dense multiply-accumulates executed per training sample, forward "
    "+ backward; train MB is the allocator's peak for one batch; MB/step and ms/step: what one "
    "more time step adds to that peak and to the time of training on a batch; time is the rule's "
    "own, relative to the ANN's."
)

FRONT = " \N{DEGREE SIGN}"
"""Behind the labels of the Pareto set."""


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
    Column("EE"),
    Column("uJ strict"),
    Column("EE"),
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
    measured = [entry for entry in ran[::-1] if not entry["runs"][0]["facts"]["spiking"]]
    measured.sort(key=lambda entry: entry["control"], reverse=True)
    # later ones replace earlier ones: the first ANN counts, and a control only without another
    anns = {_of(entry["runs"][0], "net"): entry for entry in measured}
    clocks = {one["runs"][0]["data"]: one for one in measured if not one["control"]}
    uneven = len({len(entry["runs"]) for entry in ran}) > 1
    best = front(list(entries)) if len(ran) > 1 else set()
    rows: list[tuple[str, ...]] = [HEADINGS]
    for entry in entries:
        if entry["runs"]:
            label = entry["label"] + FRONT * (entry["label"] in best)
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


def _of(run: Record, key: str) -> tuple[str, str]:
    """Return what makes an ANN comparable: the net and the data."""
    return run[key], run["data"]


def _accuracy(entry: Record, uneven: bool) -> str:
    """Write mean and deviation, and over how many runs where that is not plain."""
    one = means(entry)
    spread = "" if one.deviation is None else f" ± {one.deviation:.2f}"
    if one.failed:
        return f"{one.accuracy:.2f}{spread} ({one.failed} of {one.runs + one.failed} failed)"
    return f"{one.accuracy:.2f}{spread}" + (f" (n {one.runs})" if uneven else "")


def _costs(
    entry: Record, anns: dict[tuple[str, str], Record], clocks: dict[str, Record]
) -> tuple[str, ...]:
    one, first = means(entry), entry["runs"][0]
    spiking = first["facts"]["spiking"]
    paper_ann = over(entry, lambda cost: cost["energy"]["paper_int32"]["ann"]) / 1e6
    clock = clocks.get(first["data"])
    base = mean(run["train_seconds"] for run in clock["runs"]) if clock else None
    forward = over(entry, lambda cost: cost["training"]["forward_macs"])
    backward = over(entry, lambda cost: cost["training"]["backward_macs"])
    return (
        str(first["steps"]),
        "-" if one.latency is None else f"{one.latency:.3g}",
        count(first["costs"]["parameters"]),
        "-" if one.spikes is None else count(one.spikes),
        count(over(entry, lambda cost: cost["ac"]["mean"])),
        count(over(entry, lambda cost: cost["mac"]["mean"])),
        joules(one.energy_paper),
        ratio(paper_ann, one.energy_paper) if spiking else "-",
        joules(one.energy),
        _strict_ratio(entry, anns, one.energy) if spiking else "-",
        f"{count(forward)} + {count(backward)}",
        f"{one.memory:.1f}",
        *_growth(entry),
        f"{one.seconds:.1f}",
        f"{one.seconds / base:.1f}" if base and not entry["control"] else "-",
    )


def _growth(entry: Record) -> tuple[str, str]:
    """Write what one more step costs in training; older records and T = 1 do not say."""
    if not all(run["costs"]["training"].get("growth") for run in entry["runs"]):
        return "-", "-"
    more = over(entry, lambda cost: cost["training"]["growth"]["bytes_per_step"]) / 1e6
    slower = over(entry, lambda cost: cost["training"]["growth"]["ms_per_step"])
    return f"{round(more, 2) + 0.0:.2f}", f"{slower:.3g}"


def _strict_ratio(entry: Record, anns: dict[tuple[str, str], Record], strict: float) -> str:
    """Return EE against the measured ANN of the same net, else against all its pairs (*)."""
    ann = anns.get(_of(entry["runs"][0], "ann_net"))
    if ann is not None:
        return ratio(means(ann).energy, strict)
    other = over(entry, lambda cost: cost["energy"]["strict_fp32"]["ann"]) / 1e6
    return ratio(other, strict) + "*"


def ratio(ann: float, net: float) -> str:
    """Write how many times the net's energy the ANN takes."""
    return f"{ann / net:.2f}" if net else "inf (dead)"


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
