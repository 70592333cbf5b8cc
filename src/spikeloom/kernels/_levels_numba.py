"""Compiled loops of `kernels.levels`."""

# pyright: reportMissingImports=false
from typing import Any

import numba
import numpy as np

from spikeloom.kernels.source.jit import OPTIONS

ONE, HALF, MANY = np.float32(1), np.float32(0.5), np.float32(256)
jitted: Any = numba.njit(cache=True, **OPTIONS)


@jitted
def pack_bits(x, out):
    """Write a bit per element: 1 where it is not 0."""
    # Returns the index of the first non-zero element (0 if there is none), and -1. If there is a
    # second non-zero value, not -1 but the index of the first of the eight elements it is among.
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
def smallest(x, top):
    """Return the smallest integer above 0 in x, or `top` if there is none below it."""
    found = top
    for i in range(x.size):
        value = x[i] if x[i] > 0 else top
        found = min(found, value)
    return found


@jitted
def pack_levels(x, quantum, palette, out):
    """Write the level of each value, its nearest multiple of the quantum, and the palette.

    Returns:
        The highest level; -1 if a level is negative or above 255, or two values share a level.
    """
    low, highest = np.int32(0), np.int32(0)
    for i in range(x.size):
        level = np.int32(min(max(x[i] / quantum + HALF, -ONE), MANY))
        low, highest = min(low, level), max(highest, level)
        out[i] = np.uint8(level)
    if low < 0 or highest > 255:
        return -1
    for i in range(x.size):
        palette[out[i]] = x[i]
    odd = False
    for i in range(x.size):
        odd |= palette[out[i]] != x[i]
    return -1 if odd else highest


@jitted
def pack_halves(levels, out):
    """Pack levels below 16 two to a byte, the first in the low half."""
    for row in range(levels.size // 2):
        out[row] = levels[2 * row] | (levels[2 * row + 1] << np.uint8(4))
    if levels.size % 2:
        out[out.size - 1] = levels[levels.size - 1]


@jitted
def unpack_halves(halves, palette, x):
    """Write the values of levels that are packed two to a byte."""
    for row in range(x.size // 2):
        x[2 * row] = palette[halves[row] & np.uint8(15)]
        x[2 * row + 1] = palette[halves[row] >> np.uint8(4)]
    if x.size % 2:
        x[x.size - 1] = palette[halves[halves.size - 1]]


@jitted
def unpack_levels(levels, palette, x):
    """Write the values of levels."""
    for i in range(x.size):
        x[i] = palette[levels[i]]
