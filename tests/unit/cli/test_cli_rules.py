"""new rule and check rule as a hurried stranger uses them."""

import os
import sys

import pytest
from clikit import command

from spikeloom.check import battery, form, memory
from spikeloom.rules.base import RULES


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    known = set(RULES.names())
    yield lambda *words: command(monkeypatch, capsys, *words)
    for name in set(RULES.names()) - known:
        del RULES._members[name]
        for module in ("_file_own", "_file_second", "beside"):
            sys.modules.pop(module, None)


@pytest.fixture
def few(monkeypatch):
    """Two checks: tests/contracts runs all of them on every registered rule."""
    checks = (form.is_a_frozen_value, memory.remembers_as_much_of_the_past_as_it_says)
    monkeypatch.setattr(battery, "BATTERY", checks)


def test_a_registered_rule_passes_line_by_line(call, few):
    done = call("check", "rule", "bptt")
    lines = done.out.splitlines()
    assert done.code == 0 and not done.err
    assert lines[0] == "bptt: Bptt(loss='end')"
    assert lines[1] == "  ok      is a frozen value"
    assert "  cosine of its gradient with BPTT's, by layer: 0.0.0 +1.000" in done.out
    assert "bptt: Bptt(loss='step')" in lines and lines[-1] == "4 ok, 0 failed, 0 skipped"


def test_what_does_not_apply_is_said(call, few):
    done = call("check", "rule", "ann")
    assert done.code == 0
    assert "  skipped remembers as much of the past as it says: it trains nets without" in done.out


def test_a_new_rule_says_how_to_go_on(call):
    done = call("new", "rule", "nova")
    assert done.code == 0 and not done.err
    assert "spikeloom check rule ./nova.py" in done.out and "pytest test_nova.py" in done.out
    assert '[project.entry-points."spikeloom.rules"]\n  nova = "nova"' in done.out


def test_mistakes_are_one_line(call):
    call("new", "rule", "nova")
    call("new", "rule", "nova").refused("new rule: expected no file nova.py, got one")
    call("new", "rule", "bptt").refused("which is a rule")
    call("new", "rule", "nova2", "--title", "x").refused("expected a title of 6 to 60 characters")
    call("check", "rule", "nova").refused("for the file write ./nova.py")
    call("check", "rule", "bpt").refused("did you mean 'bptt'?")
    assert call("check", "rule").code == 2
    assert call("new", "rule", "nova3", "--order", "both").code == 2


OWN = """
from spikeloom.rules.base import RULES
from spikeloom.rules.sltt import Sltt
from beside import SHARE

@RULES.register("own")
class Own(Sltt):
    pass
"""


def test_a_rule_of_a_file_takes_part_in_everything(call, tmp_path):
    """It is compared and listed, and known when its run is opened."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "beside.py").write_text("SHARE = 1\n")
    words = ("compare", "--net", "f8 f10", "--data", "digits", "--rules", "own", "--out", "runs")
    sets = (
        "--set",
        "stages.0.epochs=1",
        "--set",
        "data.train_size=40",
        "--set",
        "stages.0.steps=2",
    )
    call(*words).refused("unknown learning rule 'own'")
    call(*words, "--rules", "own.py").refused("run spikeloom --plugin own.py ... and write the na")
    done = call("--plugin", "own.py", *words, *sets, "--no-controls", "--seeds", "0")
    assert done.code == 0 and "own" in done.out, done.err
    del RULES._members["own"]
    sys.modules.pop("_file_own")
    (run,) = (path.parent for path in tmp_path.rglob("result.json"))
    again = call("--plugin", "own.py", "train", "--resume", run)
    assert again.code == 0, again.err
    assert "own" in call("list", "rules").out


def test_plugins_of_the_environment_come_in_their_order(call, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "beside.py").write_text("SHARE = 1\n")
    text = OWN.replace('"own"', '"second"')
    (tmp_path / "second.py").write_text(f"import _file_own\n{text}")
    monkeypatch.setenv("SPIKELOOM_PLUGINS", os.pathsep.join(["own.py", "second.py"]))
    done = call("list", "rules")
    assert done.code == 0 and {"own", "second"} <= set(RULES.names())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "--plugin: expected a Python file, got 'own.py'; correct the path"),
        ("1 / 0", "expected a file that can be imported, got ZeroDivisionError in 'own.py'"),
        (OWN.replace('"own"', '"sltt"'), "learning rule 'sltt' is registered twice"),
    ],
)
def test_a_plugin_that_does_not_do_is_refused(call, tmp_path, text, words):
    if text is not None:
        (tmp_path / "own.py").write_text(text)
    (tmp_path / "beside.py").write_text("SHARE = 1\n")
    call("--plugin", "own.py", "list", "rules").refused(words)
