"""A step as a program: the reference equation, traced, forward and backward.

Nothing is derived by hand. The step runs on a few elements while its operations are noted, and
once more under autograd for its backward pass; both are elementwise programs that any compiler
can put into a loop. All shapes must give one program, else the step looks at more than values.
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


class Unsupported(Exception):  # noqa: N818 - a signal: run the reference
    """A step that is no elementwise program of known operations."""


@dataclass(frozen=True)
class Value:
    """The name of a value inside a program."""

    name: str
    kind: str = "float"


@dataclass(frozen=True)
class Operation:
    """One elementwise operation.

    Args:
        result: name of what it gives.
        name: of the operation, as torch calls it.
        args: names of values, or numbers.
        options: further ones by name.
        kind: "float" or "bool".
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
    """Operations in order, between named inputs and outputs.

    Outputs are values, or None where nothing reaches them (a gradient that is zero).
    """

    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Value | None, ...]

    def reads(self) -> set[str]:
        """Return the names of the values that some operation or output reads."""
        names = {one.name for one in self.outputs if one is not None}
        for operation in self.operations:
            names |= operation.reads()
        return names

    def needed(self) -> "Program":
        """Return the program without operations whose result nobody reads."""
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
        step: elementwise, without decisions of the program on values.
        thetas: number of trained quantities.
        states: number of state tensors.
        dtype: type of the state; constants are rounded to it as torch rounds them.

    Raises:
        Unsupported: the step cannot be traced, or is not elementwise.
    """

    def forward(current: Tensor, theta: list[Tensor], state: list[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return step(current, theta, state)

    def backward(
        current: Tensor,
        theta: list[Tensor],
        state: list[Tensor],
        grads: list[Tensor],
    ) -> list[Tensor | None]:
        with torch.enable_grad():
            inputs = [one.detach().requires_grad_() for one in (current, *theta, *state)]
            split = 1 + thetas
            outputs = step(inputs[0], inputs[1:split], inputs[split:])
            pairs = [
                (out, grad) for out, grad in zip(outputs, grads, strict=True) if out.requires_grad
            ]
            if not pairs:
                return [None] * len(inputs)
            outs, given = [out for out, _ in pairs], [grad for _, grad in pairs]
            return list(torch.autograd.grad(outs, inputs, given, allow_unused=True))

    # Three shapes, since a step may look at sizes or ranks without showing it in any one of them.
    # No size is 1: broadcasting would hide a difference.
    found: list[StepPrograms] = []
    for shape in _SHAPES:

        def example(count: int, shape: tuple[int, ...] = shape) -> list[Tensor]:
            return [torch.full(shape, 0.5, dtype=dtype) for _ in range(count)]

        values = (*example(1), example(thetas), example(states))
        try:
            with _TRACING, torch.autocast("cpu", enabled=False), torch.inference_mode(False):
                ahead = graph_of(forward, values)
                back = graph_of(backward, (*values, example(1 + states)))
        except Exception as error:  # whatever a step does that tracing does not know
            raise Unsupported(f"{type(error).__name__}: {error}") from error
        inputs = 1 + thetas + states
        one, other = _program(ahead, inputs, shape), _program(back, inputs + 1 + states, shape)
        found.append(StepPrograms(one, other, thetas, states))
    if len({repr(one) for one in found}) > 1:  # a NaN equals itself in its text only
        raise Unsupported("a step that depends on the shape of its input")
    return found[0]


_OPERATOR = type(torch.ops.aten.add.Tensor)
_VIEWS = {"detach", "alias", "view", "expand", "contiguous"}
_SAME = {"clone", "lift_fresh_copy", *_VIEWS}


def _program(traced: fx.GraphModule, inputs: int, shape: tuple[int, ...]) -> Program:
    """Read a traced graph; in-place operations give new values, as the tracer follows them."""
    _refuse_hidden(traced.graph)
    known: dict[fx.Node, Value | None] = {}
    operations: list[Operation] = []
    traced.graph.eliminate_dead_code()
    places: list[Value] = []
    outputs: tuple[Value | None, ...] = ()
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            value = Value(f"x{len(places)}")
            places.append(value)
            known[node] = value
        elif node.op == "output":
            outputs = tuple(None if one is None else known[one] for one in _flat(node.args[0]))
        elif node.op == "get_attr":
            held = getattr(traced, str(node.target))
            if not isinstance(held, Tensor) or held.numel() != 1:
                raise Unsupported(f"constant tensor {node.target}")
            value = Value(f"a{len(operations)}", _kind(held, shape))
            number = held.item()
            operations.append(Operation(value.name, "full", (number,), (), value.kind))
            known[node] = value
        else:
            name = _name(node).rstrip("_")
            kind = _kind(node.meta.get("val"), shape)
            if name in _SAME:
                known[node] = known[node.args[0]]
                continue
            value = Value(f"a{len(operations)}", kind)
            args = tuple(_argument(known, arg) for arg in node.args)
            options = tuple((key, _argument(known, arg)) for key, arg in node.kwargs.items())
            operations.append(Operation(value.name, name, args, options, kind))
            known[node] = value
    if len(places) != inputs:
        raise Unsupported("inputs that are no tensors")
    return Program(tuple(places), tuple(operations), outputs).needed()


def _name(node: fx.Node) -> str:
    """Return what torch calls an operation, as `mul` or `mul_`; nothing for what is none."""
    if isinstance(node.target, _OPERATOR):
        return str(node.target).split(".")[1]
    return ""


def _refuse_hidden(graph: fx.Graph) -> None:
    """Refuse what a graph does not show: values held elsewhere, writes seen by another name."""
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


def _argument(known: dict[fx.Node, Value | None], arg: Any) -> Any:
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
