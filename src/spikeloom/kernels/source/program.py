"""A step as a program: the operations of the reference equation, traced forward and backward.

No derivative is written by hand. The step runs on a few elements while torch's tracer records its
operations, and once more under autograd for its backward pass. Both give elementwise programs that
can be compiled into a loop. A step that gives different programs for different shapes is refused,
since it depends on more than the values of an element.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from spikeloom.base.torch_private import graph_of

_TRACING = threading.Lock()  # torch's tracer serves one thread at a time
_SHAPES = ((4,), (3, 2), (2, 3, 2, 5))

Step = Callable[[Tensor, list[Tensor], list[Tensor]], list[Tensor]]
"""Takes current, thetas and states; returns the output and the new states."""


class Unsupported(Exception):  # noqa: N818 - no error: the caller runs the reference loop
    """No kernel can be made: the step is no elementwise program of known operations."""


@dataclass(frozen=True)
class Value:
    """A value inside a program: its name and its kind, "float" or "bool"."""

    name: str
    kind: str = "float"


@dataclass(frozen=True)
class Operation:
    """One elementwise operation.

    Args:
        result: name of its result.
        name: of the operation in torch (`torch.ops.aten`).
        args: values or numbers.
        options: keyword arguments.
        kind: of the result, "float" or "bool".
    """

    result: str
    name: str
    args: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]
    kind: str

    def reads(self) -> set[str]:
        """Return the names of the values it reads."""
        values = (*self.args, *(value for _, value in self.options))
        return {value.name for value in values if isinstance(value, Value)}


@dataclass(frozen=True)
class Program:
    """Operations in the order of their execution, with inputs and outputs.

    An output is None if it does not depend on any input, as a gradient that is always zero.
    """

    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Value | None, ...]

    def reads(self) -> set[str]:
        """Return the names of all values that an operation or an output reads."""
        names = {one.name for one in self.outputs if one is not None}
        for operation in self.operations:
            names |= operation.reads()
        return names

    def needed(self) -> "Program":
        """Return the program without operations that no output depends on."""
        needed = {one.name for one in self.outputs if one is not None}
        kept: list[Operation] = []
        for operation in reversed(self.operations):
            if operation.result in needed:
                kept.append(operation)
                needed |= operation.reads()
        return replace(self, operations=tuple(reversed(kept)))


@dataclass(frozen=True)
class StepPrograms:
    """A step and its backward pass.

    `forward`: current, thetas, states -> output, new states. `backward`: current, thetas, states,
    gradient of the output, gradients of the new states -> gradients of current, thetas, states.
    """

    forward: Program
    backward: Program
    thetas: int
    states: int


def trace_step(step: Step, thetas: int, states: int, dtype: torch.dtype) -> StepPrograms:
    """Trace a step and its backward pass.

    Args:
        step: elementwise; no Python `if` on the value of a tensor.
        thetas: number of trained quantities.
        states: number of state tensors.
        dtype: type of the state. It matters, since torch rounds constants to it.

    Raises:
        Unsupported: the step cannot be traced, or is not elementwise.
    """

    def forward(current: Tensor, theta: list[Tensor], state: list[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return step(current, theta, state)

    def backward(
        current: Tensor, theta: list[Tensor], state: list[Tensor], grads: list[Tensor]
    ) -> list[Tensor | None]:
        with torch.enable_grad():
            inputs = [one.detach().requires_grad_() for one in (current, *theta, *state)]
            split = 1 + thetas
            outputs = step(inputs[0], inputs[1:split], inputs[split:])
            pairs = [(y, g) for y, g in zip(outputs, grads, strict=True) if y.requires_grad]
            if not pairs:
                return [None] * len(inputs)
            outs, given = zip(*pairs, strict=True)
            return list(torch.autograd.grad(outs, inputs, given, allow_unused=True))

    # Three shapes of different rank and size: a step that depends on them shows it only in a
    # comparison. No size is 1, since broadcasting would hide a difference.
    found: list[StepPrograms] = []
    for shape in _SHAPES:

        def example(count: int, shape: tuple[int, ...] = shape) -> list[Tensor]:
            return [torch.full(shape, 0.5, dtype=dtype) for _ in range(count)]

        values = (*example(1), example(thetas), example(states))
        try:
            with _TRACING, torch.autocast("cpu", enabled=False), torch.inference_mode(False):
                ahead = graph_of(forward, values)
                back = graph_of(backward, (*values, example(1 + states)))
        except Exception as error:  # a user's step may raise anything under the tracer
            raise Unsupported(f"{type(error).__name__}: {error}") from error
        inputs = 1 + thetas + states
        one, other = _program(ahead, inputs, shape), _program(back, inputs + 1 + states, shape)
        found.append(StepPrograms(one, other, thetas, states))
    if len({repr(one) for one in found}) > 1:  # compared as text, since NaN != NaN
        raise Unsupported("a step that depends on the shape of its input")
    return found[0]


_OPERATOR = type(torch.ops.aten.add.Tensor)
_VIEWS = {"detach", "alias", "view", "expand", "contiguous"}
_SAME = {"clone", "lift_fresh_copy", *_VIEWS}


def _program(traced: fx.GraphModule, inputs: int, shape: tuple[int, ...]) -> Program:
    """Translate a traced graph; in-place operations become new values."""
    _refuse_hidden(traced.graph)
    known: dict[fx.Node, Value] = {}
    operations: list[Operation] = []
    traced.graph.eliminate_dead_code()
    places: list[Value] = []
    outputs: tuple[Value | None, ...] = ()
    for node in traced.graph.nodes:
        args: Sequence[Any] = node.args
        options = node.kwargs
        if node.op == "placeholder":
            known[node] = Value(f"x{len(places)}")
            places.append(known[node])
            continue
        if node.op == "output":
            outputs = tuple(None if one is None else known[one] for one in _flat(args[0]))
            continue
        if node.op == "get_attr":
            result = getattr(traced, str(node.target))
            if not isinstance(result, Tensor) or result.numel() != 1:
                raise Unsupported(f"constant tensor {node.target}")
            name, args, options = "full", (result.item(),), {}
        else:
            name, result = _name(node).rstrip("_"), node.meta.get("val")
        kind = _kind(result, shape)
        if name in _SAME:
            known[node] = known[node.args[0]]
            continue
        known[node] = value = Value(f"a{len(operations)}", kind)
        given = tuple(_argument(known, arg) for arg in args)
        named = tuple((key, _argument(known, arg)) for key, arg in options.items())
        operations.append(Operation(value.name, name, given, named, kind))
    if len(places) != inputs:
        raise Unsupported("inputs that are no tensors")
    return Program(tuple(places), tuple(operations), outputs).needed()


def _name(node: fx.Node) -> str:
    """Return torch's name of an operation, e.g. `mul` or `mul_`; "" for other nodes."""
    if isinstance(node.target, _OPERATOR):
        return str(node.target).split(".")[1]
    return ""


