"""``spikeloom report`` as a stranger runs it."""

import subprocess
import sys

import pytest
import reportkit as kit

from spikeloom.cli.main import main


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command; return exit code, output and errors."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["spikeloom", "report", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_page_lies_in_the_first_folder(command, tmp_path):
    kit.write_comparison(tmp_path / "demo", [kit.entry("BPTT", kit.run()), kit.entry("later")])
    kit.write_run(tmp_path / "run", kit.run(name="other"))
    code, out, err = command(tmp_path / "demo", tmp_path / "run")
    assert code == 0 and not err
    assert f"written: {tmp_path / 'demo' / 'report.html'}" in out
    assert "BPTT" in out and "other" in out and "--explain" in out
    assert (tmp_path / "demo" / "report.html").stat().st_size > 1e6


def test_out(command, tmp_path):
    kit.write_run(tmp_path / "run", kit.run())
    code, out, _ = command(tmp_path / "run", "--out", tmp_path / "deep" / "page.html")
    assert code == 0 and (tmp_path / "deep" / "page.html").exists()
    assert not (tmp_path / "run" / "report.html").exists()


def test_what_has_no_numbers_is_named(command, tmp_path):
    kit.write_comparison(
        tmp_path, [kit.entry("IDE", refusal="no\nfeedback"), kit.entry("DSR", error="not finite")]
    )
    kit.write_run(tmp_path / "x", kit.run(), finished=False)
    code, out, _ = command(tmp_path, tmp_path / "x")
    assert code == 0
    assert "refused: IDE: no feedback" in out and "failed: DSR: not finite" in out
    assert "unfinished: demo: seed 0: 8 of 8 epochs" in out


def test_runs_that_have_only_begun_have_no_table(command, tmp_path):
    kit.write(tmp_path / "recipe.json", kit.recipe())
    code, out, _ = command(tmp_path)
    assert code == 0 and "accuracy" not in out and "0 of 8 epochs" in out


@pytest.mark.parametrize("words", [[], ["none"], ["run", "none"], ["run", "--out", "run"]])
def test_mistakes_are_one_line(command, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    kit.write_run(tmp_path / "run", kit.run())
    code, out, err = command(*words)
    assert code == 2 and "Traceback" not in out + err and "written" not in out
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_damaged_record_is_one_line(command, tmp_path):
    (tmp_path / "result.json").write_text("{")
    code, out, err = command(tmp_path)
    assert code == 2 and err.count("\n") == 1 and "result.json" in err and not out


class TestTableAlone:
    """What README and docs print: from records, by a command, into a text or Markdown table."""

    @pytest.fixture
    def demo(self, tmp_path):
        entries = [
            kit.entry("ANN", kit.run(0.96, spiking=False, rule="ann"), block="common"),
            kit.entry("BPTT", kit.run(0.95), kit.run(0.97, seed=1), block="common"),
            kit.entry("f10", kit.run(0.9), control=True, block="control"),
        ]
        return kit.write_comparison(tmp_path / "demo", entries)

    def test_text_and_markdown(self, command, demo):
        _, text, _ = command(demo, "--text", "--columns", "accuracy,ann_energy")
        *_, head, _, title, ann, bptt = text.splitlines()[:7]
        assert head.split() == ["entry", "%", "energy"]
        assert title.startswith("same settings: ") and ann.split()[-1] == "-"
        assert bptt.split()[-1] == "1.00" and "96.00 [95.00, 97.00]" in bptt
        assert text.splitlines()[-1] == "made with: Python 3.12.3, torch 2.13.0"
        _, marked, _ = command(demo, "--markdown", "--columns", "accuracy")
        assert marked.splitlines()[:2] == ["| entry | test accuracy, % |", "|---|---:|"]
        assert "| *controls: simpler trainings to compare with" in marked
        assert not (demo / "report.html").exists()

    def test_records_kept_print_the_same_table(self, command, demo, tmp_path):
        whole = command(demo, "--text", "--records", tmp_path / "kept")[1]
        assert command(tmp_path / "kept", "--text")[1] == whole
        sizes = [(place / "results.json").stat().st_size for place in (tmp_path / "kept", demo)]
        assert sizes[0] < 0.7 * sizes[1]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--columns", "T"], "unknown column 'T'"),
            (["--text", "--columns", "EE"], "unknown column 'EE'"),
            (["--text", "--records"], "requires an argument"),
            (["--csv", "--columns", "mac"], "--csv: expected no other option"),
            (["--csv", "--out", "x"], "got --out; drop that"),
            (
                ["--text", "--explain"],
                "--explain: expected neither --text nor --markdown beside it",
            ),
        ],
    )
    def test_mistakes(self, command, demo, words, message):
        code, out, err = command(demo, *words)
        assert code == 2 and message in out + err

    def test_one_comparison_at_a_time(self, command, demo, tmp_path):
        kit.write_run(tmp_path / "run", kit.run())
        assert command(demo, demo, "--text")[0] == 2
        assert command(tmp_path / "run", "--markdown")[0] == 2


WITHOUT_TORCH = """
import sys
from spikeloom.cli.main import main
try:
    main()
finally:
    sys.stdout.write(f"torch: {'torch' in sys.modules}")
"""


def test_the_report_imports_no_torch(tmp_path):
    """Torch alone takes longer to import than the whole command."""
    kit.write_comparison(tmp_path / "demo", [kit.entry("BPTT", kit.run()), kit.entry("DSR")])
    kit.write_run(tmp_path / "run", kit.run(name="other"))
    words = ["report", str(tmp_path / "demo"), str(tmp_path / "run"), "--explain"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=True
    )
    assert "BPTT" in done.stdout and done.stdout.endswith("torch: False")
    assert 'class="boxes"' in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
