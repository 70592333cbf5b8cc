"""Hints reach a terminal as one line, once; other warnings as Python shows them."""

import warnings

import pytest

from spikeloom.base.errors import Hint
from spikeloom.cli import main


@pytest.fixture
def shown(monkeypatch, capsys):
    monkeypatch.setattr(main, "_hints", set())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", main._show_hint)
        yield lambda: capsys.readouterr().err


def test_a_hint_is_one_line_and_said_once(shown):
    for _ in range(2):
        warnings.warn("alpha is the decay;\nname it.", Hint, stacklevel=1)
    assert shown() == "note: alpha is the decay; name it.\n"


def test_other_warnings_are_pythons(shown, monkeypatch):
    passed = []
    monkeypatch.setattr(main, "_show_warning", lambda *told: passed.append(told))
    warnings.warn("something else", UserWarning, stacklevel=1)
    ((message, category, place, *_),) = passed
    assert (str(message), category, place) == ("something else", UserWarning, __file__)
    assert shown() == ""
