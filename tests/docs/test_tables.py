"""Tables of README and docs: printed by the command that stands above them, from kept records.

A comment ``<!-- table: spikeloom report benchmarks/results/demo --text -->`` announces the next
table or block of text. It must be what the command prints.
"""

import re
import shlex
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from spikeloom.cli.main import main

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"<!-- table: (spikeloom report [^\n]*?) -->\n+")
DEMO = ROOT / "benchmarks/results/demo/results.json"


def announced(text):
    """Return commands with the tables that follow them."""
    found = []
    for mark in MARK.finditer(text):
        lines = text[mark.end() :].splitlines()
        if lines and lines[0].startswith("```"):
            table = list(takewhile(lambda line: line != "```", lines[1:]))
        else:
            table = list(takewhile(lambda line: line.startswith("|"), lines))
        found.append((mark[1], "\n".join(table)))
    return found


PAGES = [
    path
    for place in ("README.md", "docs", "benchmarks")
    for path in sorted([ROOT / place] if place.endswith(".md") else (ROOT / place).rglob("*.md"))
]
TABLES = [
    (path.relative_to(ROOT), command, table)
    for path in PAGES
    for command, table in announced(path.read_text(encoding="utf-8"))
]


def printed(command, monkeypatch, capsys):
    """Run a command of a page in the repository's root; return what it prints."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def test_what_follows_a_mark_is_its_table():
    text = "<!-- table: spikeloom report a --markdown -->\n\n| x |\n|---|\n| 1 |\n\nmore\n"
    text += "<!-- table: spikeloom report b --text -->\n```text\nhead\nrow\n```\n"
    assert announced(text) == [
        ("spikeloom report a --markdown", "| x |\n|---|\n| 1 |"),
        ("spikeloom report b --text", "head\nrow"),
    ]


@pytest.mark.parametrize("page, command, table", TABLES, ids=[f"{p} {c}" for p, c, _ in TABLES])
def test_a_table_is_what_its_command_prints(page, command, table, monkeypatch, capsys):
    assert printed(command, monkeypatch, capsys).startswith(table), page


@pytest.mark.skipif(not DEMO.exists(), reason="make bench-demo writes the record")
def test_the_readme_shows_the_record_of_the_demo():
    commands = [command for page, command, _ in TABLES if str(page) == "README.md"]
    assert any("benchmarks/results/demo" in command for command in commands)


@pytest.mark.slow
@pytest.mark.skipif(not DEMO.exists(), reason="make bench-demo writes the record")
@pytest.mark.parametrize("label", ["ANN", "BPTT", "SLTT"])
def test_a_fresh_run_is_within_the_spread_of_the_record(label, tmp_path):
    """Trains one seed again: two test images or three deviations, whichever is more."""
    from spikeloom.compare.plan import read_comparison
    from spikeloom.records.comparison import ComparisonRecord
    from spikeloom.records.files import open_record
    from spikeloom.report.means import means
    from spikeloom.train.loop import train

    entries = open_record(DEMO, ComparisonRecord).entries
    stored = means(next(entry for entry in entries if entry.label == label))
    plan = read_comparison(ROOT / "recipes/demo.toml")
    recipe = next(row.recipe for row in plan.rows if row.label == label)
    record = train(recipe.model_copy(update={"seed": plan.seeds[0]}), tmp_path / "run").record
    apart = max(2 * stored.sample, 3 * (stored.deviation or 0.0))
    assert 100 * record.test_accuracy == pytest.approx(stored.score, abs=apart)
    spikes = record.costs.spikes.mean
    assert spikes == pytest.approx(stored.spikes or 0.0, rel=0.25)
