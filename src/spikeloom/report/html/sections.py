"""The written parts of the page: lede, warnings, settings, environment, sources."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from statistics import mean

from spikeloom.records.run import RunRecord, SourceRecord
from spikeloom.report.entries import Entry
from spikeloom.report.html.diagram import draw_net
from spikeloom.report.html.figures import judged
from spikeloom.report.html.scores import highlights, unfinished_text
from spikeloom.report.html.settings import compare_settings, environments
from spikeloom.report.layers import few_steps

_NETS_SHOWN = 3
_NAMED, _LABELS = 4, 8
"""How many names, how many labels a list gives before it counts the rest."""

_SHORT = 28
"""Characters of a setting that stays on one line."""

_DOI = re.compile(r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)?(10\.\d{4,9}/[^\s\"'<>]+)", re.I)
_ARXIV = re.compile(
    r"(?:arxiv:\s*|https?://arxiv\.org/abs/)([\w.-]+/\d{7}|\d{4}\.\d{4,5})(?:v\d+)?", re.I
)


def title_of(entries: Sequence[Entry]) -> str:
    """Return what the page is called."""
    names = dict.fromkeys(one.origin or _named(one) for one in entries)
    return _listed(names)


def lede(entries: Sequence[Entry]) -> str:
    """Say in a sentence what was compared on what, and in tiles what came out."""
    rules = dict.fromkeys(_rules(run) for one in entries for run in one.runs)
    data = dict.fromkeys(one.data for one in entries if one.data)
    tests = {run.test_samples for one in entries for run in one.runs} - {None}
    controls = sum(one.control for one in entries)
    runs = sum(len(one.runs) for one in entries)
    parts = [_many(len(entries), "entry", "entries")] if len(entries) > 1 else ["A net"]
    parts[0] += f" ({_many(controls, 'control')} among them)" if controls else ""
    if rules:
        parts.append(f"trained by {escape(_listed(rules))}")
    if data:
        parts.append(f"on <b>{escape(_listed(data))}</b>")
    parts.append(f"in {_many(runs, 'finished run')}")
    sentence = " ".join(parts) + "."
    if len(tests) == 1:
        who = "It" if runs == 1 else "Every run"
        count = f"{tests.pop():,} samples"
        sentence += f" {who} was tested once, on {count} that were used for no selection."
    found = highlights(entries)
    tiles = "".join(
        f"<div><dt>{escape(title)}</dt><dd><b>{escape(word)}</b><span>{escape(beside)}</span></dd>"
        "</div>"
        for title, word, beside in found
    )
    metric = judged(entries)
    near = "one percentage point" if metric.unit == "%" else "one hundredth"
    note = f"Costs: the least within {near} of the {metric.best}est {metric.word}."
    compared = any(beside for _, _, beside in found)
    return (
        f'<p class="lede">{sentence}</p>'
        + (f'<dl class="tiles">{tiles}</dl>' if tiles else "")
        + (f'<p class="fine">{note}</p>' if compared else "")
    )


def _rules(run: RunRecord) -> str:
    stages = [stage.rule for stage in run.stages]
    return " → ".join(stages) if len(stages) > 1 else run.rule


def nets(entries: Sequence[Entry]) -> str:
    """Draw each network once, with the entries that train it.

    Nets of other units are other nets. A ReLU net stands with the first spiking net that it is the
    ReLU net of; a net with feedback has none.
    """
    spiking: dict[str, str] = {}
    for entry in entries:
        for run in entry.runs:
            if entry.spiking and "feedback = [" not in run.net:
                spiking.setdefault(run.ann_net, run.net)
    users: dict[str, list[str]] = {}
    for entry in entries:
        trained = [
            run.net if entry.spiking or run.ann_net not in spiking else spiking[run.ann_net]
            for run in entry.runs
        ]
        for net in dict.fromkeys(trained):
            users.setdefault(net, []).append(entry.label)
    shown = [
        f'<div class="netrow">{draw_net(net)}<p class="fine">{escape(_labelled(labels))}</p></div>'
        for net, labels in users.items()
    ]
    rest = shown[_NETS_SHOWN:]
    folded = f"<details><summary>{len(rest)} more</summary>{''.join(rest)}</details>"
    return "".join(shown[:_NETS_SHOWN]) + (folded if rest else "")


def warnings(entries: Sequence[Entry]) -> str:
    """List what went wrong or did not finish; empty where nothing did."""
    lines: list[tuple[str, str, str]] = []
    for entry in entries:
        if entry.refusal is not None:
            lines.append(("refused", entry.label, entry.refusal))
        if entry.error is not None:
            lines.append(("failed", entry.label, entry.error))
        lines += [("unfinished", entry.label, text) for text in unfinished_text(entry)]
        said: dict[str, list[int]] = {}
        for run in entry.runs:
            for text in _run_warnings(run):
                said.setdefault(text, []).append(run.seed)
        for text, seeds in said.items():
            where = f" ({len(seeds)} of {len(entry.runs)} seeds)" if len(entry.runs) > 1 else ""
            lines.append(("warning", entry.label, text + where))
    return "".join(
        f'<li class="{kind}"><b>{kind}</b> <span>{escape(label)}</span> {escape(text)}</li>'
        for kind, label, text in lines
    )


def _run_warnings(run: RunRecord) -> Sequence[str]:
    """Return a run's warnings; those of its layers where it recorded no text."""
    if run.warnings is not None:
        return run.warnings
    return [
        f"layer {site.site} is {site.verdict}."
        for epoch in run.curve[:1]
        for site in epoch.health or []
        if not site.healthy
    ]


