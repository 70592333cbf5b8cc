"""The summary table of the page: every column of results, in groups, sortable and marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import mean

from spikeloom.records.run import EpochRecord, validation
from spikeloom.report.blocks import TITLES, title_of
from spikeloom.report.columns import COLUMNS, Cell, Column, fitted
from spikeloom.report.doubts import Doubt, doubts
from spikeloom.report.entries import Entry
from spikeloom.report.html.figures import COSTS, cost_of, front, ranked, unsettled
from spikeloom.report.means import level, means, scores_of, spread_text
from spikeloom.report.table import LABEL, cells_of
from spikeloom.tasks.metric import Metric

DIFFERENCES = "differences"
"""Group of the column that says in what an entry differs from the first."""

FRONT = "best at its"
"""Heading of the column that names the costs at which no other entry is better."""


@dataclass(frozen=True)
class _Frame:
    """What all rows share: the best number of each column, and which extra columns there are.

    `tied` says that the best score is no rank, since another one is level with it.
    """

    columns: Sequence[Column]
    best: Sequence[float | None]
    fronts: bool
    differences: bool
    tied: bool
    doubts: Sequence[Doubt]

    @property
    def width(self) -> int:
        """Cells beside the label."""
        return len(self.columns) + self.fronts + self.differences


def score_table(entries: Sequence[Entry]) -> str:
    """Return the table as HTML; readable without the script, sortable with it."""
    ran = [entry for entry in entries if entry.runs]
    records = [entry.record() for entry in ran]
    columns = fitted(COLUMNS, records)
    found = cells_of(records, columns)
    cells = {entry.label: row for entry, row in zip(ran, found, strict=True) if row is not None}
    rivals = [cells[one.label] for one in entries if one.competes]
    fronts = _fronts(entries)
    tied = bool(_level_with_best(entries))
    doubtful = doubts(records)
    differ = any(entry.differences for entry in entries)
    best = _best(columns, rivals)
    frame = _Frame(columns, best, any(fronts), differ, tied, doubtful)
    blocks = dict.fromkeys(entry.block for entry in entries)
    bodies = []
    for block in sorted(blocks, key=lambda block: [*TITLES, block].index(block)):
        lines = [
            _row(number, entry, cells.get(entry.label), frame, fronts[number])
            for number, entry in enumerate(entries)
            if entry.block == block
        ]
        title = _title(block, ran, frame.width + 1)
        bodies.append(f"<tbody>{title}{''.join(lines)}</tbody>")
    return f'<table id="entries" class="scores">{_head(frame)}{"".join(bodies)}</table>'


def _title(block: str | None, ran: Sequence[Entry], width: int) -> str:
    """Return the row above a block; what the terminal lists below stands in the last column."""
    if not block:
        return ""
    title, _, about = title_of(block, [entry.record() for entry in ran]).partition(": ")
    about = about.replace("listed below", "listed in the last column")
    return (
        f'<tr class="block"><th colspan="{width}" scope="rowgroup">{escape(title)}'
        f"<small>{escape(about.replace(' (below)', ''))}</small></th></tr>"
    )


def _head(frame: _Frame) -> str:
    parts = [_heading(0, LABEL, "", 'class="label"')]
    for place, column in enumerate(frame.columns, start=1):
        parts.append(_heading(place, column.heading, column.about, _group(column)))
        if place == 1 and frame.fronts:
            parts.append(_heading(len(frame.columns) + 1, FRONT, _FRONT, _group(column, "front")))
    if frame.differences:
        parts.append(f'<th class="text" data-g="{DIFFERENCES}">differs from the first row</th>')
    return f"<thead><tr>{''.join(parts)}</tr></thead>"


def _heading(place: int, heading: str, about: str, marks: str) -> str:
    title = f' title="{escape(about)}"' if about else ""
    text = escape(heading.replace("uJ", "µJ"))
    return (
        f'<th scope="col" {marks} data-c="{place}" aria-sort="none">'
        f'<button type="button"{title}>{text}</button></th>'
    )


def _group(column: Column, *classes: str) -> str:
    """Return the attributes by which a column's cells are shown and hidden."""
    marks = f'data-g="{column.group}"'
    return f'class="{" ".join(classes)}" {marks}' if classes else marks


