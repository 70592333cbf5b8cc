"""A user's `forward` as steps, read by `torch.fx`: layers, reshapes and joins, in order."""

import operator
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.spec import Join
from spikeloom.nets.torch_functions import FUNCTIONS, JOINS, SIZES, Call
from spikeloom.nets.torch_layers import check, check_known, refusal
from spikeloom.neurons.module import Neuron

INPUT = -1
"""Number of the value that enters."""

AS_IT_IS = (
    "compute with layers, additions and flatten alone, or train your module as it is, with Neuron "
    "and backpropagation through time"
)


@dataclass(eq=False)
class Step:
    """One layer, reshape or join of a forward.

    Args:
        where: its place, for errors.
        inputs: numbers of the steps whose results it reads, or `INPUT`.
        layer: the user's own, or a layer of torch that equals a function call.
        owned: whether it is the user's own.
        join: how two inputs meet; there is no layer then.
        features: width that a reshape asks for; None takes what comes.
        mode: module whose mode switches a dropout on and off.
        drops: whether a dropout written as a function was on in this reading.
    """

    where: str
    inputs: tuple[int, ...]
    layer: nn.Module | None = None
    owned: bool = False
    join: Join | None = None
    features: int | None = None
    mode: nn.Module | None = None
    drops: bool | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What two readings of the same forward share."""
        layer = None if self.layer is None else settings(vars(self.layer))
        own = id(self.layer) if self.owned else None
        return self.where, self.inputs, layer, own, self.join, self.features


def settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the public ones of a module's attributes: all but tensors, tables and the mode."""
    return {
        name: value
        for name, value in values.items()
        if not name.startswith("_") and name != "training" and not isinstance(value, Tensor)
    }


def place(path: str, module: nn.Module) -> str:
    """Return how errors name a module."""
    kind = type_before_parametrizations(module).__name__
    return f"{path} ({kind})" if path else kind


def read_forward(module: nn.Module) -> list[Step]:
    """Return the steps of a module's forward; the last one's result is the module's.

    The forward is run on symbols, once in training and once in evaluation mode; nothing of the
    module is changed.

    Raises:
        UnsupportedNet: what cannot be read, by place.
    """
    _check_forwards(module)
    modes = [(part, part.training) for part in module.modules()]
    try:
        readings: list[list[Step]] = []
        for training in (True, False):
            for part, _ in modes:
                part.training = training
            with _undisturbed(module):
                readings.append(_Reader(module).steps)
    finally:
        for part, training in modes:
            part.training = training
    return _agreed(module, *readings)


def _agreed(module: nn.Module, training: list[Step], evaluation: list[Step]) -> list[Step]:
    """Return the one reading of both modes: dropouts alone may differ."""
    same = len(training) == len(evaluation)
    for first, second in zip(training, evaluation, strict=False) if same else ():
        same = same and first.key == second.key
        check(
            first.where,
            not second.drops,
            "a dropout that is off in evaluation",
            "one that is on",
            "pass training=self.training or use nn.Dropout",
        )
        if first.drops is False:
            first.layer = nn.Identity()
    if not same:
        raise refusal(
            place("", module),
            "a forward that does the same in training and evaluation mode",
            "another one in each, or at each call",
            "give each its own module",
        )
    return training