def settings(entries: Sequence[Entry]) -> str:
    """Tabulate the settings that differ, and fold those that do not."""
    found = compare_settings(entries)
    if all(row is None for row in found.rows):
        return "<p>The records hold no settings.</p>"
    html = ""
    if found.differing:
        head = "".join(f'<th scope="col">{_breakable(path)}</th>' for path in found.differing)
        body = "".join(
            f'<tr data-e="{number}"><th scope="row" class="label">'
            f'<i class="swatch" data-e="{number}"></i><span>{escape(entry.label)}</span></th>'
            + "".join(map(_cell, row))
            + "</tr>"
            for number, (entry, row) in enumerate(zip(entries, found.rows, strict=True))
            if row is not None
        )
        html += (
            '<div class="scroll" tabindex="0" role="region" aria-label="settings that differ">'
            f'<table class="settings"><thead><tr><th scope="col" class="label">entry</th>{head}'
            f"</tr></thead><tbody>{body}</tbody></table></div>"
        )
    if found.shared:
        count = _many(len(found.shared), "setting")
        title = f"{count} {'shared by all' if found.differing else 'of the recipe'}"
        fold = "" if found.differing else " open"
        html += f"<details{fold}><summary>{title}</summary>{_pairs(found.shared)}</details>"
    return html


def notes(entries: Sequence[Entry]) -> str:
    """Tabulate what rules and heads say of themselves, e.g. residuals; empty where none does."""
    rows = []
    for entry in entries:
        curves = [run.curve for run in entry.runs if run.curve]
        for name in dict.fromkeys(one for curve in curves for one in curve[-1].notes):
            ends = [
                [curve[at].notes[name] for curve in curves if name in curve[at].notes]
                for at in (0, -1)
            ]
            rows.append([entry.label, name, *(f"{mean(end):.3g}" if end else "" for end in ends)])
    return table("figures of rules and heads", ("figure", "first epoch", "last epoch"), rows)


def settling(entries: Sequence[Entry]) -> str:
    """Tabulate the residual of the rate equation over the steps; empty without feedback."""
    found = [
        (entry.label, [run.costs.settling for run in entry.runs if run.costs.settling])
        for entry in entries
        if entry.runs and all(run.costs.settling for run in entry.runs)
    ]
    if not found:
        return ""
    times = few_steps(max(len(one.residuals) for _, runs in found for one in runs))
    rows = []
    for label, runs in found:
        cells = [label, f"{mean(one.rates[-1] for one in runs):.3g}"]
        for t in times:
            reached = [one.residuals[t - 1] for one in runs if len(one.residuals) >= t]
            cells.append(f"{mean(reached):.3g}" if reached else "")
        rows.append(cells)
    return (
        "<p>A net with feedback should settle: at an equilibrium the firing rates a fulfil "
        "a = f(a), with f one pass through the net. The table shows the mean of |f(a) - a| over "
        "test samples, after t time steps; 0 is an equilibrium.</p>"
    ) + table("distance from the equilibrium", ("mean rate a", *(f"t = {t}" for t in times)), rows)


