"""The page of names: each can be imported, and none is missing."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import spikeloom

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
NAMES = re.findall(r"`(spikeloom\.[\w.]+)`", PAGE)
ROOMS = ("data", "encoders", "train")


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_imported(name):
    room, _, last = name.rpartition(".")
    assert getattr(import_module(room), last) is not None


def test_no_name_stands_twice():
    assert len(set(NAMES)) == len(NAMES)


def test_every_public_name_is_listed():
    assert {f"spikeloom.{name}" for name in spikeloom.__all__} <= set(NAMES)
    for room in ROOMS:
        names = import_module(f"spikeloom.{room}").__all__
        listed = {name.rpartition(".")[2] for name in NAMES}
        assert set(names) <= listed, room


def test_every_name_that_a_page_imports_is_listed():
    listed = {name.rpartition(".")[2] for name in NAMES}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for names in re.findall(r"^from spikeloom[\w.]* import ([\w, ]+)$", text, re.MULTILINE):
            assert set(names.split(", ")) <= listed, page.name
