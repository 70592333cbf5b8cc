"""Programs as Python text: one line of scalar code per operation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from spikeloom.kernels.source.program import Operation, Program, Unsupported, Value

_COMPARE = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "eq": "==", "ne": "!="}
_BINARY = {"mul": "*", "div": "/"}
_LOGIC = {"logical_and": "and", "bitwise_and": "and", "logical_or": "or", "bitwise_or": "or"}
_CALLS = {"exp", "sqrt", "log", "log1p", "expm1", "tanh"}


@dataclass
class Emitter:
    """Writes programs as lines of code and collects the numbers in them.

    0, 1 and -1 become constants of the module. All other numbers become arguments that the kernel
    reads when it runs: units that differ only in such numbers share one compiled kernel.

    Args:
        wide: whether values are float64 instead of float32.
        constants: constants of the module by name (C0, C1, ..).
        numbers: arguments by name (N0, N1, ..).
    """

    wide: bool
    constants: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def lines(
        self, program: Program, names: dict[str, str], prefix: str = ""
    ) -> tuple[list[str], list[str | None]]:
        """Write a program.

        Args:
            program: what to write.
            names: text of each input.
            prefix: for the names of its values, to keep several programs in one function apart.

        Returns:
            The lines, and the text of each output (None for an output that is None).

        Raises:
            Unsupported: an operation that is in none of the tables below.
        """
        known = dict(names)
        kinds = {one.name: one.kind for one in program.inputs}
        lines = []
        for operation in program.operations:
            name = prefix + operation.result
            lines.append(f"{name} = {self._expression(operation, known)}")
            known[operation.result] = name
            kinds[operation.result] = operation.kind
        outputs = [None if one is None else self._float(one, known) for one in program.outputs]
        return lines, outputs

    def constant(self, value: float) -> str:
        """Return the name of a number; the kernel rounds it to the type of all values."""
        fixed = value in (0, 1, -1)
        names, letter = (self.constants, "C") if fixed else (self.numbers, "N")
        for name, there in names.items():
            if repr(there) == repr(float(value)):  # as text: NaN != NaN, and 0.0 == -0.0
                return name
        names[f"{letter}{len(names)}"] = float(value)
        return f"{letter}{len(names) - 1}"

    def _float(self, arg: Any, known: dict[str, str]) -> str:
        if isinstance(arg, Value):
            text = known[arg.name]
            if arg.kind == "bool":
                return f"({self.constant(1)} if {text} else {self.constant(0)})"
            return text
        if isinstance(arg, bool | int | float):
            return self.constant(arg)
        raise Unsupported(f"an argument {arg!r}")

    def _truth(self, arg: Any, known: dict[str, str]) -> str:
        if isinstance(arg, Value):
            text = known[arg.name]
            return text if arg.kind == "bool" else f"({text} != {self.constant(0)})"
        return str(bool(arg))

    def _expression(self, operation: Operation, known: dict[str, str]) -> str:
        name, options = operation.name, dict(operation.options)
        if name in _LOGIC:
            if operation.kind != "bool":
                raise Unsupported(f"'{name}' of numbers")
            one, other = (self._truth(arg, known) for arg in operation.args)
            return f"({one}) {_LOGIC[name]} ({other})"
        if name in ("logical_not", "bitwise_not"):
            return f"not ({self._truth(operation.args[0], known)})"
        if name == "where":
            then, other = (self._float(arg, known) for arg in operation.args[1:3])
            return f"{then} if {self._truth(operation.args[0], known)} else {other}"
        if name == "masked_fill":
            kept, new = (self._float(arg, known) for arg in operation.args[::2])
            return f"{new} if {self._truth(operation.args[1], known)} else {kept}"
        if name == "_to_copy":
            return self._converted(operation, options, known)
        if name in ("clamp", "clamp_min", "clamp_max"):
            return self._clamp(operation, options, known)
        if name in _FILLED:
            value = _FILLED[name]
            number = value if value is not None else operation.args[-1]
            text = self._float(number, known)
            return text if operation.kind == "float" else self._truth(number, known)
        if name in _COMPARE:
            one, other = (self._float(arg, known) for arg in operation.args)
            return f"{one} {_COMPARE[name]} {other}"
        if name not in (_BINARY.keys() | _CALLS | _WRITERS.keys()):
            raise Unsupported(f"operation '{name}'")
        if operation.kind != "float":
            raise Unsupported(f"'{name}' of truth values")
        if name in _BINARY:
            if options.get("rounding_mode") is not None:
                raise Unsupported("division that rounds")
            one, other = (self._float(arg, known) for arg in operation.args[:2])
            return f"{one} {_BINARY[name]} {other}"
        texts = [
            self._float(arg, known) if isinstance(arg, Value) else arg for arg in operation.args
        ]
        return f"{name}({texts[0]})" if name in _CALLS else _WRITERS[name](self, texts, options)

    def _converted(
        self, operation: Operation, options: dict[str, Any], known: dict[str, str]
    ) -> str:
        wanted = options.get("dtype")
        if operation.kind == "bool":
            return self._truth(operation.args[0], known)
        if wanted not in (None, torch.float64 if self.wide else torch.float32):
            raise Unsupported(f"values of type {wanted}")
        return self._float(operation.args[0], known)

    def _clamp(self, operation: Operation, options: dict[str, Any], known: dict[str, str]) -> str:
        x, *bounds = operation.args
        low = options.get("min", bounds[0] if bounds else None)
        high = options.get("max", bounds[1] if len(bounds) > 1 else None)
        if operation.name == "clamp_max":
            low, high = None, low if high is None else high
        text = self._float(x, known)
        # written so that NaN passes through, as in torch
        if low is not None:
            bound = self._float(low, known)
            text = f"({bound} if {text} < {bound} else {text})"
        if high is not None:
            bound = self._float(high, known)
            text = f"({bound} if {text} > {bound} else {text})"
        return text


def _number(emitter: Emitter, arg: Any) -> str:
    return arg if isinstance(arg, str) else emitter.constant(arg)


def _scaled_sum(emitter: Emitter, one: Any, other: Any, factor: float) -> str:
    """Write one + factor * other with one rounding (fma), as torch computes it on the CPU."""
    left, right = _number(emitter, one), _number(emitter, other)
    if factor == 1:
        return f"{left} + {right}"
    if factor == -1:
        return f"{left} - {right}"
    return f"fma({emitter.constant(factor)}, {right}, {left})"


def _power(emitter: Emitter, args: list[Any], options: dict[str, Any]) -> str:
    base, exponent = args[0], args[1]
    if isinstance(base, str) and exponent in (2, -2, 3, 0.5, -0.5, -1, 1):
        one = emitter.constant(1)
        return {
            1: base,
            2: f"{base} * {base}",
            3: f"{base} * {base} * {base}",
            -1: f"{one} / {base}",
            -2: f"{one} / ({base} * {base})",
            0.5: f"sqrt({base})",
            -0.5: f"{one} / sqrt({base})",
        }[exponent]
    return f"{_number(emitter, base)} ** {_number(emitter, exponent)}"


def _sign(emitter: Emitter, x: str) -> str:
    """Write the sign of a number; it is 0 for NaN, as in torch."""
    zero, one, minus = (emitter.constant(number) for number in (0, 1, -1))
    return f"({one} if {x} > {zero} else {minus} if {x} < {zero} else {zero})"


def _product_sum(emitter: Emitter, args: list[Any], options: dict[str, Any]) -> str:
    base, one, other = (_number(emitter, arg) for arg in args[:3])
    factor = options.get("value", 1)
    scaled = one if factor == 1 else f"{emitter.constant(factor)} * {one}"
    return f"{base} + {scaled} * {other}"


_FILLED: dict[str, float | None] = {
    **{"zeros_like": 0, "zeros": 0, "ones_like": 1, "ones": 1},
    **{"full": None, "full_like": None, "scalar_tensor": None},
}
"""Operations that give a constant, by name; None if their last argument is its value."""

_Writer = Callable[[Emitter, list[Any], dict[str, Any]], str]
_WRITERS: dict[str, _Writer] = {
    "add": lambda e, a, o: _scaled_sum(e, a[0], a[1], o.get("alpha", a[2] if len(a) > 2 else 1)),
    "sub": lambda e, a, o: _scaled_sum(e, a[0], a[1], -o.get("alpha", a[2] if len(a) > 2 else 1)),
    "rsub": lambda e, a, o: _scaled_sum(e, a[1], a[0], -o.get("alpha", a[2] if len(a) > 2 else 1)),
    "neg": lambda e, a, o: f"-({a[0]})",
    "floor": lambda e, a, o: f"np.floor({a[0]})",
    "ceil": lambda e, a, o: f"np.ceil({a[0]})",
    "abs": lambda e, a, o: f"abs({a[0]})",
    "square": lambda e, a, o: f"{a[0]} * {a[0]}",
    "reciprocal": lambda e, a, o: f"{e.constant(1)} / {a[0]}",
    "rsqrt": lambda e, a, o: f"{e.constant(1)} / sqrt({a[0]})",
    "relu": lambda e, a, o: f"({e.constant(0)} if {a[0]} < {e.constant(0)} else {a[0]})",
    "maximum": lambda e, a, o: f"({a[0]} if {a[0]} > {a[1]} or {a[0]} != {a[0]} else {a[1]})",
    "minimum": lambda e, a, o: f"({a[0]} if {a[0]} < {a[1]} or {a[0]} != {a[0]} else {a[1]})",
    "sign": lambda e, a, o: _sign(e, a[0]),
    "sgn": lambda e, a, o: _sign(e, a[0]),
    "sigmoid": lambda e, a, o: f"{e.constant(1)} / ({e.constant(1)} + exp(-({a[0]})))",
    "sigmoid_backward": lambda e, a, o: f"{a[0]} * (({e.constant(1)} - {a[1]}) * {a[1]})",
    "tanh_backward": lambda e, a, o: f"{a[0]} * ({e.constant(1)} - {a[1]} * {a[1]})",
    "threshold_backward": lambda e, a, o: (
        f"({a[0]} if {a[1]} > {_number(e, a[2])} else {e.constant(0)})"
    ),
    "addcmul": _product_sum,
    "pow": _power,
}