def table(title: str, headings: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text, the entry's label first, as a table; empty where there are none."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in headings)
    body = "".join(
        f'<tr><th scope="row" class="label">{escape(label)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for label, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        '<table class="settings"><thead><tr><th scope="col" class="label">entry</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def environment(entries: Sequence[Entry]) -> str:
    """Tabulate what the runs ran on; empty where no record says."""
    found = environments(entries)
    pairs = {
        key: ", ".join(
            value if len(values) == 1 else f"{value} ({_many(count, 'run')})"
            for value, count in values.items()
        )
        for key, values in found.items()
    }
    return _pairs(pairs) if pairs else ""


def sources(entries: Sequence[Entry]) -> str:
    """List the publications behind the methods, with the entries that use each, and BibTeX."""
    users: dict[str, list[str]] = {}
    known: dict[str, SourceRecord] = {}
    for entry in entries:
        for run in entry.runs[:1]:
            cited = {_citation(source): source for source in run.sources}
            known = cited | known
            for text in cited or filter(None, [run.source]):  # older records have a text alone
                users.setdefault(text, []).append(entry.label)
    if not users:
        return ""
    items = "".join(
        f'<li>{_linked(text)} <span class="fine">{escape(_labelled(labels))}</span></li>'
        for text, labels in users.items()
    )
    taken: set[str] = set()
    books = [_bibtex(known[text], taken) for text in users if text in known]
    bibtex = (
        "<details><summary>BibTeX</summary>"
        '<button type="button" class="copy" data-copy="bibtex">copy</button>'
        f'<pre id="bibtex">{escape(chr(10).join(books))}</pre></details>'
        if books
        else ""
    )
    return f'<ol class="sources">{items}</ol>{bibtex}'


def _citation(source: SourceRecord) -> str:
    year = f" ({source.year})" if source.year else ""
    parts = [f"{source.authors}{year}", source.title, source.venue, source.link]
    return ". ".join(part for part in parts if part)


def _linked(text: str) -> str:
    """Escape a citation and link its DOI or arXiv number; nothing else becomes a link."""
    for pattern, base in ((_DOI, "https://doi.org/"), (_ARXIV, "https://arxiv.org/abs/")):
        match = pattern.search(text)
        if match:
            number = match[1].rstrip(".,;)")
            link = f'<a href="{escape(base + number)}" rel="noreferrer">{escape(match[0])}</a>'
            return escape(text[: match.start()]) + link + escape(text[match.end() :])
    return escape(text)


def _bibtex(source: SourceRecord, taken: set[str]) -> str:
    name = re.sub(r"[^a-z]", "", source.authors.split()[0].lower()) if source.authors else ""
    key = base = f"{name or 'source'}{source.year or ''}"
    while key in taken:
        key = f"{base}{chr(ord('a') + len([one for one in taken if one.startswith(base)]))}"
    taken.add(key)
    fields = {
        "author": source.authors.replace(", ", " and ").replace(" & ", " and "),
        "title": f"{{{source.title}}}",
        "journal": source.venue,
        "year": str(source.year or ""),
        "note": source.link,
    }
    fields["author"] = fields["author"].replace(" et al.", " and others")
    body = ",\n".join(f"  {field} = {{{value}}}" for field, value in fields.items() if value)
    return f"@article{{{key},\n{body}\n}}"


def _pairs(pairs: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{_breakable(key)}</th><td>{escape(value)}</td></tr>"
        for key, value in pairs.items()
    )
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'


def _cell(value: str) -> str:
    short = ' class="short"' if len(value) <= _SHORT else ""
    return f"<td{short}>{escape(value) or '–'}</td>"


def _breakable(path: str) -> str:
    return escape(path).replace(".", ".<wbr>")


def _listed(names: Iterable[str], most: int = _NAMED, between: str = ", ") -> str:
    """Name a few things and count the rest."""
    found = list(names)
    shown = between.join(found[:most])
    rest = len(found) - most
    return f"{shown} and {rest} more" if rest > 0 else shown


def _labelled(labels: Iterable[str]) -> str:
    """Name entries; labels may hold commas."""
    return _listed(labels, _LABELS, "; ")


def _many(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _named(entry: Entry) -> str:
    if entry.runs:
        return entry.runs[0].name
    return entry.unfinished[0].name if entry.unfinished else entry.label
