"""``list``: no raw mathematics, and everything about one name."""

from functools import partial

import pytest
from clikit import command
from screen import Screen

from spikeloom.base.docstrings import first_line
from spikeloom.cli.details import details, options_of
from spikeloom.neurons.base import UNITS
from spikeloom.rules.base import RULES
from spikeloom.rules.sltt import Sltt


@pytest.fixture
def call(monkeypatch, capsys):
    return partial(command, monkeypatch, capsys)


FAMILIES = ("rules", "nets", "tasks", "heads", "encoders", "units", "surrogates", "data")


@pytest.mark.parametrize("family", FAMILIES)
def test_lists_are_plain_text(call, family):
    done = call("list", family)
    assert done.code == 0 and "\\" not in done.out and "`" not in done.out


@pytest.mark.parametrize("family", [*FAMILIES, "recipes"])
def test_lists_fit_the_terminal(call, monkeypatch, tmp_path, family):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))  # every set is named as missing
    screen = Screen().feed(call("list", family).out)
    assert screen.text and max(map(len, screen.text)) <= 80


def every_name():
    from spikeloom.data import DATA
    from spikeloom.encoders import ENCODERS
    from spikeloom.heads.base import HEADS
    from spikeloom.nets.spec.presets import PRESETS
    from spikeloom.neurons.surrogate import SURROGATES

    registries = {"rules": RULES, "units": UNITS, "heads": HEADS, "encoders": ENCODERS}
    registries |= {"surrogates": SURROGATES, "data": DATA}
    pairs = [(family, name) for family, one in registries.items() for name in one.names()]
    return [*pairs, *(("nets", name) for name in PRESETS)]


@pytest.mark.parametrize(("family", "name"), every_name())
def test_every_name_has_details_in_plain_text(family, name):
    found = details(family, name)
    texts = [found.title, *(text for fact in found.facts for text in fact)]
    texts += [text for option in found.options for text in option]
    assert found.title and not any("\\" in text or "`" in text for text in texts)
    if family in ("rules", "heads", "units"):
        silent = [option for option, _, about in found.options if not about]
        assert not silent, f"{family} {name}: no meaning of {silent}"


def test_options_defaults_and_refusals(call):
    done = call("list", "rules", "sltt")
    assert done.code == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines[0] == "sltt: spatial learning through time"
    assert "k_steps none K; None takes all steps." in lines
    assert "page docs/rules/sltt.md" in lines
    assert "net c4 f2, k_steps = 5: k_steps: expected at most T = 4, got 5" in lines


def test_an_unknown_name_is_one_line(call):
    call("list", "rules", "slt").refused("list: unknown learning rule 'slt'; did you mean 'sltt'?")
    call("list", "nets", "vgg").refused("list: unknown preset 'vgg'")
    call("list", "recipes", "demos").refused("list: unknown recipe 'demos'; did you mean 'demo'?")
    call("list", "rulez", "sltt").refused("list: unknown family 'rulez'; did you mean 'rules'?")


def test_options_come_with_their_defaults():
    assert options_of(Sltt)[0][:2] == ("k_steps", "none")
    assert first_line(Sltt) == "Spatial learning through time (SLTT, SLTT-K)."
