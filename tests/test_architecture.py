"""The house rules that can be read from the source: who imports whom, sizes, names of rules."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from spikeloom.neurons.base import UNITS
from spikeloom.rules.base import RULES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "spikeloom"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

LEVELS = (
    {"base"},
    {"kernels", "tasks"},
    {"neurons", "encoders", "data"},
    {"nets"},
    {"heads", "rules", "convert", "meters"},
    {"records"},
    {"program"},
    {"inference"},
    {"measure"},
    {"train"},
    {"compare"},
    {"check"},
    {"report", "graph", "rescale"},
    {"bench"},
    {"cli"},
)
"""Rooms from the lowest; a room imports itself and lower ones."""
RANK = {room: rank for rank, rooms in enumerate(LEVELS) for room in rooms}
INNER = {room for rooms in LEVELS[:5] for room in rooms}

CORE = {"torch", "numpy", "spikeloom"}
PICTURES = {"PIL", "datasets", "huggingface_hub", "pyarrow", "filelock", "h5py"}
LAZY = {
    "data": {"safetensors", "pydantic"} | PICTURES,
    "rules": {"scipy"},
}
KERNELS = {"numba", "llvmlite", "triton"}
OUTER = {
    *("lightning", "pydantic", "typer", "rich", "safetensors", "click", "pydantic_core"),
    *("plotly", "matplotlib", "pandas", "PIL", "datasets", "tensorboard", "tomli_w", "filelock"),
}
HEAVY = {"lightning", "pandas", "plotly", "matplotlib", "datasets"}
MAX_LINES = 400
MAX_FILES = 20
IMPORT_BUDGET = 120
"""Modules of other libraries, beyond those of torch, that package and command load at once."""


@dataclass(frozen=True)
class Import:
    """One import statement: what, where, and whether it waits for a call."""

    module: str
    line: int
    lazy: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    @property
    def room(self) -> str:
        """The room of ours it reaches, or nothing."""
        parts = self.module.split(".")
        return parts[1] if parts[0] == "spikeloom" and len(parts) > 1 else ""


def room_of(path: Path) -> str:
    """Return a file's room; files right in the package have none and may import all."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports(tree: ast.AST, lazy: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "spikeloom":  # from spikeloom import nets
                for alias in node.names:
                    yield Import(f"spikeloom.{alias.name}", node.lineno, lazy)
            else:
                yield Import(module, node.lineno, lazy)
        else:
            inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            inside |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            yield from imports(node, lazy or inside)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def trees(paths=SOURCES) -> Iterator[tuple[Path, ast.Module]]:
    for path in paths:
        yield path, parsed(path)


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


@cache
def all_imports() -> list[tuple[Path, Import]]:
    return [(path, one) for path, tree in trees() for one in imports(tree)]


UNIT_WORDS = {"spiking", "stateful", "learn", "per_channel", "init", "step", "rate"}
UNIT_WORDS |= {"trace_decay"}  # OTTT asks `declares` for it first
"""What every unit has; all else is read by `neurons.declared`."""


def unit_reads(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield what a file reads of a unit by a name of its own, or asks of its class."""
    kinds = {UNITS.find(name).__name__ for name in UNITS.names()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            words = ast.unparse(node.args[0])
            unit = words.split(".")[-1] in ("unit", "neurons")
            if node.func.id in ("getattr", "hasattr") and unit:
                yield node.lineno, ast.unparse(node)
            known = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & kinds
            if node.func.id in ("isinstance", "issubclass") and known:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner = ast.unparse(node.value).split(".")[-1]
            if owner == "unit" and node.attr not in UNIT_WORDS:
                yield node.lineno, ast.unparse(node)


def test_a_unit_is_read_by_what_it_declares():
    """A user's unit may call its fields anything: no other name of them is right everywhere."""
    rooms = {"rules", "meters", "nets", "heads", "program", "inference", "measure", "train"}
    found = [
        f"{place(path, line)}: {words}"
        for path, tree in trees()
        if room_of(path) in rooms
        for line, words in unit_reads(tree)
        if words not in ("self.unit.name", "self.unit.options")  # a recipe's table
    ]
    assert not found, found


@pytest.mark.parametrize(
    "text",
    ['getattr(site.unit, "alpha", 0.0)', "isinstance(unit, LIF)", "unit.v_th", "a.unit.alpha"],
)
def test_and_the_reading_of_it_sees_what_it_must(text):
    assert len(list(unit_reads(ast.parse(text)))) >= 1


def test_every_room_has_a_rank():
    rooms = {room_of(path) for path in SOURCES} - {""}
    assert rooms <= set(RANK), f"give these rooms a place in LEVELS: {rooms - set(RANK)}"


def test_rooms_import_downwards_only():
    upward = [
        f"{place(path, one.line)}: {room_of(path)} imports {one.module}"
        for path, one in all_imports()
        if one.room in RANK
        and room_of(path)
        and one.room != room_of(path)
        and RANK[one.room] >= RANK[room_of(path)]
    ]
    assert not upward, "\n".join(upward)


def test_imports_are_absolute():
    relative = [place(path, one.line) for path, one in all_imports() if one.module.startswith(".")]
    assert not relative, relative


def test_rooms_do_not_import_the_whole_package():
    """`import spikeloom` inside a room would reach upwards through its public names."""
    whole = [
        place(path, one.line)
        for path, one in all_imports()
        if one.module == "spikeloom" and RANK.get(room_of(path), 99) < RANK["program"]
    ]
    assert not whole, whole


def test_inner_rooms_import_torch_and_numpy_only():
    foreign = []
    for path, one in all_imports():
        room = room_of(path)
        if room not in INNER or one.top in CORE or one.top in sys.stdlib_module_names:
            continue
        compiled = one.top in KERNELS and path.stem.endswith("_numba")  # imported late itself
        if compiled or (one.lazy and one.top in LAZY.get(room, set()) | KERNELS):
            continue
        foreign.append(f"{place(path, one.line)}: {one.module}")
    assert not foreign, "\n".join(foreign)


def test_outer_rooms_import_known_libraries_and_heavy_ones_late():
    wrong = []
    for path, one in all_imports():
        room = room_of(path)
        known = one.top in CORE | OUTER or one.top in sys.stdlib_module_names
        late = one.lazy or one.top not in HEAVY
        if room not in INNER and not (known and late):
            wrong.append(f"{place(path, one.line)}: {one.module}")
    assert not wrong, "\n".join(wrong)


def test_compiled_kernels_ask_for_no_blas():
    """Numba compiles products of matrices by calling scipy, which a plain installation lacks."""
    blas = {"dot", "vdot", "matmul", "einsum", "linalg", "inner", "tensordot"}
    asked = [
        place(path, node.lineno)
        for path, tree in trees([path for path in SOURCES if room_of(path) == "kernels"])
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in blas)
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult))
    ]
    assert not asked, asked


