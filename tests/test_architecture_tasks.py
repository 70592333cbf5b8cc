"""The house rule on tasks, read from the source: no other room names a metric."""

import ast
import re
from pathlib import Path

import spikeloom
from spikeloom.tasks.base import TASKS

PACKAGE = Path(spikeloom.__file__).parent

OF_CLASSES = {"report/classes.py": "a table of classification alone", "program/recipe.py": "claims"}
"""Where a metric is named outside `tasks/` and the battery, whose toy is a classifier, and why."""


def test_tasks_alone_name_metrics():
    names = {metric.name for name in TASKS.names() for metric in TASKS.find(name).metrics}
    found = set()
    for source in sorted(PACKAGE.rglob("*.py")):
        place = source.relative_to(PACKAGE)
        if place.parts[0] in ("tasks", "check"):
            continue
        tree = ast.parse(source.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            words = []
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = [] if id(node) in docs else re.findall(r"[a-z0-9]+", node.value)
            elif isinstance(node, ast.Attribute | ast.Name):
                words = (node.attr if isinstance(node, ast.Attribute) else node.id).split("_")
            if names & set(words):
                found.add(place.as_posix())
    assert found == set(OF_CLASSES)
