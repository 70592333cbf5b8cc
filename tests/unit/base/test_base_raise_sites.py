"""Errors that a user meets are built from their parts: read from the source, site by site."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import spikeloom

PACKAGE = Path(spikeloom.__file__).parent
OTHERS = {"nets"}
"""Rooms whose sites are not gone through yet."""

BUILDERS = {"of", "caused", "within", "moved", "under", "adding", "parts"}
"""Methods that make an error with its parts, or keep those of another one."""

NO_ERRORS_OF_USERS = {
    "NotImplementedError": (11, "methods of abstract classes"),
    "KeyError": (1, "a record read by key behaves as a mapping"),
    "ValueError": (
        19,
        "found inside a file: whoever opens it names the file; a name twice in code",
    ),
    "TomlError": (5, "the same"),
    "NoToml": (1, "the same"),
    "AttributeError": (3, "a module without that name"),
    "LookupError": (1, "found inside a file: whoever opens it names the file"),
    "Refused": (4, "a process of the benchmark: a remark in the table's notes"),
    "Stopped": (4, "nothing went wrong; the text says how to go on"),
    "KeyboardInterrupt": (2, "the user interrupts"),
    "typer.Exit": (4, "an exit code, after everything was said"),
    "SystemExit": (1, "the same"),
    "CheckFailed": (3, "the same four parts; an author reads it in a table of checks"),
    "CheckSkipped": (9, "nothing is wrong; the text says why a check does not apply"),
    "Unsupported": (23, "no kernel can be made: the caller runs the reference loop"),
    "BrokenPictures": (2, "takes faults and makes the parts of them"),
}
"""What else is raised by name: how often, and why it has no path, expected, came and todo."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        if parts[0] not in OTHERS:
            yield "/".join(parts), ast.parse(path.read_text(encoding="utf-8"))


def families() -> set[str]:
    """Names of all classes of errors that derive from ours."""
    bases = {
        node.name: {ast.unparse(base) for base in node.bases}
        for _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    names = {"SpikeloomError"}
    while grown := {name for name, above in bases.items() if above & names} - names:
        names |= grown
    return names


def test_no_error_is_one_plain_text():
    ours = families() - {"BrokenPictures"}
    assert {"ConfigError", "DataError", "NewerFormat", "ProcessLost"} <= ours
    plain = [
        f"{file}:{node.lineno}"
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ours and node.args
    ]
    # unknown_name says it in other words, and `of` itself begins with the line
    assert sorted({site.split(":")[0] for site in plain}) == ["base/errors.py"], plain
    assert len(plain) == 1, plain


def test_what_else_is_raised_has_a_reason():
    ours, raised = families(), Counter()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call | ast.Name):
                called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                name = ast.unparse(called)
                built = isinstance(called, ast.Attribute) and called.attr in BUILDERS
                if not built and name.rpartition(".")[2][:1].isupper():
                    raised[name] += 1
            elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Attribute):
                raised[ast.unparse(node.exc)] += 1
    left = {name: count for name, count in raised.items() if name not in ours - {"BrokenPictures"}}
    assert left == {name: count for name, (count, _) in NO_ERRORS_OF_USERS.items()}
