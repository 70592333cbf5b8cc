"""A comparison as lines of text: the blocks, then the notes on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spikeloom.records.comparison import ComparisonRecord, EntryRecord
from spikeloom.records.units import microjoules
from spikeloom.report.classes import class_lines
from spikeloom.report.columns import MAIN, Column, explained, fitted, of_group
from spikeloom.report.doubts import doubts
from spikeloom.report.means import over
from spikeloom.report.numbers import joules
from spikeloom.report.provenance import made_with
from spikeloom.report.table import (
    best_lines,
    entry_rows,
    in_parts,
    to_markdown,
    to_text,
    verdict_of,
)

TITLES = {
    "common": "same settings: only the rule and its options differ",
    "native": "own settings: more differs, listed below",
    "control": "controls: simpler trainings to compare with; settings listed below",
}
"""Blocks in the order they are shown."""

PLACEMENT = ", and the place of the loss (below)"
"""Behind the title of the common block where its rows do not place their loss alike."""

_RELU = '{default = {unit = {name = "relu"}}} '
"""How the text of most ANNs begins."""


@dataclass(frozen=True)
class Line:
    """A line of text and its kind, by which it is coloured."""

    text: str
    kind: Literal["head", "title", "row", "failed", "refused", "note"] = "note"


def comparison_lines(
    results: ComparisonRecord,
    width: int | None = None,
    columns: Sequence[Column] | None = None,
    *,
    explain: bool = False,
) -> list[Line]:
    """Lay out results: the blocks, then the notes on them.

    Args:
        results: of a comparison.
        width: of the terminal, in characters; None leaves no column out.
        columns: to show, in as many tables as the width asks for; None shows those of the main
            group that fit.
        explain: whether to say what each column means and how the runs were made.
    """
    entries = shown(results)
    lines = _tables(entries, width, columns)
    if different := _differences(results, entries):
        lines += [Line(""), *different]
    lines += _placement(entries)
    lines += problems(entries)
    if not explain:
        return [*lines, Line(HINT)]
    legend = [Line(""), *map(Line, explained(fitted(columns or of_group(MAIN), entries)))]
    reference = [Line(text) for text in (fixed_ann(entries),) if text]
    return [*lines, *legend, *reference, *_made(results, entries)]


def single_lines(
    entries: Sequence[EntryRecord],
    width: int | None = None,
    columns: Sequence[Column] | None = None,
    *,
    explain: bool = False,
) -> list[Line]:
    """Lay out entries that are no comparison; arguments as for `comparison_lines`.

    Entries that never ran have no row.
    """
    entries = [entry for entry in entries if entry.runs or verdict_of(entry)]
    lines = _tables(entries, width, columns, titled=False)
    if not explain:
        return [*lines, Line(HINT)]
    return [*lines, Line(""), *map(Line, explained(fitted(columns or of_group(MAIN), entries)))]


def _tables(
    entries: Sequence[EntryRecord],
    width: int | None,
    columns: Sequence[Column] | None,
    *,
    titled: bool = True,
) -> list[Line]:
    """Lay out the table, in parts where the width asks for it, and the notes below it."""
    first, *more = in_parts(entry_rows(entries, columns or of_group(MAIN)), width)
    lines = table_lines(entries, first, titled=titled)
    left_out: list[str] = []
    for part in more:
        if columns is None:
            left_out += [" ".join(heading.split()) for heading in part[0][1:]]
        else:
            lines += [Line(""), *table_lines(entries, part, titled=titled)]
    return [*lines, *map(Line, below_table(entries, left_out)), *map(Line, class_lines(entries))]


def below_table(entries: Sequence[EntryRecord], left_out: Sequence[str] = ()) -> list[str]:
    """Return the notes below a table: its spreads, the best entries, columns not shown."""
    lines = []
    runs = {len(entry.runs) for entry in entries} - {0}
    if runs - {1, 2}:
        count = f"{max(runs)} seeds" if len(runs - {1}) == 1 else "the seeds"
        lines.append(f"mean \N{PLUS-MINUS SIGN} standard deviation over {count}.")
    if 2 in runs:
        lines.append("mean [both seeds].")
    lines += best_lines(entries)
    lines += [f"{doubt.mark}: {doubt.label} {doubt.reason}." for doubt in doubts(entries)]
    if left_out:
        lines.append(f"too wide for this terminal: {'; '.join(left_out)}.")
    return lines


HINT = "--columns all shows every figure, --explain says what they mean."
"""Below a table in the terminal."""


def table_lines(
    entries: Sequence[EntryRecord], rows: Sequence[Sequence[str]], *, titled: bool = True
) -> list[Line]:
    """Lay out the rows of entries under their headings, in blocks with titles where asked."""
    text = to_text(rows).splitlines()
    body = text[len(text) - len(entries) :]
    lines = [Line(line, "head") for line in text[: len(text) - len(entries)]]
    for entry, title, text in zip(entries, _titles(entries), body, strict=True):
        if titled and title:
            lines.append(Line(title, "title"))
        lines.append(Line(text, verdict_of(entry) or "row"))
    return lines


def _titles(entries: Sequence[EntryRecord]) -> list[str]:
    """Return what stands above the row of each entry: a title where its block begins."""
    blocks = [block_of(entry) for entry in entries]
    return [
        title_of(block, entries) if block != before else ""
        for before, block in zip(["", *blocks], blocks, strict=False)
    ]


def plain_table(
    results: ComparisonRecord, columns: Sequence[Column] | None = None, *, markdown: bool = False
) -> str:
    """Return the table of a comparison with how it was made and what differs: for pages, READMEs.

    Args:
        results: of a comparison.
        columns: to show beside the entry's name; None shows the main group.
        markdown: as a Markdown table instead of text.
    """
    entries = shown(results)
    rows = entry_rows(entries, columns or of_group(MAIN))
    below = [*below_table(entries), *(line.text for line in _made(results, entries))]
    apart = [line.text for line in _differences(results, entries)]
    if not markdown:
        lines = [line.text for line in table_lines(entries, in_parts(rows, None)[0])]
        return "\n".join([*lines, *class_lines(entries), "", *below, *[""][: len(apart)], *apart])
    titled: list[tuple[str, ...]] = [rows[0]]
    several = len({block_of(entry) for entry in entries}) > 1
    for title, row in zip(_titles(entries), rows[1:], strict=True):
        if several and title:
            titled.append((f"*{title}*", *[""] * (len(row) - 1)))
        titled.append(row)
    by_class, differences = (
        [f"```text\n{text}\n```"] if (text := "\n".join(lines).strip("\n")) else []
        for lines in (class_lines(entries), apart)
    )
    return "\n\n".join([to_markdown(titled), *by_class, *below, *differences])


def shown(results: ComparisonRecord) -> list[EntryRecord]:
    """Return the entries of a comparison that have a row, block by block."""
    return [entry for entry in in_blocks(results.entries) if entry.runs or verdict_of(entry)]


def _made(results: ComparisonRecord, entries: Sequence[EntryRecord]) -> list[Line]:
    runs = [run for entry in entries for run in entry.runs]
    return [Line(text) for text in made_with(runs, results.command)]


def title_of(block: str, entries: Sequence[EntryRecord]) -> str:
    """Return the title of a block, saying of the common one what is not common."""
    apart = PLACEMENT if block == "common" and len(_placements(entries)) > 1 else ""
    return TITLES.get(block, block) + apart


def in_blocks(entries: Sequence[EntryRecord]) -> list[EntryRecord]:
    """Return entries block by block, in their order within each."""
    return sorted(entries, key=lambda entry: list(TITLES).index(block_of(entry)))


def block_of(entry: EntryRecord) -> str:
    """Return an entry's block; the older format knows controls only."""
    return entry.block or ("control" if entry.control else "common")