def test_no_star_imports():
    stars = [
        place(path, node.lineno)
        for path, tree in trees([*SOURCES, *TESTS])
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not stars, stars


def test_only_the_command_line_prints():
    prints = [
        place(path, node.lineno)
        for path, tree in trees()
        if room_of(path) != "cli"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not prints, prints


def test_files_stay_small():
    long = {
        str(path.relative_to(ROOT)): count
        for path in [*SOURCES, *TESTS]
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"split these files (at most {MAX_LINES} lines): {long}"


def test_rooms_stay_small():
    """A reader sees at a glance what lies in a folder."""
    full = {
        str(folder.relative_to(ROOT)): count
        for folder in sorted({path.parent for path in SOURCES})
        if (count := len(list(folder.glob("*.py")))) > MAX_FILES
    }
    assert not full, f"split these folders (at most {MAX_FILES} files): {full}"


def compared_strings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield string constants that a branch or comparison asks for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            asked: list[ast.expr] = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        else:
            continue
        for part in asked:
            many = part.elts if isinstance(part, (ast.Tuple, ast.List, ast.Set)) else [part]
            for one in many:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    yield one.value, node.lineno


def test_no_branch_on_a_rules_name_outside_rules():
    names = set(RULES.names())
    assert {"bptt", "sltt", "ottt"} <= names
    branches = [
        f"{place(path, line)}: asks for rule '{text}'"
        for path, tree in trees()
        if room_of(path) != "rules"
        for text, line in compared_strings(tree)
        if text in names
    ]
    assert not branches, "\n".join(branches)


SCRIPT = """
import sys
import torch
before = set(sys.modules)
{statement}
print(*(name for name in sys.modules if name not in before))
"""


def imported_by(statement: str) -> set[str]:
    """Return the modules that a statement loads beyond torch's own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"},
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["from spikeloom import *", "import spikeloom.cli.main"])
def test_imports_stay_few(statement):
    """Modules are counted, not seconds: a busy machine must not fail the test."""
    loaded = imported_by(statement)
    assert not loaded & HEAVY, f"import them where they are used: {loaded & HEAVY}"
    foreign = {name for name in loaded if not name.startswith("spikeloom")}
    assert len(foreign) <= IMPORT_BUDGET, sorted(foreign)


def test_the_command_line_and_the_package_start_without_torch():
    script = "import sys, spikeloom.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("name", ["spikeloom", "spikeloom.train"])
def test_public_names_are_found_where_they_live(name):
    package = importlib.import_module(name)
    for one in package.__all__:
        assert getattr(package, one).__name__ == one
        assert getattr(package, one).__module__.startswith("spikeloom.")
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("train.setup", "program.setup", "make_optimizer"),
        ("train.stage", "program.stage", "Optimizer"),
        ("train.recipe", "program.recipe", "build_recipe"),
        ("train.progress", "records.progress", "Progress"),
        ("train.opening", "inference.opening", "open_run"),
        ("train.compare", "compare.run", "run_comparison"),
        ("train.plan", "compare.plan", "plan_rules"),
        ("nets.net", "nets.module.net", "SpikingNet"),
        ("nets.events", "nets.walk.events", "EventEngine"),
    ],
)
def test_names_are_still_found_where_they_were(old, new, name):
    importlib.import_module("spikeloom." + old.split(".")[0])
    there = importlib.import_module(f"spikeloom.{old}")
    assert getattr(there, name) is getattr(importlib.import_module(f"spikeloom.{new}"), name)
    with pytest.raises(AttributeError, match="nothing"):
        _ = there.nothing


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("if rule == 'bptt': pass", ["bptt"]),
        ("x = name in ('sltt', 'ottt')", ["sltt", "ottt"]),
        ("match name:\n    case 'ottt': pass", ["ottt"]),
        ("find('bptt')", []),
    ],
)
def test_the_branch_reader_sees_branches(source, expected):
    assert [text for text, _ in compared_strings(ast.parse(source))] == expected


def test_the_import_reader_tells_lazy_from_eager():
    tree = ast.parse("import a\nif x:\n    import b\ndef f():\n    from spikeloom import nets\n")
    typed = ast.parse("if TYPE_CHECKING:\n    import c\n")
    assert [one.lazy for one in imports(typed)] == [True]
    seen = [(one.module, one.lazy, one.room) for one in imports(tree)]
    assert seen == [("a", False, ""), ("b", False, ""), ("spikeloom.nets", True, "nets")]
