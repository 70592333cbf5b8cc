"""The table: one row per entry, accuracy never without its cost."""

from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

Record = dict[str, Any]

NOTE = (
    "Energy is a model, not a measurement (45 nm, 2014). EE = E_ANN / E_net against the ReLU net "
    "of the same spec, above 1 the net is cheaper. paper: Panda et al. 2020, eq. 8-11, int32. "
    "strict: exact operations by operand, fp32, zero operands skipped on both sides; * no such ANN "
    "in the table: all pairs of the spec stand in. SynOps are per inference; train ops are dense "
    "multiply-accumulates executed per training sample, forward + backward; train MB is the "
    "allocator's peak for one batch; time is the rule's own, relative to the ANN's."
)

HEADINGS = (
    "entry",
    "test %",
    "T",
    "params",
    "spikes",
    "AC",
    "MAC",
    "uJ paper",
    "EE",
    "uJ strict",
    "EE",
    "train ops",
    "train MB",
    "time s",
    "x ANN",
)


def entry_rows(entries: Sequence[Record]) -> list[tuple[str, ...]]:
    """Turn the entries of a results file into rows of text, headings first."""
    ran = [entry for entry in entries if entry["runs"]]
    measured = [entry for entry in ran[::-1] if not entry["runs"][0]["facts"]["spiking"]]
    measured.sort(key=lambda entry: entry["control"], reverse=True)
    # later ones replace earlier ones: the first ANN counts, and a control only without another
    anns = {_of(entry["runs"][0], "net"): entry for entry in measured}
    clocks = {one["runs"][0]["data"]: one for one in measured if not one["control"]}
    rows: list[tuple[str, ...]] = [HEADINGS]
    for entry in entries:
        if entry["runs"]:
            rows.append(_row(entry, anns, clocks))
        elif entry.get("refusal"):
            rows.append((entry["label"], "refused", *["-"] * (len(HEADINGS) - 2)))
    return rows


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


def _of(run: Record, key: str) -> tuple[str, str]:
    """Return what makes an ANN comparable: the net and the data."""
    return run[key], run["data"]


def _row(
    entry: Record, anns: dict[tuple[str, str], Record], clocks: dict[str, Record]
) -> tuple[str, ...]:
    runs = entry["runs"]
    costs = [run["costs"] for run in runs]

    def over(read: Callable[[Record], float]) -> float:
        return mean(read(cost) for cost in costs)

    accuracies = [100 * run["test_accuracy"] for run in runs]
    spread = f" ± {stdev(accuracies):.2f}" if len(runs) > 1 else ""
    spiking = runs[0]["facts"]["spiking"]
    paper = over(lambda cost: cost["energy"]["paper_int32"]["net"])
    paper_ann = over(lambda cost: cost["energy"]["paper_int32"]["ann"])
    strict = over(lambda cost: cost["energy"]["strict_fp32"]["net"])
    seconds = mean(run["train_seconds"] for run in runs)
    clock = clocks.get(runs[0]["data"])
    base = mean(run["train_seconds"] for run in clock["runs"]) if clock else None
    training = [cost["training"] for cost in costs]
    forward = mean(one["forward_macs"] for one in training)
    backward = mean(one["backward_macs"] for one in training)
    return (
        entry["label"],
        f"{mean(accuracies):.2f}{spread}",
        str(runs[0]["steps"]),
        _count(costs[0]["parameters"]),
        _count(over(lambda cost: cost["spikes"]["mean"])) if spiking else "-",
        _count(over(lambda cost: cost["ac"]["mean"])),
        _count(over(lambda cost: cost["mac"]["mean"])),
        _joules(paper),
        _ratio(paper_ann, paper) if spiking else "-",
        _joules(strict),
        _strict_ratio(entry, anns, strict) if spiking else "-",
        f"{_count(forward)} + {_count(backward)}",
        f"{mean(one['peak_bytes'] for one in training) / 1e6:.1f}",
        f"{seconds:.1f}",
        f"{seconds / base:.1f}" if base and not entry["control"] else "-",
    )


def _strict_ratio(entry: Record, anns: dict[tuple[str, str], Record], strict: float) -> str:
    """Return EE against the measured ANN of the same net, else against all its pairs (*)."""
    ann = anns.get(_of(entry["runs"][0], "ann_net"))
    if ann is not None:
        other = mean(run["costs"]["energy"]["strict_fp32"]["net"] for run in ann["runs"])
        return _ratio(other, strict)
    other = mean(run["costs"]["energy"]["strict_fp32"]["ann"] for run in entry["runs"])
    return _ratio(other, strict) + "*"


def _ratio(ann: float, net: float) -> str:
    return f"{ann / net:.2f}" if net else "inf (dead)"


def _joules(picojoules: float) -> str:
    """Write microjoules: 1.234, and 0.00046 where three places show nothing."""
    value = picojoules / 1e6
    return f"{value:.3f}" if value >= 1e-3 or value == 0 else f"{value:.2g}"


def _count(value: float) -> str:
    """Write a count with three digits or so: 0.25, 873, 12.3k, 4.56M."""
    for limit, scale, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= limit:
            digits = value / scale
            return f"{digits:.{2 if digits < 10 else 1 if digits < 100 else 0}f}{unit}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"
