"""A recipe to start from: it trains as it stands, and its comments are the defaults."""

import tomllib

import pytest

from spikeloom.base.errors import ConfigError
from spikeloom.program.recipe import build_recipe
from spikeloom.program.template import recipe_text, write_recipe

CHOICE = {"net": "c4 P f10", "data": "digits", "rule": "sltt"}


def test_it_is_a_recipe_of_defaults():
    recipe = build_recipe(tomllib.loads(recipe_text("mine", **CHOICE)), "x")
    least = {"name": "mine", "net": CHOICE["net"], "data": "digits", "stages": [{"rule": "sltt"}]}
    assert recipe == build_recipe(least, "x")


def test_every_comment_can_be_made_a_setting():
    """Without its mark, each line sets what holds anyway."""
    text = recipe_text("mine", **CHOICE)
    opened = [
        line.removeprefix("# ") if " = " in line.partition("  #")[0] else line
        for line in text.splitlines()
        if not line.startswith(("# a ", "# A ", "# spikeloom", "# Stages"))
    ]
    settings = "\n".join(
        line for line in opened if not line.partition("#")[0].rstrip().endswith("=")
    )
    assert build_recipe(tomllib.loads(settings), "x") == build_recipe(tomllib.loads(text), "x")
    assert settings.count(" = ") > 18


def test_nothing_is_overwritten_and_names_are_checked(tmp_path):
    write_recipe(tmp_path / "mine.toml", **CHOICE)
    with pytest.raises(ConfigError, match="expected a file that is not there, got one; name"):
        write_recipe(tmp_path / "mine.toml", **CHOICE)
    with pytest.raises(ConfigError, match="unknown learning rule 'slt'"):
        write_recipe(tmp_path / "other.toml", **CHOICE | {"rule": "slt"})
    with pytest.raises(ConfigError, match="No such file"):
        write_recipe(tmp_path / "no/folder.toml", **CHOICE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]