def _check_forwards(module: nn.Module) -> None:
    """Refuse what a reading of the class's forward would miss."""
    for path, part in module.named_modules():
        where = place(path, part)
        called = type(part).__call__ is nn.Module.__call__ or isinstance(part, fx.GraphModule)
        plain = "forward" not in vars(part) and called
        check(where, plain, "a forward of its class", "one set by hand", "write a class with it")
    _, *rest = list(signature(type(module).forward).parameters.values()) or [None]
    first = rest[0] if rest else None
    extra = [
        one.name
        for one in rest[1:]
        if one.default is Parameter.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    single = first is not None and not extra
    single = single and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
    names = ", ".join(str(one) for one in rest) or "none"
    check(place("", module), single, "a forward with one input", names, AS_IT_IS)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Refuse a forward that draws random numbers or changes its module, and undo that."""
    parts = [(path, part, dict(vars(part))) for path, part in module.named_modules()]
    buffers = [(one, one._version, one.clone()) for one in module.buffers() if not one.is_meta]
    torchs, pythons, numpys = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        drew = not torch.equal(torch.get_rng_state(), torchs) or random.getstate() != pythons
        drew = drew or not np.array_equal(np.random.get_state()[1], numpys[1])  # noqa: NPY002
        torch.set_rng_state(torchs)
        random.setstate(pythons)
        np.random.set_state(numpys)  # noqa: NPY002
        changed = [
            f"{place(path, part)}: {name}"
            for path, part, before in parts
            for name in {*vars(part), *before}
            if vars(part).get(name, parts) is not before.get(name, parts)
        ]
        for _, part, before in parts if changed else ():
            vars(part).clear()
            vars(part).update(before)
        with torch.no_grad():
            written = [one.copy_(kept) for one, version, kept in buffers if one._version != version]
    if drew:
        came = "random numbers drawn by forward"
        raise refusal(place("", module), "a forward without chance", came, "use nn.Dropout")
    if changed or written:
        raise refusal(
            place("", module),
            "a forward that changes nothing",
            f"a new value of {changed[0] if changed else 'a buffer'}",
            "a net keeps no state between calls: return values, or use Neuron",
        )


class _Tracer(fx.Tracer):
    """Takes torch's layers and our neurons whole, and walks through everything else."""

    failed: tuple[str, nn.Module] | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        # the input alone: further arguments keep their defaults, as values
        return root_fn, [self.root, self.create_proxy("placeholder", "input", (), {})]

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed is None:
                self.failed = self.path_of_module(m), m
            raise


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers or a neuron: not to be looked into."""
    containers = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)
    kinds = type_before_parametrizations(module).__mro__
    layers = (one.__module__.startswith("torch.nn.") and one not in containers for one in kinds)
    return isinstance(module, Neuron) or any(layers)


class _Reader:
    """One pass over a traced graph, collecting steps."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.steps: list[Step] = []
        self.values: dict[fx.Node, int] = {}
        self.sizes: dict[fx.Node, object] = {}
        self.result = INPUT
        if is_leaf(module):
            self._layer(place("", module), module, (INPUT,))
            return
        tracer = _Tracer()
        try:
            graph = tracer.trace(module)
        except UnsupportedNet:
            raise
        except Exception as error:  # whatever a user's code raises on symbols
            path, part = tracer.failed or ("", module)
            came = f"'{str(error).splitlines()[0] if str(error) else type(error).__name__}'"
            raise refusal(
                place(path, part), "a forward that torch.fx can trace", came, AS_IT_IS
            ) from None
        for node in graph.nodes:
            self._take(node)
        self._check_used()

    def _take(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.values[node] = INPUT
        elif node.op == "call_module":
            self._module(node)
        elif node.op == "output":
            self._output(node)
        elif node.op != "get_attr":
            self._operation(node)

    def _output(self, node: fx.Node) -> None:
        result = node.args[0]
        single = isinstance(result, fx.Node) and result in self.values
        check(place("", self.module), single, "one tensor as result", str(result), AS_IT_IS)
        assert isinstance(result, fx.Node)
        self.result = self.values[result]

    def _check_used(self) -> None:
        used = {number for step in self.steps for number in step.inputs} | {self.result}
        for number, step in enumerate(self.steps):
            check(step.where, number in used, "a result that is used", "one that is not", "drop it")

    def _value(self, where: str, node: object) -> int:
        came = getattr(node, "target", None)
        came = node if came is None else f"the parameter or value '{came}'"
        good = isinstance(node, fx.Node) and node in self.values
        check(where, good, "the result of a layer as input", came, "use a layer that owns it")
        assert isinstance(node, fx.Node)
        return self.values[node]

    def _module(self, node: fx.Node) -> None:
        assert isinstance(node.target, str)
        layer = self.module.get_submodule(node.target)
        where = place(node.target, layer)
        check_known(where, layer)
        given = [*node.args, *node.kwargs.values()]
        check(where, len(given) == 1, "one argument", len(given), "call it with its input alone")
        number = self._value(where, given[0])
        self._check_in_place(where, node, bool(getattr(layer, "inplace", False)))
        self.values[node] = self._layer(where, layer, (number,))

    def _layer(self, where: str, layer: nn.Module, inputs: tuple[int, ...]) -> int:
        check_known(where, layer)
        if isinstance(layer, nn.Identity):
            return inputs[0]
        mode = layer if isinstance(layer, nn.Dropout) else None
        self.steps.append(Step(where, inputs, layer, owned=True, mode=mode))
        return len(self.steps) - 1

    def _operation(self, node: fx.Node) -> None:
        target = node.target
        name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        module = self.module.get_submodule(path)
        where = f"{place(path, module)}, operation {name}"
        if self._size(node):
            return
        self._check_in_place(where, node, name.endswith("_") or target is operator.iadd)
        if target in JOINS:
            self._join(where, node, JOINS[target])
            return
        known = sorted({one if isinstance(one, str) else one.__name__ for one in FUNCTIONS})
        check(where, target in FUNCTIONS, f"one of {', '.join(known)}", "it", AS_IT_IS)
        source, *args = node.args if node.args else (node.kwargs.get("input"),)
        kwargs = {key: value for key, value in node.kwargs.items() if key != "input"}
        number = self._value(where, source)
        call = Call(where, self._with_sizes(tuple(args)))
        named = self._with_sizes(kwargs)
        self._check_in_place(where, node, bool(named.get("inplace")))
        for layer in FUNCTIONS[target](call, **named):
            step = Step(where, (number,), layer, features=call.features, drops=call.drops)
            step.mode = module if call.drops is not None else None
            self.steps.append(step)
            number = len(self.steps) - 1
        self.values[node] = number

    def _size(self, node: fx.Node) -> bool:
        """Note a size of a value, if the node is one; `SIZES` says what sizes mean."""
        source = node.args[0] if node.args else None
        if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
            axis = node.args[1] if node.target == "size" and len(node.args) > 1 else None
            axis = node.kwargs.get("dim", axis)
            self.sizes[node] = SIZES.whole if axis is None else SIZES.of(axis)
        elif node.target is operator.getitem and source in self.sizes:
            whole = self.sizes[source] is SIZES.whole  # pyright: ignore[reportArgumentType]
            self.sizes[node] = SIZES.of(node.args[1]) if whole else SIZES.other
        elif any(one in self.sizes for one in node.args if isinstance(one, fx.Node)):
            alone = all(one in self.sizes for one in node.args if isinstance(one, fx.Node))
            if not alone:
                return False
            self.sizes[node] = SIZES.other
        else:
            return False
        return True

    def _check_in_place(self, where: str, node: fx.Node, in_place: bool) -> None:
        source = node.args[0] if node.args else None
        if not in_place or not isinstance(source, fx.Node):
            return
        readers = [one for one in source.users if one not in self.sizes]
        check(
            where,
            len(readers) == 1,
            "a value that nobody else reads, to be overwritten",
            f"one with {len(readers)} readers",
            "compute out of place",
        )

    def _join(self, where: str, node: fx.Node, join: Join) -> None:
        left, right = (*node.args, *node.kwargs.values())[:2]
        numbers = [one for one in (left, right) if one != 0 or join != "add"]  # sum() starts at 0
        plain = len(node.args) + len(node.kwargs) == 2
        check(where, plain, "two values alone", "more", AS_IT_IS)
        inputs = tuple(self._value(where, one) for one in numbers)
        if len(inputs) == 1:
            self.values[node] = inputs[0]
            return
        self.steps.append(Step(where, inputs, join=join))
        self.values[node] = len(self.steps) - 1

    def _with_sizes(self, args: Any) -> Any:
        """Return arguments with sizes in the place of their nodes."""
        return fx.node.map_aggregate(
            args, lambda one: self.sizes.get(one, one) if isinstance(one, fx.Node) else one
        )
