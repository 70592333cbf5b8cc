"""Pivots: the one value of a step that its output and its new state can be computed from.

For most neurons this is the potential before the reset. Where no gradient passes from step to
step, the backward pass of a step needs this value only. So it is kept in the place of the state,
and it is all that a step saves for its backward pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from spikeloom.kernels.source.program import Operation, Program, StepPrograms, Value

PIVOT = Value("p")


@dataclass(frozen=True)
class PivotPrograms:
    """The programs of a step, cut at its pivot.

    Args:
        into: current, thetas, states -> pivot.
        out: pivot, thetas -> output.
        after: pivot, thetas -> new states.
        back: pivot, thetas, gradient of the output -> gradients of current and thetas; gradients of
            the new states are 0.
        thetas: number of trained quantities.
        states: number of state tensors.
    """

    into: Program
    out: Program
    after: Program
    back: Program
    thetas: int
    states: int


def find_pivot(programs: StepPrograms) -> PivotPrograms | None:
    """Cut a step at its first pivot; None if it has none."""
    ahead, thetas = programs.forward, programs.thetas
    current, *rest = ahead.inputs
    moving = {current.name, *(one.name for one in rest[thetas:])}
    if None in ahead.outputs:
        return None
    for operation in ahead.operations:
        if operation.kind != "float":
            continue
        cut = _from(ahead, {operation.result: PIVOT}, rest[:thetas])
        if cut.reads() & moving:
            continue
        back = _backward_from(programs, operation)
        if back is None:
            continue
        into = replace(ahead, outputs=(Value(operation.result),)).needed()
        out = replace(cut, outputs=cut.outputs[:1]).needed()
        after = replace(cut, outputs=cut.outputs[1:]).needed()
        return PivotPrograms(into, out, after, back, thetas, programs.states)
    return None


def _backward_from(programs: StepPrograms, pivot: Operation) -> Program | None:
    """Return the backward pass as a function of the pivot; None if it reads anything else."""
    back, thetas, states = programs.backward, programs.thetas, programs.states
    wanted = _keys(programs.forward)[pivot.result]
    known = {name: PIVOT for name, key in _keys(back).items() if key == wanted}
    if not known:
        return None
    first = 1 + thetas + states
    grad = back.inputs[first]
    given = (*back.inputs[1 : 1 + thetas], grad)
    zero = {one.name: 0.0 for one in back.inputs[first + 1 :]}
    cut = _from(replace(back, outputs=back.outputs[: 1 + thetas]), known | zero, given)
    named = {PIVOT.name, *(one.name for one in given)}
    free = {one.name for one in back.inputs} - named
    return None if cut.reads() & free else cut


def _from(program: Program, known: dict[str, Any], inputs: Iterable[Value]) -> Program:
    """Return a program in which some values are known, with pivot and `inputs` as its inputs."""

    def swap(arg: Any) -> Any:
        return known.get(arg.name, arg) if isinstance(arg, Value) else arg

    operations = [
        replace(
            one,
            args=tuple(map(swap, one.args)),
            options=tuple((name, swap(value)) for name, value in one.options),
        )
        for one in program.operations
        if one.result not in known
    ]
    swapped = map(swap, program.outputs)
    outputs = tuple(one if isinstance(one, Value) else None for one in swapped)
    return Program((PIVOT, *inputs), tuple(operations), outputs).needed()


def _keys(program: Program) -> dict[str, Any]:
    """Return an expression for each value; values with equal expressions are equal."""
    keys: dict[str, Any] = {one.name: ("input", k) for k, one in enumerate(program.inputs)}

    def key(arg: Any) -> Any:
        return keys[arg.name] if isinstance(arg, Value) else ("number", repr(arg))

    for one in program.operations:
        options = tuple((name, key(value)) for name, value in one.options)
        keys[one.result] = (one.name, tuple(map(key, one.args)), options)
    return keys
