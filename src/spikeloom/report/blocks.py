"""A whole comparison as lines of text: the blocks, and below them what must be said with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spikeloom.report.means import means, over
from spikeloom.report.table import NOTE, entry_rows, fitted, joules, to_text, verdict_of

Record = dict[str, Any]

TITLES = {
    "common": "common: everything equal but the rule and its options",
    "native": "own settings: what else differs stands below",
    "control": "controls",
}
"""Blocks in the order they are shown."""

_RELU = '{default = {unit = {name = "relu"}}} '
"""How the text of most ANNs begins."""


@dataclass(frozen=True)
class Line:
    """A line of text and what it is, for whoever colours it."""

    text: str
    kind: Literal["head", "title", "row", "failed", "refused", "note"] = "note"


def comparison_lines(results: Record, width: int | None = None) -> list[Line]:
    """Lay out results: the two blocks, controls, differences, failures, the fixed ANN, the note.

    Args:
        results: content of results.json, of this format or the one before.
        width: of the terminal, in characters; None leaves no column out.
    """
    entries = [
        entry for entry in in_blocks(results["entries"]) if entry["runs"] or verdict_of(entry)
    ]
    rows, left_out = fitted(entry_rows(entries), width)
    head, rule, *body = to_text(rows).splitlines()
    lines = [Line(head, "head"), Line(rule, "head")]
    block = None
    for entry, text in zip(entries, body, strict=True):
        if block_of(entry) != block:
            block = block_of(entry)
            lines.append(Line(TITLES[block], "title"))
        lines.append(Line(text, verdict_of(entry) or "row"))
    if left_out:
        lines.append(
            Line(f"left out at {width} columns: {', '.join(left_out)}; results.json has them all")
        )
    lines += [Line(""), *_differences(results, entries)]
    lines += _placement(entries)
    lines += problems(entries)
    if reference := fixed_ann(entries):
        lines.append(Line(reference))
    return [*lines, Line(NOTE)]


def in_blocks(entries: Sequence[Record]) -> list[Record]:
    """Return entries block by block, in their order within each."""
    return sorted(entries, key=lambda entry: list(TITLES).index(block_of(entry)))


def block_of(entry: Record) -> str:
    """Return an entry's block; the older format knows controls only."""
    return entry.get("block") or ("control" if entry["control"] else "common")


def differs(entry: Record) -> str:
    """Write in what an entry differs from the first, and what was tuned; empty where nothing is."""
    parts = [", ".join(entry.get("differences") or ()), tuned(entry)]
    return "; ".join(filter(None, parts)).replace("stages.0.", "")


def tuned(entry: Record) -> str:
    """Write what an entry's trials chose; empty where nothing was tuned."""
    tuning = entry.get("tuning") or {}
    if not tuning.get("texts"):
        return ""
    edge = "; best at the edge of the grid" if tuning.get("edge") else ""
    count = len(tuning.get("trials", ()))
    return f"tuned: {', '.join(tuning['texts'])} (best of {count} trials{edge})"


def problems(entries: Sequence[Record]) -> list[Line]:
    """Return one line for every entry that failed or was refused."""
    return [
        Line(f"{verdict}: {entry['label']}: {entry.get('error') or entry['refusal']}", verdict)
        for entry in entries
        if (verdict := verdict_of(entry))
    ]


def fixed_ann(entries: Sequence[Record]) -> str | None:
    """Name the one ANN that a whole table can be read against.

    It is the first ANN that is no control, else all pairs of the first net, run once; None before
    anything ran.
    """
    ran = [entry for entry in entries if entry["runs"]]
    anns = [entry for entry in ran if not entry["runs"][0]["facts"]["spiking"]]
    anns = [entry for entry in anns if not entry["control"]]
    if anns:
        one = means(anns[0])
        net, how = anns[0]["runs"][0]["net"], f"measured, '{one.label}'"
        strict, paper = one.energy, one.energy_paper
    elif ran:
        net, how = ran[0]["runs"][0]["ann_net"], "not in the table: all pairs, run once"
        strict, paper = (
            over(ran[0], lambda cost, key=key: cost["energy"][key]["ann"]) / 1e6
            for key in ("strict_fp32", "paper_int32")
        )
    else:
        return None
    net = net.removeprefix(_RELU)
    return (
        f"fixed ANN: ReLU net {net} ({how}): {joules(strict)} uJ strict (fp32), {joules(paper)} "
        "uJ paper (int32) per inference"
    )


def _placement(entries: Sequence[Record]) -> list[Line]:
    """Say where the rows of the common block place their loss, unless all do alike."""
    places: dict[str, list[str]] = {}
    for entry in entries:
        place = entry["runs"][0].get("loss_at") if entry["runs"] else None
        if place is not None and block_of(entry) == "common":
            places.setdefault(place, []).append(entry["label"])
    if len(places) < 2:
        return []
    return [
        Line(
            f"not equal between rules: loss at every step in {', '.join(places['step'])}; once at "
            f"the end in {', '.join(places['end'])}"
        )
    ]


def _differences(results: Record, entries: Sequence[Record]) -> list[Line]:
    told = {entry["label"]: text for entry in entries if (text := differs(entry))}
    if not told:
        return []
    first = results.get("first", results["entries"][0]["label"])
    wide = max(map(len, told))
    lines = [Line(f"differs from '{first}' in", "title")]
    return lines + [Line(f"  {label.ljust(wide)}  {text}") for label, text in told.items()]
