"""Scalar operations that numba lacks: fused multiply-add, bfloat16 as bits, a fast exponential."""

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
    """Return a * b + c with one rounding."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, b, c), build


@intrinsic
def wide(typingctx: Any, bits: Any) -> Any:
    """Return the float32 value of a bfloat16 that is given by its bits (uint16)."""
    if bits != types.uint16:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        shifted = builder.shl(builder.zext(args[0], word), ir.Constant(word, 16))
        return builder.bitcast(shifted, ir.FloatType())

    return types.float32(bits), build


@intrinsic
def narrow(typingctx: Any, x: Any) -> Any:
    """Round a float32 to bfloat16, ties to even; return its bits (uint16). NaN stays NaN."""
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
    """Return 2^n as float32, for an integer n in [-126, 127] that is given as float32."""
    if n != types.float32:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        exponent = builder.add(builder.fptosi(args[0], word), ir.Constant(word, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(word, 23)), ir.FloatType())

    return types.float32(n), build


F = np.float32
# ln 2 in two parts: n times the high part is exact, since its last bits are 0 (Cody and Waite).
_LOG2E, _LN2_HIGH, _LN2_LOW = F(1.44269504), F(0.693359375), F(-2.12194440e-4)
# Below, the result is 0 (it would be less than 2^-126); above, it is inf (more than 2^127).
_LOWEST, _HIGHEST = F(-87.33654), F(88.02969)
_SERIES = [F(1 / math.factorial(order)) for order in range(8)]
_C2, _C3, _C4, _C5, _C6, _C7 = _SERIES[2:]
_ZERO, _ONE, _INF = F(0), F(1), F(math.inf)
# Adding and subtracting 1.5 * 2^23 rounds a float32 to an integer: no fraction bits are left.
_MAGIC, _LEAST, _MOST = F(1.5 * 2**23), F(-126), F(127)


@numba.njit(inline="always", error_model="numpy")
def exp(x: Any) -> Any:
    r"""Return e^x in float32, with an error of at most 2 units in the last place.

    .. math:: e^x = 2^n e^r, \quad n = round(x / \ln 2), \quad r = x - n \ln 2

    with the Taylor series of :math:`e^r` up to :math:`r^7`. The function of the C library is called
    for one element at a time; this one is inlined into loops and vectorised. Results below the
    smallest normal number are 0.
    """
    n = fma(x, _LOG2E, _MAGIC) - _MAGIC  # the nearest integer
    n = n if n > _LEAST else _LEAST  # written so that NaN gives _LEAST
    n = n if n < _MOST else _MOST
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    p = fma(fma(fma(fma(fma(r, _C7, _C6), r, _C5), r, _C4), r, _C3), r, _C2)
    value = fma(p, r * r, r + _ONE) * power_of_two(n)
    value = _ZERO if x < _LOWEST else value
    return _INF if x > _HIGHEST else value
