"""The page: one HTML file that needs neither network nor server."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from spikeloom.base.extras import install_line, installed
from spikeloom.records import storage
from spikeloom.report.classes import class_lines
from spikeloom.report.columns import COLUMNS, GROUPS, MAIN, explained, fitted
from spikeloom.report.entries import Entry
from spikeloom.report.html import sections
from spikeloom.report.html.energy import energy
from spikeloom.report.html.figures import Drawn, figure_data, judged
from spikeloom.report.html.scores import DIFFERENCES, score_table
from spikeloom.report.records import read_entries


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; one without content is left out."""

    name: str
    title: str
    html: str
    short: str = ""

    def __str__(self) -> str:
        if not self.html:
            return ""
        return f'<section id="{self.name}"><h2>{self.title}</h2>{self.html}</section>'

    def link(self) -> str:
        """Return its place in the bar."""
        return f'<a href="#{self.name}">{self.short or self.title}</a>'


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Read run and comparison folders and write their report.

    Args:
        folders: run folders, comparison folders, or folders of either.
        out: the HTML file; replaced whole or not at all.

    Returns:
        The file.

    Raises:
        ConfigError: a folder without records, or a file that cannot be written.
        DataError: a record that is damaged, foreign, or of a newer format.
    """
    return write_entries(read_entries(folders), out)


def write_entries(entries: Sequence[Entry], out: Path) -> Path:
    """Write the report of entries that are already read."""
    storage.write_bytes(out, render(entries).encode())
    return out


def render(entries: Sequence[Entry]) -> str:
    """Return the page as text.

    Every text of a record is escaped. A policy inside the page lets nothing be loaded, and nothing
    run but its own scripts, by their hashes.
    """
    drawn = figure_data(entries)
    scripts = {"table": _asset("table.js"), "plotly": "", "charts": ""}
    figures = _figures(drawn)
    drawable = installed("plotly")
    if drawable:
        scripts |= {"plotly": _plotly(), "charts": _asset("charts.js")}
    elif figures:
        figures = [Section("figures", "Figures", f"<p>{_NO_FIGURES}</p>")]
    above = [
        Section("warnings", "Warnings", _warnings(entries)),
        Section("scores", "Results", _scores(entries)),
    ]
    below = [
        Section("energy", "Energy by every convention", energy(entries), "Energy"),
        Section("notes", "Figures of rules and heads", sections.notes(entries)),
        Section("settling", "How firing rates settle", sections.settling(entries), "Settling"),
        Section("settings", "Settings", sections.settings(entries)),
        Section("environment", "Environment", sections.environment(entries)),
        Section("sources", "Sources", sections.sources(entries)),
        Section("reading", "How to read this", _reading(entries), "Reading"),
    ]
    links = [part.link() for part in (*above, *figures, *below) if part.html]
    return _filled(
        "page.html",
        policy=_policy(scripts.values()),
        title=escape(sections.title_of(entries)),
        style=_asset("page.css"),
        lede=sections.lede(entries),
        nets=sections.nets(entries),
        links="".join(links),
        above="".join(map(str, above)),
        figures="".join(map(str, figures)),
        entries=_legend(entries),
        below="".join(map(str, below)),
        alone="hidden" if len(entries) == 1 else "",
        undrawn="hidden" if len(entries) == 1 or not drawable else "",
        data=embed(drawn),
        **scripts,
    )


def embed(data: Drawn) -> str:
    """Write JSON that cannot close the script element around it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _scores(entries: Sequence[Entry]) -> str:
    shown = (MAIN, DIFFERENCES)
    groups = "".join(
        f'<label><input type="checkbox"{" checked" if group in shown else ""} '
        f'data-group="{group}">{group}</label>'
        for group in (*GROUPS, DIFFERENCES)
    )
    key = _KEY if sum(bool(entry.runs) for entry in entries) > 1 else ""
    return (
        f'<div class="tools script" role="group" aria-label="columns shown">{groups}</div>'
        '<div class="scroll" tabindex="0" role="region" aria-label="table of scores">'
        f"{score_table(entries)}</div>{key}{_by_class(entries)}"
    )