def _refuse_hidden(graph: fx.Graph) -> None:
    """Refuse graphs that hide data flow: tensors from outside, writes to memory with two names."""
    for node in graph.nodes:
        if node.op == "get_attr" and any(_name(one) != "lift_fresh_copy" for one in node.users):
            raise Unsupported("a tensor from outside the step")
        if _name(node).endswith("_"):
            target = node.args[0]
            views = {_name(one) for one in (target, *target.users)} & _VIEWS
            if target.op == "placeholder" or views:
                raise Unsupported(f"'{_name(node)}' on a tensor with several names")


def _flat(output: Any) -> Sequence[Any]:
    return output if isinstance(output, list | tuple) else (output,)


def _argument(known: dict[fx.Node, Value], arg: Any) -> Any:
    if isinstance(arg, list | tuple):  # a size
        return ()
    return known[arg] if isinstance(arg, fx.Node) else arg


def _kind(value: Any, shape: tuple[int, ...]) -> str:
    if not isinstance(value, Tensor):
        raise Unsupported(f"a result of type {type(value).__name__}")
    if value.numel() != 1 and value.shape != shape:
        raise Unsupported(f"a result of shape {tuple(value.shape)}")
    if value.dtype == torch.bool:
        return "bool"
    if not value.dtype.is_floating_point:
        raise Unsupported(f"values of type {value.dtype}")
    return "float"
