"""The table of results: one row per entry, its score never without its cost."""

from collections.abc import Sequence
from functools import partial
from textwrap import fill
from typing import Literal

from spikeloom.records.comparison import EntryRecord
from spikeloom.report.columns import Cell, Column, Row, fitted, of_group
from spikeloom.report.efficiency import efficiency, measured_anns
from spikeloom.report.means import means
from spikeloom.report.pick import front, unsettled

LABEL = "entry"
"""Heading of the first column."""

HEAD_WIDTH = 8
"""Characters in a line of a heading, unless a word is longer."""

LABEL_WIDTH = 20
"""Characters of a label that are shown in any terminal."""


def cells_of(entries: Sequence[EntryRecord], columns: Sequence[Column]) -> list[list[Cell] | None]:
    """Read the figures of every entry; None for one that has no finished run."""
    ran = [entry for entry in entries if entry.runs]
    anns = measured_anns(entries)
    clocks: dict[str, EntryRecord] = {}
    for entry in ran:
        if not (entry.control or entry.runs[0].facts.spiking):
            clocks.setdefault(entry.runs[0].data, entry)
    uneven = len({len(entry.runs) for entry in ran}) > 1

    def read(entry: EntryRecord) -> list[Cell]:
        clock = clocks.get(entry.runs[0].data)
        row = Row(entry, means(entry), efficiency(entry, anns), clock, uneven)
        return [column.read(row) for column in columns]

    return [read(entry) if entry.runs else None for entry in entries]


def entry_rows(
    entries: Sequence[EntryRecord], columns: Sequence[Column] = of_group("main")
) -> list[tuple[str, ...]]:
    """Turn the entries of a results file into rows of text, one-line headings first.

    Entries that have neither run, failed nor been refused are left out.
    """
    columns = fitted(columns, entries)
    rows = [(LABEL, *(column.heading for column in columns))]
    for entry, cells in zip(entries, cells_of(entries, columns), strict=True):
        if cells is not None:
            rows.append((entry.label, *(cell.text for cell in cells)))
        elif verdict := verdict_of(entry):
            rows.append((entry.label, *([verdict, *["-"] * len(columns)][: len(columns)])))
    return rows


def verdict_of(entry: EntryRecord) -> Literal["failed", "refused"] | None:
    """Return "failed" or "refused" where an entry is not whole, else None."""
    if entry.error:
        return "failed"
    return "refused" if entry.refusal else None


def best_lines(entries: Sequence[EntryRecord]) -> list[str]:
    """Name the entries that no other one beats in score and energy at once, per data set.

    Means over seeds; controls and entries with failed runs take no part. A data set on which fewer
    than two entries compete has no line.
    """
    fields: dict[str, list[EntryRecord]] = {}
    for entry in entries:
        if entry.runs and not entry.control:
            fields.setdefault(entry.runs[0].data, []).append(entry)
    rivals = {data: field for data, field in fields.items() if len(field) > 1}
    lead = {data: f"on {data}, " if len(fields) > 1 else "" for data in rivals}
    return [lead[data] + text for data, field in rivals.items() if (text := _best(field))]


def _best(field: Sequence[EntryRecord]) -> str:
    """Say who is best of some entries on one data set, and whose place is no rank."""
    doubtful, best = unsettled(field), front(field)
    sure = [entry.label for entry in field if entry.label in best - doubtful]
    close = [entry.label for entry in field if entry.label in doubtful]
    parts = []
    if sure:
        whose = "their" if len(sure) > 1 else "its"
        metric = field[0].runs[0].first
        what = metric.word
        parts.append(f"best {what} at {whose} energy or less: {'; '.join(sure)}.")
    if close:
        parts.append(
            f"too close to rank (one test sample, or the spread over seeds): {'; '.join(close)}."
        )
    return " ".join(parts)


def in_parts(rows: Sequence[Sequence[str]], width: int | None) -> list[list[tuple[str, ...]]]:
    """Cut a table between its columns, so that every part fits a width; each has the labels.

    Long labels are cut at their end, to make room for one more column. Headings are wrapped: a
    few words a line.

    Args:
        rows: one-line headings first.
        width: in characters; None leaves the table whole.
    """
    head, *body = [tuple(row) for row in rows]
    wrap = partial(fill, width=HEAD_WIDTH, break_long_words=False, break_on_hyphens=False)
    table = [(head[0], *map(wrap, head[1:])), *body]
    if width is None:
        return [table]
    wide = [max(_width(row[column]) for row in table) for column in range(len(head))]
    label = min(wide[0], LABEL_WIDTH)
    parts: list[list[int]] = [[]]
    used = label
    for column in range(1, len(head)):
        if parts[-1] and used + 2 + wide[column] > width:
            parts.append([])
            used = label
        parts[-1].append(column)
        used += 2 + wide[column]
    cut = [max(label, width - sum(2 + wide[column] for column in part)) for part in parts]
    return [
        [(_cut(row[0], longest), *(row[column] for column in part)) for row in table]
        for part, longest in zip(parts, cut, strict=True)
    ]


def to_text(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns, the first to the left, the rest to the right.

    Headings may have several lines; they stand on the rule below them.
    """
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    parts = [heading.split("\n") for heading in rows[0]]
    tall = max(map(len, parts))
    head = zip(*([""] * (tall - len(part)) + part for part in parts), strict=True)
    lines = [*head, ["-" * width for width in widths], *rows[1:]]
    return "\n".join(_line(cells, widths) for cells in lines)


def to_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a Markdown table."""
    head, *body = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|---|" + "---:|" * (len(head) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()


def _width(cell: str) -> int:
    return max(map(len, cell.split("\n")))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
