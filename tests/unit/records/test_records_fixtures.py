"""Run folders and a comparison that an earlier version wrote, and what was printed of them then.

The folders beside this file were trained by version 0.1.0 at format 3 from the recipes that bear
their names. Every later version opens them, and shows them to the byte as stored.
"""

import re
import shutil
from pathlib import Path

import pytest

from spikeloom import results
from spikeloom.cli.main import main
from spikeloom.report import page
from spikeloom.report.layers import layer_rows, settling_line, summary_rows, training_line
from spikeloom.report.records import read_entries
from spikeloom.report.table import to_text

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = ("plain", "stages", "small")

PAGE = "\n".join(
    f"[{name}]\n${name}"
    for name in ("title", "lede", "nets", "links", "above", "figures", "entries", "below", "data")
)
"""The page without scripts and styles: what of it comes from records."""


def printed(monkeypatch, capsys, *words):
    """What the command prints, run in the folder of the fixtures."""
    monkeypatch.chdir(FIXTURES)
    monkeypatch.setattr("sys.argv", ["spikeloom", *map(str, words)])
    monkeypatch.setattr("spikeloom.report.page.figures_lacking", lambda: None)
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    assert not end.value.code, captured.err
    return captured.out


def expect(name, text):
    """Compare with what is stored, to the byte."""
    stored = FIXTURES / name
    assert stored.read_text(encoding="utf-8") == text.rstrip("\n") + "\n"


def lines_of(text):
    """A page's text with a line per tag, so that a difference can be read."""
    return re.sub(r"(?<=>)(?=<)", "\n", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_report_command_prints_the_same(name, monkeypatch, capsys, tmp_path):
    words = ("--columns", "all", "--explain", "--out", tmp_path / "x.html")
    text = printed(monkeypatch, capsys, "report", name, *words)
    expect(f"{name}.txt", text.replace(str(tmp_path), "."))


@pytest.mark.parametrize("name", NAMES)
def test_figures_as_csv(name, monkeypatch, capsys):
    expect(f"{name}.csv", printed(monkeypatch, capsys, "report", name, "--csv"))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebooks_table(name):
    found = results(FIXTURES / name)
    expect(f"{name}.md", found.markdown("all") + "\n\n" + found._repr_html_())


def test_the_tables_of_a_comparison(monkeypatch, capsys):
    expect("small.table.txt", printed(monkeypatch, capsys, "report", "small", "--text"))
    expect("small.table.md", printed(monkeypatch, capsys, "report", "small", "--markdown"))


@pytest.mark.parametrize("name", NAMES)
def test_the_page(name, monkeypatch):
    stored = page._asset

    def asset(name: str) -> str:
        if name == "page.html":
            return PAGE
        if not name.endswith(".html"):
            return ""
        return re.sub(r"(?<=>) (?=<)| ?(\$plots) ?", r"\1", " ".join(stored(name).split()))

    monkeypatch.setattr(page, "_asset", asset)
    monkeypatch.setattr(page, "_plotly", lambda: "")
    monkeypatch.setattr(page, "installed", lambda library: True)
    expect(f"{name}.page.txt", lines_of(page.render(read_entries([FIXTURES / name]))))


def test_an_unfinished_run(monkeypatch, capsys, tmp_path):
    for name in ("recipe.json", "metrics.jsonl"):
        shutil.copy(FIXTURES / "stages" / name, tmp_path)
    text = printed(monkeypatch, capsys, "report", tmp_path, "--out", tmp_path / "x.html")
    assert "unfinished: stages: seed 0: 5 of 5 epochs, val 31.6 %" in text


@pytest.mark.parametrize("name", ["plain", "stages"])
def test_costs_by_layer(name):
    (entry,) = read_entries([FIXTURES / name])
    costs = entry.runs[0].costs
    parts = [to_text(layer_rows(costs)), to_text(summary_rows(costs, spiking=True))]
    parts += [training_line(costs), settling_line(costs) or "no feedback"]
    expect(f"{name}.layers.txt", "\n\n".join(parts))


def test_records_written_anew_show_the_same(monkeypatch, capsys, tmp_path):
    printed(monkeypatch, capsys, "report", "small", "--records", tmp_path)
    monkeypatch.setattr("sys.argv", ["spikeloom", "report", str(tmp_path), "--text"])
    with pytest.raises(SystemExit):
        main()
    expect("small.table.txt", capsys.readouterr().out)


def test_a_finished_comparison_goes_on_without_training(monkeypatch, capsys, tmp_path):
    """Recipes, tuning and records of the folder are those of the same command today."""
    shutil.copytree(FIXTURES / "small", tmp_path / "small")
    before = (tmp_path / "small/bptt/seed0/result.json").read_bytes()
    monkeypatch.setattr("spikeloom.compare.run.train", None)
    out = ("--out", tmp_path / "small", "--quiet")
    text = printed(monkeypatch, capsys, "compare", "small.toml", *out)
    expect("small.compare.txt", text.replace(str(tmp_path), "."))
    assert (tmp_path / "small/bptt/seed0/result.json").read_bytes() == before
