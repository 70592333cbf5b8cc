"""Reading the page as text, without a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

from spikeloom.records.files import as_record
from spikeloom.records.run import EpochRecord, RunRecord
from spikeloom.records.samples import SamplesRecord
from spikeloom.report.entries import Entry

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"


def typed(table):
    """A run of `reportkit` as the reader gives it."""
    return as_record(RunRecord, table, Path("result.json"))


def epochs(curve):
    """Epochs of `reportkit` as the reader gives them."""
    return tuple(as_record(EpochRecord, epoch, Path("metrics.jsonl")) for epoch in curve)


def entry(label, *runs, samples=None, **changes):
    """An entry of tables that `reportkit` makes."""
    recipe = runs[0].get("recipe") if runs else None
    if samples is not None:
        samples = as_record(SamplesRecord, samples, Path("samples.json"))
    records = tuple(map(typed, runs))
    return Entry(label, runs=records, samples=samples, **({"recipe": recipe} | changes))


class Reader(HTMLParser):
    """Collects tags, their attributes, and the text outside of scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.scripts, self.inside = [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif not self.inside:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, **wanted):
        wanted = {key.rstrip("_"): value for key, value in wanted.items()}
        return [
            attrs for name, attrs in self.tags if name == tag and wanted.items() <= attrs.items()
        ]


def rows(html):
    """Cells of every row that has a label, as text."""
    found = re.findall(r'<tr class="[^"]*" data-e="\d+">.*?</tr>', html, re.S)
    return [[Reader(cell).text for cell in re.split("</t[hd]>", row)[:-1]] for row in found]
