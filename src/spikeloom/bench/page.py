"""The page of a benchmark: the same sections as on the terminal, dated, with a plot of growth."""

import os
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from spikeloom.base.errors import ConfigError
from spikeloom.bench.plan import Plan
from spikeloom.bench.plot import draw_growth
from spikeloom.bench.result import Result
from spikeloom.bench.tables import (
    Rows,
    contender_rows,
    flat_rows,
    growth_rows,
    neuron_lines,
    reach_rows,
    workload_title,
)
from spikeloom.report.table import to_markdown

NOTE = (
    "A step is forward, backward and an SGD update on the same batch, with the same weights for "
    "all. ms: median over the steps of all rounds. x best ANN: over the fastest ReLU net on T*B "
    "images of the same precision, median and quartiles of the ratios within each round. peak MB: "
    "the most memory that the allocator gave out during a step, above its start; x ANN: over the "
    "leanest ReLU net on T*B images at once, or on one pass of B images for rules that learn step "
    "by step. process MB: growth of the resident memory over the first steps, scratch memory of "
    "libraries included. Peers choose the faster of two layouts. Times are shown with quartiles; - "
    "stands for a time with fewer than 5 measurements, or with quartiles that are more than half "
    "the median apart."
)
QUICK_NOTE = (
    "Small sizes of --quick, only to test that everything runs. The figures have no meaning."
)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: its heading.
        lines: paragraphs.
        tables: rows, headings first.
        left: columns whose cells stand to the left.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    tables: list[Rows] = field(default_factory=list)
    left: tuple[int, ...] = ()


def sections(plan: Plan, result: Result) -> list[Section]:
    """Return the parts of the page in their order."""
    parts = [Section("Figures to reach", tables=[reach_rows(result.figures())], left=(1, 2))]
    for workload in plan.workloads:
        for precision in plan.precisions:
            rows = contender_rows(result.found, workload.name, precision)
            if len(rows) > 1:
                title = workload_title(workload, precision)
                parts.append(Section(title, tables=[rows], left=(len(rows[0]) - 1,)))
    if result.neuron is not None:
        parts.append(Section("The neuron alone", lines=neuron_lines(result.neuron)))
    if result.flatness:
        rows = flat_rows(result.flatness)
        parts.append(Section("Peak memory against T, MB", tables=[rows], left=(1,)))
    for (name, axis), group in groupby(result.curves, key=lambda one: (one.workload, one.axis)):
        curves = list(group)
        other = "B" if axis == "T" else "T"
        title = f"{name}, fp32, against {axis} at {other} = {curves[0].fixed}"
        parts.append(Section(title, tables=[growth_rows(curves)]))
    if result.found.skipped:
        lines = [f"{name}: {reason}" for name, reason in result.found.skipped.items()]
        parts.append(Section("Left out", lines=lines))
    return parts


def write_page(out: Path, plan: Plan, result: Result) -> Path:
    """Write the page, and beside it the plot where growth was measured.

    Args:
        out: a file .md, or a folder in which a dated name is chosen.
        plan: what ran.
        result: what it found.

    Raises:
        ConfigError: it cannot be written.
    """
    path = out
    if out.suffix != ".md":
        path = out / f"{result.day}_speed_{result.machine['cores']}-core-cpu.md"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plot = None
        if result.curves:
            plot = path.with_name(f"{path.stem}_growth.svg")
            _replace(plot, draw_growth(result.curves))
        _replace(path, page_text(plan, result, plot.name if plot else None))
    except OSError as error:
        expected = "a place that can be written"
        raise ConfigError.caused(f"--out {path}", expected, error, "choose another") from None
    return path


def page_text(plan: Plan, result: Result, plot: str | None = None) -> str:
    """Return the page as Markdown."""
    parts = [
        f"# Speed and memory, {result.machine['cores']}-core CPU, {result.day}",
        f"`{plan.command}`",
        f"{plan.threads} thread(s), {plan.rounds} rounds of {plan.steps} steps.",
        "\n".join(f"- {name}: {value}" for name, value in result.machine.items()),
        QUICK_NOTE if plan.quick else NOTE,
        *(["Interrupted: the rest was not measured."] if result.stopped else []),
    ]
    for section in sections(plan, result):
        parts.append(f"## {section.title}")
        parts += section.lines
        parts += [to_markdown(rows) for rows in section.tables]
    if plot is not None:
        parts.append(f"![time and memory against T and B]({plot})")
    return "\n\n".join(parts) + "\n"


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
