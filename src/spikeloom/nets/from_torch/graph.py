"""Reads a traced forward as a list of steps: layers, reshapes and joins, in order."""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.nn.utils.parametrize import type_before_parametrizations

from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.from_torch.functions import FUNCTIONS, JOINS, Call, Size, flatten
from spikeloom.nets.from_torch.layers import AS_IT_IS, check, check_known, place, refusal
from spikeloom.nets.spec.net import Join
from spikeloom.neurons.module import Neuron

INPUT = -1
"""Number of the module's input; the result of step n has number n."""


@dataclass(eq=False)
class Step:
    """One layer, reshape or join of a forward.

    Args:
        where: its place, for messages.
        inputs: numbers of the steps whose results it reads, or `INPUT`.
        layer: the user's layer, or a new layer that computes the same as a function call; None for
            a join.
        owned: whether the layer is the user's.
        join: how two inputs are joined; the first one is the block's output, the second the
            shortcut.
        features: width that a reshape requires; None for any.
        mode: module whose training mode turns a dropout on and off.
        drops: for a dropout written as a function, whether it was on in this trace.
        over_time: whether the layer is called on all time steps at once.
    """

    where: str
    inputs: tuple[int, ...]
    layer: nn.Module | None = None
    owned: bool = False
    join: Join | None = None
    features: int | None = None
    mode: nn.Module | None = None
    drops: bool | None = None
    over_time: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """A value that must be the same in the traces of both modes."""
        layer = None if self.layer is None else settings(vars(self.layer))
        own = id(self.layer) if self.owned else None
        return self.where, self.inputs, layer, own, self.join, self.features


def settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return a module's settings: public attributes but tensors and the training mode."""
    return {
        name: value
        for name, value in values.items()
        if not name.startswith("_") and name != "training" and not isinstance(value, Tensor)
    }


def _context() -> tuple[bool, ...]:
    """Return the global modes of torch that change what an operation does."""
    kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    casts = (torch.is_autocast_enabled(kind) for kind in kinds)
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *casts


class Tracer(fx.Tracer):
    """Traces a forward; torch's layers and our neurons are leaves, other modules are traced."""

    failed: tuple[str, nn.Module] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.context = _context()

    def create_node(self, *args: Any, **named: Any) -> fx.Node:
        """Record an operation, unless modes of torch changed, which a graph would not show."""
        if _context() != self.context:
            path = next(reversed(self.module_stack), "").partition("@")[0]
            came = "one under no_grad, inference_mode or autocast"
            todo = "freeze parameters with requires_grad_(False), and use autocast around the net"
            where = place(path, self.root.get_submodule(path))
            raise refusal(where, "a forward that does not switch modes of torch", came, todo)
        return super().create_node(*args, **named)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is not traced inside."""
        return is_leaf(m)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """Return the forward and one proxy for its input; torch.fx would make one per argument."""
        # the other arguments keep their default values
        return root_fn, [self.root, self.create_proxy("placeholder", "input", (), {})]

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Call a module, and remember the first that fails, for the message."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed is None:
                self.failed = self.path_of_module(m), m
            raise


def _keeps_time(start: object, end: object) -> bool:
    """Whether a flatten joins time and batch, (0, 1), or flattens all axes after them, (2, -1)."""
    return (start, end) in ((0, 1), (2, -1))


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers or a neuron, and so not traced inside."""
    containers = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)
    kinds = type_before_parametrizations(module).__mro__
    layers = (one.__module__.startswith("torch.nn.") and one not in containers for one in kinds)
    return isinstance(module, Neuron) or any(layers)


