"""Scalar operations that numba lacks: one rounding for a * b + c, and bfloat16 as bits."""

# pyright: reportMissingImports=false, reportCallIssue=false
import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, b, c), build


@intrinsic
def wide(typingctx: Any, bits: Any) -> Any:
    """Return the float32 of a bfloat16's bits (uint16)."""
    if bits != types.uint16:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        shifted = builder.shl(builder.zext(args[0], word), ir.Constant(word, 16))
        return builder.bitcast(shifted, ir.FloatType())

    return types.float32(bits), build


@intrinsic
def narrow(typingctx: Any, x: Any) -> Any:
    """Return the bits (uint16) of a float32 rounded to bfloat16, ties to even; NaN stays NaN."""
    if x != types.float32:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, half = ir.IntType(32), ir.IntType(16)

        def constant(value: int) -> Any:
            return ir.Constant(word, value)

        bits = builder.bitcast(args[0], word)
        odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
        rounded = builder.add(bits, builder.add(odd, constant(0x7FFF)))
        high = builder.trunc(builder.lshr(rounded, constant(16)), half)
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.select(is_nan, ir.Constant(half, 0x7FC0), high)

    return types.uint16(x), build


@intrinsic
def power_of_two(typingctx: Any, n: Any) -> Any:
    """Return 2 to the power n as float32, for a whole n in [-126, 127] (float32)."""
    if n != types.float32:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        exponent = builder.add(builder.fptosi(args[0], word), ir.Constant(word, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(word, 23)), ir.FloatType())

    return types.float32(n), build


F = np.float32
_LOG2E, _LN2_HIGH, _LN2_LOW = F(1.44269504), F(0.693359375), F(-2.12194440e-4)
_LOWEST, _HIGHEST = F(-87.33654), F(88.02969)
_SERIES = [F(1 / math.factorial(order)) for order in range(8)]
_C2, _C3, _C4, _C5, _C6, _C7 = _SERIES[2:]
_ZERO, _ONE, _INF = F(0), F(1), F(math.inf)
_MAGIC, _LEAST, _MOST = F(1.5 * 2**23), F(-126), F(127)


@numba.njit(inline="always", error_model="numpy")
def exp(x: Any) -> Any:
    """Return e to the power x in float32, off by 2 units in the last place at most.

    The library's own is called once per element; this one is what a loop can run on many at a
    time. Below the smallest normal number it gives 0.
    """
    n = fma(x, _LOG2E, _MAGIC) - _MAGIC  # to the nearest whole number
    n = n if n > _LEAST else _LEAST  # also for NaN
    n = n if n < _MOST else _MOST
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    p = fma(fma(fma(fma(fma(r, _C7, _C6), r, _C5), r, _C4), r, _C3), r, _C2)
    value = fma(p, r * r, r + _ONE) * power_of_two(n)
    value = _ZERO if x < _LOWEST else value
    return _INF if x > _HIGHEST else value
