"""Programs as text: one line of scalar code per operation."""

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
    """Turns programs into lines, collecting the constants they name.

    0, 1 and -1 are part of the text; all other numbers are given to the code when it runs, so that
    steps that differ in them alone are one kernel.

    Args:
        wide: whether values are float64; float32 else.
        constants: what is part of the text, by name.
        numbers: what is given, by name.
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
            prefix: of the names it makes, to keep several programs apart.

        Returns:
            The lines, and the text of each output (None where the program has none).

        Raises:
            Unsupported: an operation is not known.
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
        """Return the name of a number, which is rounded to the type of all values."""
        fixed = value in (0, 1, -1)
        names, letter = (self.constants, "C") if fixed else (self.numbers, "N")
        for name, there in names.items():
            if repr(there) == repr(float(value)):  # a NaN equals itself in its text only
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
        writer = _WRITERS.get(name)
        if name in _COMPARE:
            one, other = (self._float(arg, known) for arg in operation.args)
            return f"{one} {_COMPARE[name]} {other}"
        if writer is None and name not in _BINARY and name not in _CALLS:
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
        if name in _CALLS:
            return f"{name}({texts[0]})"
        assert writer is not None
        return writer(self, texts, options)

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
        # as torch: NaN passes through
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
    """Write one + factor * other, rounded once as torch does."""
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


def _logistic(emitter: Emitter, x: str) -> str:
    one = emitter.constant(1)
    return f"{one} / ({one} + exp(-({x})))"


def _sign(emitter: Emitter, x: str) -> str:
    """Write the sign of a number; NaN has none, as for torch."""
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
"""Operations that make constants; None: the last argument is the value."""

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
    "sigmoid": lambda e, a, o: _logistic(e, a[0]),
    "sigmoid_backward": lambda e, a, o: f"{a[0]} * (({e.constant(1)} - {a[1]}) * {a[1]})",
    "tanh_backward": lambda e, a, o: f"{a[0]} * ({e.constant(1)} - {a[1]} * {a[1]})",
    "threshold_backward": lambda e, a, o: (
        f"({a[0]} if {a[1]} > {_number(e, a[2])} else {e.constant(0)})"
    ),
    "addcmul": _product_sum,
    "pow": _power,
}