_FRONT = "costs at which no other entry is both better and cheaper: " + ", ".join(
    f"{cost.word} ({cost.title.split(' (')[0]})" for cost in COSTS if cost.word
)


def _row(
    number: int, entry: Entry, cells: Sequence[Cell] | None, frame: _Frame, front: list[str]
) -> str:
    tags = ['<span class="tag">control</span>'] if entry.control else []
    tags += [
        f'<span class="tag warn" title="{escape(one.reason)}">{escape(one.mark)}</span>'
        for one in frame.doubts
        if one.label == entry.label
    ]
    if entry.runs and entry.unfinished:
        total = len(entry.runs) + len(entry.unfinished)
        tags.append(f'<span class="tag">{len(entry.runs)} of {total} seeds</span>')
    if entry.runs and entry.state == "failed":
        tags.append(f'<span class="tag bad" title="{escape(entry.error or "")}">failed</span>')
    label = (
        f'<th scope="row" class="label" data-c="0"><i class="swatch" data-e="{number}"></i>'
        f"<span>{escape(entry.label)}</span>{''.join(tags)}</th>"
    )
    kind = " control" if entry.control else ""
    opening = f'<tr class="{entry.state}{kind}" data-e="{number}">{label}'
    if cells is None:
        reason = f'<td class="reason" colspan="{frame.width}">{_reason(entry)}</td>'
        return f"{opening}{reason}</tr>"
    columns = []
    for place, (column, cell, best) in enumerate(
        zip(frame.columns, cells, frame.best, strict=True), start=1
    ):
        columns.append(_cell(entry, place, column, cell, best, tied=frame.tied))
        if place == 1 and frame.fronts:
            columns.append(_front_cell(front, len(frame.columns) + 1))
    if frame.differences:
        text = escape(_short(entry.differences or ()))
        columns.append(
            f'<td class="text" data-g="{DIFFERENCES}" title="{text}"><span>{text}</span></td>'
        )
    return f"{opening}{''.join(columns)}</tr>"


def _cell(
    entry: Entry, place: int, column: Column, cell: Cell, best: float | None, *, tied: bool
) -> str:
    first = place == 1
    top = cell.value is not None and cell.value == best and entry.competes
    doubt = " (tie)" if top and first and tied else ""
    shown = f"<b>{escape(cell.text)}</b>{doubt}" if top else escape(cell.text)
    seeds = f' title="{escape(_seeds(entry))}"' if first else ""
    sort = "" if cell.value is None else f' data-v="{cell.value:.10g}"'
    mark = _group(column, "best") if top else _group(column)
    return f'<td {mark} data-c="{place}"{sort}{seeds}>{shown}</td>'


def _short(differences: Sequence[str]) -> str:
    return "; ".join(differences).replace("stages.0.", "")


def _front_cell(front: list[str], place: int) -> str:
    sort = f' data-v="{len(front)}"' if front else ""
    marks = " ".join(f"<abbr>{word}</abbr>" for word in front)
    return f'<td {_group(COLUMNS[0], "front")} data-c="{place}"{sort}>{marks}</td>'


def _reason(entry: Entry) -> str:
    if entry.refusal is not None:
        return f"<b>refused</b> {escape(entry.refusal)}"
    if entry.error is not None:
        return f"<b>failed</b> {escape(entry.error)}"
    stopped = ", ".join(unfinished_text(entry))
    return f"<b>unfinished</b> {escape(stopped or 'not started')}"


