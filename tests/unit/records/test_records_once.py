"""Names of files and conversions of units stand in one place each."""

import ast
from functools import cache
from pathlib import Path

import pytest

import spikeloom
from spikeloom.records import names

PACKAGE = Path(spikeloom.__file__).parent
FILES = {name for name in (*names.RUN, names.RESULTS, names.PAGE, names.TRACEBACK)}
CONVERTING = ("records", "report", "train", "cli", "bench")
SCALES = {1e6, 1e3, 1e-6, 1e-3}


@cache
def nodes(*rooms):
    return [
        (f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}", path, node)
        for room in rooms
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Constant, ast.BinOp))
    ]


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_file_is_named_once(file):
    found = [
        place
        for place, _, node in nodes(*CONVERTING)
        if isinstance(node, ast.Constant) and node.value == file
    ]
    assert len(found) == 1 and found[0].startswith("records/names.py"), found


def test_units_are_converted_in_one_file():
    """Nothing else multiplies or divides by thousands or millions."""
    found = [
        place
        for place, path, node in nodes(*CONVERTING)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, (ast.Mult, ast.Div))
        and any(
            isinstance(side, ast.Constant)
            and isinstance(side.value, float)
            and side.value in SCALES
            for side in (node.left, node.right)
        )
        and path.name != "units.py"
    ]
    assert not found, found
