"""Pages keep up with the code: recipe keys and defaults, the index, what rules refuse."""

import contextlib
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import BaseModel

from spikeloom import Batch, Softmax, SpikingNet, parse
from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.spec.codec import inline
from spikeloom.program.recipe import Net, Paper, Published, Recipe
from spikeloom.rules.base import RULES

DOCS = Path(__file__).parents[2] / "docs"
STAGE = get_args(Recipe.model_fields["stages"].annotation)[0]
MODELS: dict[str, type[BaseModel]] = {
    "The run": Recipe,
    "The network: `net`": Net,
    "One stage: `[[stages]]`": STAGE,
    "Optimizer": STAGE.model_fields["optimizer"].annotation,
    "Schedule": STAGE.model_fields["schedule"].annotation,
    "Paper": Paper,
    "Published": Published,
}
"""Models by the heading under which the page on recipes lists their keys."""
CHOICE = DOCS / "howto" / "choose_a_rule.md"
KEY = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)


def keys_under(heading):
    """Return key -> default as the page has them."""
    page = (DOCS / "concepts" / "recipes.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.M | re.S)
    return {key: default.strip("`") for key, default in KEY.findall(section)}


@pytest.mark.parametrize("heading", MODELS)
def test_the_page_names_every_key_of_a_recipe(heading):
    described, fields = set(keys_under(heading)), set(MODELS[heading].model_fields)
    assert fields <= described, f"describe {fields - described}"
    assert described <= fields, f"drop {described - fields}"


@pytest.mark.parametrize("heading", MODELS)
def test_the_page_gives_the_defaults(heading):
    for key, text in keys_under(heading).items():
        field = MODELS[heading].model_fields.get(key)
        if field is None:
            continue
        if field.is_required():
            assert text == "required", key
            continue
        default = field.get_default()
        if isinstance(default, BaseModel):
            default = default.name
        if default is None:
            assert text == "none", key
        elif isinstance(default, float):
            assert float(text) == default, key
        else:
            assert text == inline(default), key


NETS = re.findall(r"^\|[^|]+\| `([^|]+)` \|( yes.+)\|$", CHOICE.read_text("utf-8"), re.M)


@pytest.mark.parametrize(("text", "cells"), NETS)
@pytest.mark.parametrize(
    ("column", "name"), [*enumerate(("bptt", "sltt", "ottt", "ann", "dsr", "ide", "spide"))]
)
def test_the_table_of_refusals_is_true(text, cells, column, name):
    rule = RULES.find(name)()
    spec, steps = parse(text), 4
    if not rule.facts.spiking:
        spec, steps = spec.as_ann(), 1
    net = SpikingNet(spec, (2, 4, 4))
    head = Softmax.of(net)
    batch = Batch.of(torch.rand(steps, 2, 2, 4, 4), torch.tensor([0, 1]))
    said = cells.split("|")[column].split(";")[0].strip()
    trained = contextlib.nullcontext() if said == "yes" else pytest.raises(UnsupportedNet)
    with trained:
        rule.prepare(net, head.sites, batch)
        rule.learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)


def test_the_table_of_refusals_is_read():
    assert len(NETS) == 9


def test_figures_of_the_choice_stand_in_the_results():
    raw = (DOCS.parent / "benchmarks/results/2026-11-28_2-core-cpu.md").read_text("utf-8")
    page = CHOICE.read_text("utf-8")
    accuracies = re.findall(r"\d\d\.\d\d ± \d\.\d\d", page)
    assert len(accuracies) == 16
    assert [figure for figure in accuracies if f"| {figure} |" not in raw] == []
    memory, times = re.findall(r"(\d+\.\d) MB", page), re.findall(r"MB, (\d+\.\d ± \d\.\d)", page)
    assert len(memory) == 13 and len(times) == 5
    assert [figure for figure in [*memory, *times] if f"| {figure} |" not in raw] == []


def test_the_index_reaches_every_page():
    links = re.findall(r"\]\(([^)#:]+)\)", (DOCS / "index.md").read_text(encoding="utf-8"))
    reached = {(DOCS / link).resolve() for link in links}
    pages = {path.resolve() for path in DOCS.rglob("*.md")} - {(DOCS / "index.md").resolve()}
    assert pages <= reached, f"link {[str(page) for page in pages - reached]}"


@pytest.mark.parametrize("name", RULES.names())
def test_every_rule_has_a_page(name):
    page = (DOCS / "rules" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}: ")
