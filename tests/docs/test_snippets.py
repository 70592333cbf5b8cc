"""Every Python snippet of README and docs runs as it stands; so do the docstrings' examples."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import spikeloom
from spikeloom.rules.base import RULES
from spikeloom.tasks.base import TASKS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(spikeloom.__path__, "spikeloom.")
    if not module.name.endswith("__main__")
)


@pytest.fixture
def forgotten():
    """Rules and tasks that a page registers are gone after it."""
    known = {family: set(family.names()) for family in (RULES, TASKS)}
    yield
    for family, names in known.items():
        for name in set(family.names()) - names:
            del family._members[name]


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets_run(page, capsys):
    torch.manual_seed(0)
    for code in SNIPPET.findall(page.read_text(encoding="utf-8")):
        exec(compile(code, str(page), "exec"), {})  # noqa: S102
    if page.name == "README.md":
        accuracy = float(capsys.readouterr().out.split("test accuracy ")[1])
        assert accuracy > 0.95


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0


def anchors(page):
    """Return what a link can name on a page: its headings in lower case, joined by hyphens."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}


def test_links_in_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                place, _, anchor = target.partition("#")
                other = page.parent / place if place else page
                assert other.exists(), f"{page.name}: {target}"
                assert not anchor or anchor in anchors(other), f"{page.name}: {target}"