def unfinished_text(entry: Entry) -> list[str]:
    """Say how far each unfinished run of an entry is."""
    texts = []
    for one in entry.unfinished:
        of = f" of {one.planned}" if one.planned else ""
        last = f", val {_value(one.first, one.curve[-1])}" if one.curve else ""
        texts.append(f"seed {one.seed}: {len(one.curve)}{of} epochs{last}")
    return texts


def _value(metric: Metric, epoch: EpochRecord) -> str:
    value = metric.shown(epoch[validation(metric.name)])
    return f"{value:.1f} %" if metric.unit == "%" else metric.written(value)


def _seeds(entry: Entry) -> str:
    metric = entry.runs[0].first
    scores = zip(entry.runs, map(metric.written, scores_of(entry)), strict=True)
    parts = [f"{run.seed}: {score} {metric.unit}".rstrip() for run, score in scores]
    return "by seed " + ", ".join(parts)


def _best(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[float | None]:
    """Return the best number of each column; None where that says nothing."""
    best: list[float | None] = []
    for place, column in enumerate(columns):
        values = [value for row in rows if (value := row[place].value) is not None]
        tell = column.best is not None and len({row[place].text for row in rows}) > 1
        best.append(column.best(values) if column.best and values and tell else None)
    return best


def _fronts(entries: Sequence[Entry]) -> list[list[str]]:
    """Return per entry the words of the costs on whose front it lies, doubtful ones marked."""
    words: list[list[str]] = [[] for _ in entries]
    for cost in COSTS:
        for line in front(entries, cost) if cost.word else ():
            shown = line if len(line) < _rivals(entries, line) else []
            doubtful = unsettled(entries, cost, line) if shown else set()
            for number in shown:
                words[number].append(cost.word + " (tie)" * (number in doubtful))
    return words


def _rivals(entries: Sequence[Entry], line: Sequence[int]) -> int:
    """Count the entries that could be on a front; where all are, it says nothing."""
    data = entries[line[0]].data
    return sum(one.competes and one.data == data for one in entries)


def _level_with_best(entries: Sequence[Entry]) -> list[str]:
    """Return the labels that are level with the best rival: their order is no rank."""
    scores = [means(one.record()) for one in entries if one.competes]
    if not scores:
        return []
    best = max(scores, key=lambda one: one.rank)
    return [one.label for one in scores if one is not best and level(best, one)]


def highlights(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """Return what a reader looks for first: title, the word on it, and what stands beside it.

    Costs are compared within one percentage point of the best score (one hundredth of it, for
    metrics without percent), among spiking nets where there are any, on one data set. A single
    entry is compared with nothing.
    """
    rivals = [one for one in entries if one.competes]
    rivals = [one for one in rivals if one.spiking] or rivals
    if not rivals or len({one.data for one in rivals}) > 1:
        return []
    top = max(rivals, key=ranked)
    best, metric = scores_of(top), top.runs[0].first
    reached = f"{spread_text(best, metric.written)} {metric.unit}".rstrip()
    tiles = [(cost, cost.title.partition(" (")[0]) for cost in COSTS if cost.tile]
    if len(rivals) == 1:
        costs = [
            (title, cost.tile.format(value), "")
            for cost, title in tiles
            if (value := cost_of(top, cost)) is not None
        ]
        return [(f"test {metric.word}", reached, ""), *costs]
    apart = 1 if metric.unit == "%" else abs(mean(best)) / 100
    near = [one for one in rivals if ranked(one) >= ranked(top) - apart]
    tied = len(_level_with_best(rivals))
    reached += f", {tied} more level with it" if tied else ""
    found = [(f"{metric.best}est {metric.word}", top.label, reached)]
    for cost, title in tiles:
        values = [value for one in near if (value := cost_of(one, cost)) is not None]
        if len(values) == len(near):
            least = near[values.index(min(values))]
            score = f"{metric.written(mean(scores_of(least)))} {metric.unit}".rstrip()
            beside = f"{cost.tile.format(min(values))} at {score}"
            found.append((f"least {title}", least.label, beside))
    return found
