"""new rule and check rule as a hurried stranger uses them."""

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