def _by_class(entries: Sequence[Entry]) -> str:
    text = "\n".join(class_lines([entry.record() for entry in entries])).strip("\n")
    return f'<pre class="classes scroll" tabindex="0">{escape(text)}</pre>' if text else ""


def _warnings(entries: Sequence[Entry]) -> str:
    lines = sections.warnings(entries)
    return f'<ul class="warnings">{lines}</ul>' if lines else ""


def _figures(drawn: Drawn) -> list[Section]:
    """Return the sections of figures for which there is something to draw."""
    there = {
        "curves": any(drawn["curves"]),
        "tradeoffs": sum(point is not None for point in drawn["points"]) > 1,
        "rates": bool(drawn["rates"]["rows"]),
        "steps": any(drawn["steps"]),
        "samples": any(one and one["samples"] for one in drawn["samples"]),
    }
    word = drawn["metric"]["word"]
    score = word[:1].upper() + word[1:]
    return [
        Section(
            name,
            title.format(score=score),
            _filled(f"{name}.html", plots=_plots(name, drawn), score=f"Test {word}"),
            short,
        )
        for name, (title, short) in _FIGURES.items()
        if there[name]
    ]


def _plots(name: str, drawn: Drawn) -> str:
    """Return the places of a section's plots; the script fills those that come into view."""
    if name == "curves":
        charts = ["loss", drawn["metric"]["name"]]
    elif name == "tradeoffs":
        charts = [f"cost:{cost['key']}" for cost in drawn["costs"]]
    else:
        charts = [name]
    places = "".join(f'<div class="plot" data-chart="{escape(chart)}"></div>' for chart in charts)
    return f'<div class="plots {name}">{places}</div><p class="fine" data-note="{name}"></p>'


def _legend(entries: Sequence[Entry]) -> str:
    return "".join(
        f'<li><button type="button" data-e="{number}" aria-pressed="false">'
        f'<i class="swatch" data-e="{number}"></i><span>{escape(entry.label)}</span></button></li>'
        for number, entry in enumerate(entries)
        if entry.drawn
    )


def _reading(entries: Sequence[Entry]) -> str:
    columns = fitted(COLUMNS, [entry.record() for entry in entries])
    lines = "".join(f"<li>{escape(line)}</li>" for line in explained(columns))
    word = judged(entries).word
    score = word[:1].upper() + word[1:]
    return _filled("reading.html", columns=lines.replace("uJ", "µJ"), score=score)


def _policy(scripts: Iterable[str]) -> str:
    """Return a content security policy: own scripts by hash, own styles, nothing from outside."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
        for one in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return files("spikeloom.report.html").joinpath("assets", name).read_text(encoding="utf-8")


def _filled(name: str, **parts: str) -> str:
    return Template(_asset(name)).substitute(parts)


def figures_lacking() -> str | None:
    """Say how pages get figures, where plotly is absent; None where it is there."""
    if installed("plotly"):
        return None
    return f"no figures in the page: they need plotly; {install_line('plotly')} and report again"


@cache
def _plotly() -> str:
    """Return plotly's script, as an HTML parser hands it on."""
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n")
    assert "</script" not in script.lower()
    return script


_NO_FIGURES = (
    "Learning curves, costs, firing rates and samples are drawn by plotly, which was not installed "
    f"where this page was written. After <code>{install_line('plotly')}</code>, "
    "<code>spikeloom report</code> on the same folder writes the page with its figures."
)

_KEY = (
    '<p class="fine">Bold: best of its column; controls and failed entries take no part. Best at '
    "its energy, memory or time: no other entry is both better and cheaper. Tie: another "
    "entry is within one test sample or the standard deviation over seeds. Point at a heading to "
    "see what it means.</p>"
)


_FIGURES = {
    "curves": ("Learning curves", "Curves"),
    "tradeoffs": ("{score} against cost", "Costs"),
    "rates": ("Firing rates", "Rates"),
    "steps": ("{score} against T", "Steps"),
    "samples": ("Samples", ""),
}
"""Title of each section of figures, and how the bar names it; the rest is in its asset."""
