"""Compiled loops of `kernels.levels`."""

# pyright: reportMissingImports=false
from typing import Any

import numba
import numpy as np

from spikeloom.kernels.jit import OPTIONS

jitted: Any = numba.njit(cache=True, **OPTIONS)


@jitted
def pack_bits(x, out):
    """Write which elements are not 0; return where the first is, and a second amplitude, or -1."""
    at = 0
    while at < x.size and x[at] == 0:
        at += 1
    at = at if at < x.size else 0
    one = x[at]
    for row in range(out.size):
        byte, odd = np.uint8(0), False
        end = min(8, x.size - 8 * row)
        for k in range(end):
            value = x[8 * row + k]
            odd |= (value != 0) & (value != one)
            byte |= np.uint8(value != 0) << np.uint8(k)
        if odd:
            return at, 8 * row
        out[row] = byte
    return at, -1


@jitted
def unpack_bits(bits, one, zero, x):
    """Write `one` where a bit is set, `zero` elsewhere."""
    for row in range(bits.size):
        byte = bits[row]
        end = min(8, x.size - 8 * row)
        for k in range(end):
            x[8 * row + k] = one if (byte >> np.uint8(k)) & np.uint8(1) else zero


@jitted
def smallest(x):
    """Return the smallest element above 0, or 0."""
    found = x.dtype.type(np.inf)
    for i in range(x.size):
        value = x[i] if x[i] > 0 else found
        found = value if value < found else found
    return found


@jitted
def pack_bytes(x, quantum, out):
    """Write x / quantum; return where that is no whole number up to 255 first, else -1."""
    for i in range(x.size):
        level = np.rint(x[i] / quantum)
        if not (level >= 0 and level <= 255 and x.dtype.type(level) * quantum == x[i]):
            return i
        out[i] = np.uint8(level)
    return -1


@jitted
def unpack_bytes(levels, quantum, x):
    """Write levels times quantum."""
    for i in range(x.size):
        x[i] = x.dtype.type(levels[i]) * quantum
