"""The summary table of the page: the cells of `report.table`, sortable and marked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import mean

from spikeloom.report.blocks import TITLES, title_of
from spikeloom.report.entries import Entry
from spikeloom.report.figures import COSTS, accuracies, cost_of, front, unsettled
from spikeloom.report.means import level, means, spread_text
from spikeloom.report.table import NO_RANK, entry_rows

GROUPS = {
    "test %": "accuracy",
    "T": "network",
    "ms": "network",
    "params": "network",
    "spikes": "inference cost",
    "AC": "inference cost",
    "MAC": "inference cost",
    "uJ paper": "inference cost",
    "EE paper": "inference cost",
    "uJ strict": "inference cost",
    "EE strict": "inference cost",
    "train ops": "training cost",
    "train MB": "training cost",
    "MB/step": "training cost",
    "ms/step": "training cost",
    "time s": "training cost",
    "x ANN": "training cost",
}
"""Columns that stand together; others follow under their own heading."""

ABOUT = {
    "test %": "test accuracy in percent, mean and standard deviation over the seeds; two seeds are "
    "shown",
    "T": "time steps per inference",
    "ms": "milliseconds per prediction of one sample, all T steps, on the machine of the run: "
    "median over rounds with its spread",
    "params": "trained numbers needed for inference",
    "spikes": "spikes per inference, mean over test samples",
    "AC": "accumulates per inference",
    "MAC": "multiply-accumulates per inference",
    "uJ paper": "microjoules per inference by the formulas of Panda et al. 2020, int32; a model",
    "EE paper": "paper's energy of the measured ReLU net of the same spec over this net's",
    "EE strict": "strict energy of the measured ReLU net of the same spec over this net's; above 1 "
    "this net is cheaper",
    "uJ strict": "microjoules per inference by exact counts, fp32; a model",
    "train ops": "multiply-accumulates per training sample, forward + backward",
    "train MB": "the allocator's peak for one training batch, in megabytes",
    "MB/step": "megabytes that one more time step adds to it",
    "ms/step": "milliseconds that one more time step adds to training on a batch, with its spread",
    "time s": "seconds of training, without validation and test; two seeds or more",
    "x ANN": "training time over that of the ANN on the same data, seed by seed",
}

_BEST = {
    "test %": max,
    "spikes": min,
    "uJ paper": min,
    "uJ strict": min,
    "EE paper": max,
    "EE strict": max,
    "train MB": min,
    "time s": min,
}
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)([kMG]?)")


def sort_value(cell: str) -> float | None:
    """Return the number a cell shows: 12300 for 12.3k, the sum of "a + b", None for none."""
    if cell.startswith("inf"):
        return float("inf")
    values = []
    for part in cell.split(" ± ")[0].split(" [")[0].split(" + "):
        match = _NUMBER.match(part.strip())
        if match is None:
            return None
        values.append(float(match[1]) * _SCALES[match[2]])
    return sum(values)


@dataclass(frozen=True)
class _Frame:
    """What all rows share: headings, the best number of each column, and which extras there are.

    `tied` says that the best accuracy is no rank, since another one is level with it.
    """

    headings: Sequence[str]
    best: Sequence[float | None]
    fronts: bool
    differences: bool
    tied: bool

    @property
    def columns(self) -> int:
        """Cells beside the label."""
        return len(self.headings) - 1 + self.fronts + self.differences


def score_table(entries: Sequence[Entry]) -> str:
    """Return the table as HTML; readable without the script, sortable with it."""
    ran = [entry for entry in entries if entry.runs]
    headings, *rows = entry_rows([entry.record() for entry in ran])
    cells = {entry.label: row for entry, row in zip(ran, rows, strict=True)}
    rivals = [cells[one.label] for one in entries if one.competes]
    fronts = _fronts(entries)
    tied = bool(_level_with_best(entries))
    frame = _Frame(headings, _best(headings, rivals), any(fronts), _differ(entries), tied)
    found = dict.fromkeys(entry.block for entry in entries)
    blocks = sorted(found, key=lambda block: [*TITLES, block].index(block))
    bodies = []
    for block in blocks:
        lines = [
            _row(number, entry, cells.get(entry.label), frame, fronts[number])
            for number, entry in enumerate(entries)
            if entry.block == block
        ]
        title = _title(block, ran, frame.columns + 1)
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


def _differ(entries: Sequence[Entry]) -> bool:
    return any(entry.differences for entry in entries)


def _head(frame: _Frame) -> str:
    groups: list[list[str | int]] = []
    columns = []
    for place, heading in enumerate(frame.headings[1:], start=1):
        group = GROUPS.get(heading, heading)
        if groups and groups[-1][0] == group:
            groups[-1][1] = int(groups[-1][1]) + 1
        else:
            groups.append([group, 1])
        columns.append(_heading(heading, place, group))
        if heading == "test %" and frame.fronts:
            groups[-1][1] = int(groups[-1][1]) + 1
            columns.append(_heading("front", len(frame.headings), group))
    top = "".join(
        f'<th colspan="{count}" scope="colgroup" data-g="{escape(str(name))}">'
        f"{escape(str(name))}</th>"
        for name, count in groups
    )
    last = (
        '<th rowspan="2" class="text">differs from the first row</th>' if frame.differences else ""
    )
    first = (
        '<th rowspan="2" class="label" data-c="0" aria-sort="none">'
        '<button type="button">entry</button></th>'
    )
    return f"<thead><tr>{first}{top}{last}</tr><tr>{''.join(columns)}</tr></thead>"


def _heading(heading: str, place: int, group: str) -> str:
    about = ABOUT.get(heading, _FRONT if heading == "front" else "")
    mark = ' class="front"' if heading == "front" else ""
    return (
        f'<th scope="col"{mark} data-c="{place}" data-g="{escape(group)}" aria-sort="none">'
        f'<button type="button" title="{escape(about)}">{escape(_pretty(heading))}</button></th>'
    )


_FRONT = "where no other entry is both more accurate and cheaper: " + ", ".join(
    f"{cost.letter} {cost.title.split(' (')[0]}" for cost in COSTS if cost.letter
)


def _pretty(heading: str) -> str:
    return heading.replace("uJ", "µJ").replace("x ANN", "× ANN")


def _row(
    number: int, entry: Entry, cells: Sequence[str] | None, frame: _Frame, front: list[str]
) -> str:
    tags = ['<span class="tag">control</span>'] if entry.control else []
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
        reason = f'<td class="reason" colspan="{frame.columns}">{_reason(entry)}</td>'
        return f"{opening}{reason}</tr>"
    columns = []
    for place, cell in enumerate(cells[1:], start=1):
        heading = frame.headings[place]
        place_in = f'data-c="{place}" data-g="{escape(GROUPS.get(heading, heading))}"'
        value = sort_value(cell)
        top = value is not None and value == frame.best[place] and entry.competes
        doubt = f" {NO_RANK}" if top and heading == "test %" and frame.tied else ""
        shown = f"<b>{escape(cell)}</b>{doubt}" if top else escape(cell)
        seeds = f' title="{escape(_seeds(entry))}"' if heading == "test %" else ""
        sort = "" if value is None else f' data-v="{value:.10g}"'
        mark = ' class="best"' if top else ""
        columns.append(f"<td {place_in}{mark}{sort}{seeds}>{shown}</td>")
        if heading == "test %" and frame.fronts:
            columns.append(_front_cell(front, len(frame.headings)))
    if frame.differences:
        text = escape(_short(entry.differences or ()))
        columns.append(f'<td class="text" title="{text}"><span>{text}</span></td>')
    return f"{opening}{''.join(columns)}</tr>"


def _short(differences: Sequence[str]) -> str:
    """Write differences as the terminal does, without the path of the one stage."""
    return "; ".join(differences).replace("stages.0.", "")


def _front_cell(front: list[str], place: int) -> str:
    sort = f' data-v="{len(front)}"' if front else ""
    marks = "".join(f"<abbr>{letter}</abbr>" for letter in front)
    return f'<td class="front" data-c="{place}" data-g="accuracy"{sort}>{marks}</td>'


def _reason(entry: Entry) -> str:
    """Say why an entry has no numbers."""
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
        last = f", val {100 * one.curve[-1]['val_accuracy']:.1f} %" if one.curve else ""
        texts.append(f"seed {one.seed}: {len(one.curve)}{of} epochs{last}")
    return texts


def _seeds(entry: Entry) -> str:
    parts = [f"{run['seed']}: {100 * run['test_accuracy']:.2f} %" for run in entry.runs]
    return "by seed " + ", ".join(parts)


def _best(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[float | None]:
    """Return the best number of each column; None where that says nothing."""
    best: list[float | None] = []
    for place, heading in enumerate(headings):
        values = [value for row in rows if (value := sort_value(row[place])) is not None]
        choose = _BEST.get(heading)
        tell = choose is not None and len(set(values)) > 1
        best.append(choose(values) if choose is not None and tell else None)
    return best


def _fronts(entries: Sequence[Entry]) -> list[list[str]]:
    """Return per entry the letters of the costs on whose front it lies, doubtful ones signed."""
    letters: list[list[str]] = [[] for _ in entries]
    for cost in COSTS:
        for line in front(entries, cost) if cost.letter else ():
            shown = line if len(line) < _rivals(entries, line) else []
            doubtful = unsettled(entries, cost, line) if shown else set()
            for number in shown:
                letters[number].append(cost.letter + NO_RANK * (number in doubtful))
    return letters


def _rivals(entries: Sequence[Entry], line: Sequence[int]) -> int:
    """Count the entries that could be on a front; where all are, it says nothing."""
    data = entries[line[0]].data
    return sum(one.competes and one.data == data for one in entries)


def _level_with_best(entries: Sequence[Entry]) -> list[str]:
    """Return the labels that are level with the most accurate rival: their order is no rank."""
    scores = [means(one.record()) for one in entries if one.competes]
    if not scores:
        return []
    best = max(scores, key=lambda one: one.accuracy)
    return [one.label for one in scores if one is not best and level(best, one)]


def highlights(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """Return what a reader looks for first: title, the word on it, and what stands beside it.

    Costs are compared within one percentage point of the best accuracy, among spiking nets where
    there are any, on one data set. A single entry is compared with nothing.
    """
    rivals = [one for one in entries if one.competes]
    rivals = [one for one in rivals if one.spiking] or rivals
    if not rivals or len({one.data for one in rivals}) > 1:
        return []
    top = max(rivals, key=lambda one: mean(accuracies(one)))
    best = accuracies(top)
    reached = f"{spread_text(best, '{:.2f}'.format)} %"
    if len(rivals) == 1:
        costs = [
            (title, _written(top, place), "")
            for place, (title, _) in enumerate(_TILES)
            if _cost(top, place) is not None
        ]
        return [("test accuracy", reached, ""), *costs]
    near = [one for one in rivals if mean(accuracies(one)) >= mean(best) - 1]
    tied = len(_level_with_best(rivals))
    reached += f", {tied} more level with it" if tied else ""
    found = [("highest accuracy", top.label, reached)]
    for place, (title, _) in enumerate(_TILES):
        if any(_cost(one, place) is None for one in near):
            continue
        least = min(near, key=lambda one: _cost(one, place) or 0.0)
        beside = f"{_written(least, place)} at {mean(accuracies(least)):.2f} %"
        found.append((f"least {title}", least.label, beside))
    return found


_TILES = (
    ("energy, strict", "{:.3g} µJ"),
    ("training memory", "{:.1f} MB"),
    ("training time", "{:.1f} s"),
)
"""Titles and units of the first of `COSTS`."""


def _cost(entry: Entry, place: int) -> float | None:
    return cost_of(entry, COSTS[place])


def _written(entry: Entry, place: int) -> str:
    return _TILES[place][1].format(_cost(entry, place))