class Reader:
    """Reads a traced graph once and collects its steps.

    A forward takes one time step [B, ...]. If it flattens or unflattens the time axis, it takes
    whole trains [T, B, ...] instead (`over_time`). `leads` holds, for each value, the number of
    axes before those of a sample: 2 for [T, B, ...], 1 for [B, ...] and [T B, ...].
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.steps: list[Step] = []
        self.values: dict[fx.Node, int] = {}
        self.sizes: dict[fx.Node, Size] = {}
        self.leads: dict[fx.Node, int] = {}
        self.complements: dict[fx.Node, fx.Node] = {}
        self.result = INPUT
        self.over_time = False
        if is_leaf(module):
            self.result = self._layer(place("", module), module, INPUT, 1)[0]
            return
        tracer = Tracer()
        try:
            graph = tracer.trace(module)
        except UnsupportedNet:
            raise
        except Exception as error:  # the user's code may raise anything when it is traced
            path, part = tracer.failed or ("", module)
            came = f"'{str(error).splitlines()[0] if str(error) else type(error).__name__}'"
            raise refusal(
                place(path, part), "a forward that torch.fx can trace", came, AS_IT_IS
            ) from None
        self.over_time = any(self._shapes_time(node) for node in graph.nodes)
        for node in graph.nodes:
            self._take(node)
        self._check_used()

    def _shapes_time(self, node: fx.Node) -> bool:
        """Whether a node shows that the forward takes trains: it reshapes or keeps time."""
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if node.op == "call_module":
            layer = self.module.get_submodule(str(node.target))
            return isinstance(layer, nn.Flatten) and _keeps_time(layer.start_dim, layer.end_dim)
        if name != "flatten":
            return name == "unflatten"
        start, end = (*node.args[1:3], *(0, -1)[len(node.args) - 1 :])
        return _keeps_time(node.kwargs.get("start_dim", start), node.kwargs.get("end_dim", end))

    def _take(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.values[node], self.leads[node] = INPUT, 1 + self.over_time
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
            check(step.where, number in used, "a result that is used", "an unused one", "drop it")

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
        lead = self.leads[given[0]]  # pyright: ignore[reportArgumentType] - `_value` has checked it
        self.values[node], self.leads[node] = self._layer(where, layer, number, lead)

    def _layer(self, where: str, layer: nn.Module, number: int, lead: int) -> tuple[int, int]:
        """Add a user's layer; return the number of its result and that of its leading axes."""
        check_known(where, layer)
        if isinstance(layer, nn.Identity):
            return number, lead
        if isinstance(layer, nn.Flatten):
            call = Call(where, lead, (layer.start_dim, layer.end_dim))
            if not flatten(call):
                return number, call.lead
        self._check_lead(where, layer, lead)
        mode = layer if isinstance(layer, nn.Dropout) else None
        over_time = self.over_time
        step = Step(where, (number,), layer, owned=True, mode=mode, over_time=over_time)
        self.steps.append(step)
        return len(self.steps) - 1, lead

    def _check_lead(self, where: str, layer: nn.Module, lead: int) -> None:
        """Refuse layers that would mistake the time axis for another axis."""
        if not self.over_time:
            return
        if isinstance(layer, Neuron):
            came = "one folded to [T B, ...]"
            check(where, lead == 2, "a train [T, B, ...]", came, "unfold it: unflatten(0, (T, B))")
        elif not isinstance(layer, (nn.Linear, nn.ReLU, nn.Dropout, nn.Flatten)):
            came = "a train [T, B, ...]"
            check(where, lead == 1, "a value folded to [T B, ...]", came, "fold it: flatten(0, 1)")

    def _operation(self, node: fx.Node) -> None:
        target = node.target
        name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        module = self.module.get_submodule(path)
        where = f"{place(path, module)}, operation {name}"
        if self._size(node) or self._complement(node):
            return
        self._check_in_place(where, node, name.endswith("_") or target is operator.iadd)
        if target in JOINS:
            self._join(where, node, JOINS[target])
            return
        known = sorted({one if isinstance(one, str) else one.__name__ for one in FUNCTIONS})
        check(where, target in FUNCTIONS, f"one of {', '.join(known)}", "it", AS_IT_IS)
        source, *args = node.args if node.args else (node.kwargs.get("input"),)
        number = self._value(where, source)
        lead = self.leads[source]  # pyright: ignore[reportArgumentType] - `_value` has checked it
        call = Call(where, lead, self._with_sizes(tuple(args)))
        named = self._with_sizes({k: one for k, one in node.kwargs.items() if k != "input"})
        self._check_in_place(where, node, bool(named.get("inplace")))
        for layer in FUNCTIONS[target](call, **named):
            self._check_lead(where, layer, lead)
            step = Step(where, (number,), layer, features=call.features, drops=call.drops)
            step.mode = module if call.drops is not None else None
            step.over_time = self.over_time
            self.steps.append(step)
            number = len(self.steps) - 1
        self.values[node], self.leads[node] = number, call.lead

    def _size(self, node: fx.Node) -> bool:
        """Record the node if it is a size of a value, and return whether it is."""
        source = node.args[0] if node.args else None
        sized = [one for one in node.args if isinstance(one, fx.Node) and one in self.sizes]
        if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
            axis = node.args[1] if node.target == "size" and len(node.args) > 1 else None
            axis = node.kwargs.get("dim", axis)
            lead = self.leads[source] if isinstance(source, fx.Node) and source in self.leads else 0
            self.sizes[node] = Size(axis, lead)
        elif node.target is operator.getitem and sized:
            self.sizes[node] = self.sizes[sized[0]].of(node.args[1])
        elif sized and all(one in self.sizes for one in node.args if isinstance(one, fx.Node)):
            self.sizes[node] = Size("another", 0)
        return node in self.sizes

    def _check_in_place(self, where: str, node: fx.Node, in_place: bool) -> None:
        source = node.args[0] if node.args else None
        if not in_place or not isinstance(source, fx.Node):
            return
        readers = [one for one in source.users if one not in self.sizes]
        check(
            where,
            len(readers) == 1,
            "a value that is used once, since this operation overwrites it",
            f"a value that is used {len(readers)} times",
            "compute out of place",
        )

    def _complement(self, node: fx.Node) -> bool:
        """Record the node if it is 1 - a and only products read it; return whether it is."""
        is_one = node.target is operator.sub and node.args[0] == 1
        if is_one and all(JOINS.get(one.target) == "and" for one in node.users):
            self.complements[node] = node.args[1]  # pyright: ignore[reportArgumentType]
        return node in self.complements

    def _join(self, where: str, node: fx.Node, join: Join) -> None:
        left, right = (*node.args, *node.kwargs.values())[:2]
        if right in self.complements:
            left, right = right, left
        if left in self.complements:
            left, join = self.complements[left], "iand"  # pyright: ignore[reportArgumentType]
        # 0 + a changes nothing: Python's sum() starts with it
        numbers = [one for one in (left, right) if one != 0 or join != "add"]
        plain = len(node.args) + len(node.kwargs) == 2
        check(where, plain, "two values alone", "more", AS_IT_IS)
        inputs = tuple(self._value(where, one) for one in numbers)
        leads = {self.leads[one] for one in numbers}  # pyright: ignore[reportArgumentType]
        check(where, len(leads) == 1, "two trains or two folded values", "one of each", AS_IT_IS)
        (self.leads[node],) = leads
        if len(inputs) == 1:
            self.values[node] = inputs[0]
            return
        self.steps.append(Step(where, inputs, join=join))
        self.values[node] = len(self.steps) - 1

    def _with_sizes(self, args: Any) -> Any:
        """Return arguments in which nodes that are sizes are replaced by their `Size`."""

        def size_of(value: Any) -> Any:
            return self.sizes.get(value, value) if isinstance(value, fx.Node) else value

        return map_aggregate(args, size_of)