def differs(entry: EntryRecord) -> str:
    """Write in what an entry differs from the first, and what was tuned; empty where nothing is."""
    parts = [", ".join(entry.differences or ()), tuned(entry)]
    return "; ".join(filter(None, parts)).replace("stages.0.", "")


def tuned(entry: EntryRecord) -> str:
    """Write what an entry's trials chose; empty where nothing was tuned."""
    tuning = entry.tuning
    if tuning is None or not tuning.texts:
        return ""
    edge = "; best at the edge of the grid" if tuning.edge else ""
    count = len(tuning.trials)
    return f"tuned: {', '.join(tuning.texts)} (best of {count} trials{edge})"


def problems(entries: Sequence[EntryRecord]) -> list[Line]:
    """Return one line for every entry that failed or was refused."""
    return [
        Line(f"{verdict}: {entry.label}: {entry.error or entry.refusal}", verdict)
        for entry in entries
        if (verdict := verdict_of(entry))
    ]


def fixed_ann(entries: Sequence[EntryRecord]) -> str | None:
    """Name the one ANN that a whole table can be read against.

    It is the first ANN that is no control, else the first net with ReLU in place of spikes, by all
    its products, run once; None before anything ran.
    """
    ran = [entry for entry in entries if entry.runs]
    if not ran:
        return None
    anns = [entry for entry in ran if not (entry.control or entry.runs[0].facts.spiking)]
    one, run = (anns or ran)[0], (anns or ran)[0].runs[0]
    if anns:
        net, figure, how = run.net, "net", f"measured, '{one.label}'"
    else:
        net, figure = run.ann_net, "dense_ann"
        how = "not measured: every product of it once, zeros included"
    strict, paper = (
        microjoules(over(one, lambda cost, kind=kind: getattr(getattr(cost.energy, kind), figure)))
        for kind in ("strict_fp32", "paper_int32")
    )
    net = net.removeprefix(_RELU)
    return (
        f"ANN to compare with: ReLU net {net} ({how}): {joules(strict)} uJ per sample, "
        f"{joules(paper)} uJ by the paper's formulas"
    )


def _placements(entries: Sequence[EntryRecord]) -> dict[str, list[str]]:
    """Return where the rows of the common block place their loss, with their labels."""
    places: dict[str, list[str]] = {}
    for entry in entries:
        place = entry.runs[0].loss_at if entry.runs else None
        if place is not None and block_of(entry) == "common":
            places.setdefault(place, []).append(entry.label)
    return places


def _placement(entries: Sequence[EntryRecord]) -> list[Line]:
    """Say where the rows of the common block place their loss, unless all do alike."""
    places = _placements(entries)
    if len(places) < 2:
        return []
    return [
        Line(
            f"not equal between rules: loss at every step in {', '.join(places['step'])}; once at "
            f"the end in {', '.join(places['end'])}"
        )
    ]


def _differences(results: ComparisonRecord, entries: Sequence[EntryRecord]) -> list[Line]:
    told = {entry.label: text for entry in entries if (text := differs(entry))}
    if not told:
        return []
    first = results.first or results.entries[0].label
    wide = max(map(len, told))
    lines = [Line(f"differs from '{first}' in", "title")]
    return lines + [Line(f"  {label.ljust(wide)}  {text}") for label, text in told.items()]
