"""The house rules of calls: how many arguments, and who asks torch for its private names."""

import ast
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from test_architecture import SOURCES, place, room_of, trees

MOST_ARGUMENTS = 7
ROOMS = {"base", "kernels", "neurons", "nets", "rules"}
MORE_ARGUMENTS: dict[str, str] = {}
"""Functions that may take more, as "file:name", each with its reason. (Generated kernels take an
address for each array; they are text here, and `kernels.source.frame.function` says why.)"""


def arguments(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int]]:
    """Yield each function with the number of its arguments, keyword-only ones too, self not."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            given = node.args
            names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            names += [one.arg for one in (given.vararg, given.kwarg) if one is not None]
            own = bool(names) and names[0] in ("self", "cls")
            yield node, getattr(node, "name", "lambda"), len(names) - own


def test_functions_take_few_arguments():
    many = [
        f"{place(path, node.lineno)}: {name} takes {count}"
        for path, tree in trees([path for path in SOURCES if room_of(path) in ROOMS])
        for node, name, count in arguments(tree)
        if count > MOST_ARGUMENTS and f"{path.name}:{name}" not in MORE_ARGUMENTS
    ]
    assert not many, "\n".join(many)


def test_the_counter_counts_all_but_self():
    text = "class A:\n    def f(self, a, /, b, *c, d=1, **e): pass\ng = lambda x, y: x"
    counted = {name: count for _, name, count in arguments(ast.parse(text))}
    assert counted == {"f": 5, "lambda": 2}


DOOR = "torch_private.py"
SEMI_PRIVATE = {"maybe_clear_saved_tensors", "next_id", "proxy_tensor", "make_fx"}
"""Names without an underscore that torch does not document."""
OTHERS = {"_exit", "_getframe", "_fields", "_is_protocol", "_replace"}
"""Private by name only, of Python's own library."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def of_torch() -> set[str]:
    """Names that a class of ours may have from torch's, and must not use or replace."""
    kinds = (nn.Module, torch.Tensor, torch.autograd.Function, torch.optim.Optimizer)
    names = {name for kind in kinds for name in dir(kind)} | set(vars(nn.Module()))
    return {name for name in names if private(name)}


def asked_of_torch(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the names in a file that it neither defines nor has from this package."""
    named = [node for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    own = {node.name for node in named}
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    torchs = of_torch()
    for kind in named:
        for node in kind.body if isinstance(kind, ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef) and node.name in torchs:
                yield node.lineno, node.name
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.partition(".")[0] == "spikeloom":
                continue
            for name in (*module.split("."), *(alias.name for alias in node.names)):
                if any(private(part) or part in SEMI_PRIVATE for part in name.split(".")):
                    yield node.lineno, name
        elif isinstance(node, ast.Attribute):
            selfish = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            known = node.attr in OTHERS or (node.attr in own and node.attr not in torchs)
            known |= selfish and node.attr not in torchs
            if node.attr in SEMI_PRIVATE or (private(node.attr) and not known):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            words = [one.value for one in node.args[1:2] if isinstance(one, ast.Constant)]
            if node.func.id in ("getattr", "hasattr", "setattr") and words:
                name = str(words[0])
                if name in SEMI_PRIVATE or (private(name) and name not in OTHERS):
                    yield node.lineno, name


def test_torchs_private_names_are_asked_for_behind_one_door():
    asked = [
        f"{place(path, line)}: {name}"
        for path, tree in trees()
        if path.name != DOOR
        for line, name in asked_of_torch(tree)
    ]
    assert not asked, "\n".join(asked)


@pytest.mark.parametrize(
    "text",
    [
        "from torch.utils._device import DeviceContext",
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "from torch.fx.experimental.proxy_tensor import make_fx",
        "n = torch._C._current_autograd_node()",
        "v = x._version",
        "b = getattr(x, '_base')",
        "class A(Module):\n    def _apply(self, fn): pass",
        "class A(Module):\n    def f(self): return self._modules",
        "ctx.maybe_clear_saved_tensors()",
        "p = hook._tensor_name",
    ],
)
def test_and_the_reader_sees_what_it_must(text):
    assert list(asked_of_torch(ast.parse(text)))


def test_and_leaves_names_of_our_own():
    text = (
        "class A:\n    def f(self, other):\n        self._x = 1\n        return other._x + self._y"
    )
    assert not list(asked_of_torch(ast.parse(text)))
