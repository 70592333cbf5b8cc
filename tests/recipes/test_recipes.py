"""Every recipe in the repository is valid, with all entries of every comparison."""

from pathlib import Path

import pytest
import torch

from spikeloom.compare.plan import read_comparison
from spikeloom.data import DATA
from spikeloom.nets.module.build import Plan as NetPlan
from spikeloom.program.setup import set_up
from spikeloom.rules.base import RULES

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "recipes").rglob("*.toml"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]


def test_there_are_recipes():
    assert ROOT / "recipes" / "demo.toml" in FILES


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_recipe_is_valid(path):
    plan = read_comparison(path)
    assert plan.rows and plan.seeds
    for row in plan.rows:
        info = DATA.find(row.recipe.data.name)
        spec = row.recipe.net.spec()
        width = spec.classes or spec.blocks[-1].layers[0].out
        assert info.classes is None or width == info.classes, row.label
        if info.shape is not None:
            with torch.device("meta"):
                NetPlan(spec, info.shape)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_recipe_says_what_it_is(path):
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_names_differ():
    names = [read_comparison(path).name for path in FILES]
    assert len(set(names)) == len(names)


def test_every_row_of_the_demo_can_be_built():
    plan = read_comparison(ROOT / "recipes" / "demo.toml")
    for row in plan.rows:
        set_up(row.recipe)


def test_the_demo_compares_every_rule():
    plan = read_comparison(ROOT / "recipes" / "demo.toml")
    assert {row.recipe.last.rule.name for row in plan.rows} == set(RULES.names())
