"""``spikeloom report`` as a stranger runs it."""

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
    assert "BPTT" in out and "other" in out and "Energy is a model" in out
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
    assert code == 0 and "test %" not in out and "0 of 8 epochs" in out


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
