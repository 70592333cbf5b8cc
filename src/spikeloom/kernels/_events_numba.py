"""Compiled loops of `kernels.events`: lists of non-zero inputs, and sums of weight rows.

Images are planar ([C, H, W] in memory) or interleaved ([H, W, C], channels last). Arrays are
accessed through pointers with alias scopes (`_memory_numba`): 0 is what is written, 1 weights and
bias, 2 the input. The bodies are written once and compiled for float32 and float64.
"""

# pyright: reportMissingImports=false
from typing import Any

import numba
import numpy as np

from spikeloom.kernels import _memory_numba as memory
from spikeloom.kernels.source.jit import OPTIONS
from spikeloom.kernels.threads import HEAD

jitted: Any = numba.njit(cache=True, **OPTIONS)
inner: Any = numba.njit(**OPTIONS)
"""For functions with a type as an argument: numba cannot cache them, only their callers."""
body: Any = numba.cfunc(numba.types.void(numba.types.voidptr), cache=True)
carray: Any = numba.carray  # pyright: ignore[reportPrivateImportUsage]
claim: Any = memory.claim
float32: Any = memory.float32
float64: Any = memory.float64
get: Any = memory.get
put: Any = memory.put

LINEAR = 6
CONV = 14
"""How many numbers a body reads after those of `HEAD`."""


@jitted
def count_nonzero(x, run, runs, step):
    """Count non-zero elements in `runs` runs of `run` elements, `step` apart, wrapping around."""
    found = 0
    at = 0
    for _ in range(runs):
        for i in range(at, at + run):
            found += 1 if x[i] != 0 else 0
        at = (at + step) % (x.shape[0] - run + 1)
    return found


@jitted
def _sum_rows(out, at, rows, width, index, count):
    """Add the rows that begin at the entries of `index` to out[at:]."""
    # Eight rows are added at a time, so that `out` is read and written once for all of them. The
    # order of the sum is part of the result: do not change it.
    k = 0
    while k + 8 <= count:
        a, b, c, d = index[k], index[k + 1], index[k + 2], index[k + 3]
        e, f, g, h = index[k + 4], index[k + 5], index[k + 6], index[k + 7]
        for j in range(width):
            low = (get(rows, a + j, 1) + get(rows, b + j, 1)) + (
                get(rows, c + j, 1) + get(rows, d + j, 1)
            )
            high = (get(rows, e + j, 1) + get(rows, f + j, 1)) + (
                get(rows, g + j, 1) + get(rows, h + j, 1)
            )
            put(out, at + j, get(out, at + j, 0) + (low + high), 0)
        k += 8
    if k + 4 <= count:
        a, b, c, d = index[k], index[k + 1], index[k + 2], index[k + 3]
        for j in range(width):
            low = (get(rows, a + j, 1) + get(rows, b + j, 1)) + (
                get(rows, c + j, 1) + get(rows, d + j, 1)
            )
            put(out, at + j, get(out, at + j, 0) + low, 0)
        k += 4
    while k < count:
        a = index[k]
        for j in range(width):
            put(out, at + j, get(out, at + j, 0) + get(rows, a + j, 1), 0)
        k += 1


@jitted
def _sum_scaled_rows(out, at, rows, width, index, value, count):
    """Add each row times its value to out[at:], four rows at a time (see `_sum_rows`)."""
    k = 0
    while k + 4 <= count:
        a, b, c, d = index[k], index[k + 1], index[k + 2], index[k + 3]
        p, q, r, s = value[k], value[k + 1], value[k + 2], value[k + 3]
        for j in range(width):
            low = p * get(rows, a + j, 1) + q * get(rows, b + j, 1)
            high = r * get(rows, c + j, 1) + s * get(rows, d + j, 1)
            put(out, at + j, get(out, at + j, 0) + (low + high), 0)
        k += 4
    while k < count:
        a, p = index[k], value[k]
        for j in range(width):
            put(out, at + j, get(out, at + j, 0) + p * get(rows, a + j, 1), 0)
        k += 1


@jitted
def _collect(out, at, table, events, spikes):
    """Set out[at:] to the bias plus the sum over all events (non-zero inputs)."""
    # table: weight rows, bias, and their width M. events: the start of each event's row, its value,
    # and the number of events. spikes: all values are 1, so no products are needed.
    rows, bias, width = table
    index, value, count = events
    for j in range(width):
        put(out, at + j, get(bias, j, 1), 0)
    if spikes:
        _sum_rows(out, at, rows, width, index, count)
    else:
        _sum_scaled_rows(out, at, rows, width, index, value, count)


@inner
def _linear(data, at, number):
    """Compute out [N, M] = bias + x [N, D] rows [D, M], one piece of samples after another."""
    # data: arguments of a body (`kernels.threads`); at: makes an address a pointer to `number`
    m = carray(data, HEAD + LINEAR, dtype=np.int64)
    x, rows, bias, out = at(m[HEAD]), at(m[HEAD + 1]), at(m[HEAD + 2]), at(m[HEAD + 3])
    depth, width = m[HEAD + 4], m[HEAD + 5]
    value = np.empty(depth + 1, number)
    index = np.empty(depth + 1, np.int64)
    piece = claim(data)
    while piece < m[1]:
        for n in range(piece * m[2], min((piece + 1) * m[2], m[3])):
            count = 0
            for i in range(depth):  # without `if`: the branch predictor cannot foresee spikes
                v = get(x, n * depth + i, 2)
                index[count] = i * width
                value[count] = v
                count += v != 0
            spikes = True
            for k in range(count):
                spikes &= value[k] == 1
            _collect(out, n * width, (rows, bias, width), (index, value, count), spikes)
        piece = claim(data)


@jitted
def _list_planar(x, start, shape, lines, channels, values, counts):
    """List the non-zero channels of pixels, x[start:] is [C, H, W]; return whether all are 1."""
    # The channels of a pixel are in ascending order, as in `_list_interleaved`: both layouts are
    # summed in the same order. Channels are the outer loop here, since their planes lie apart.
    depth, height, width = shape
    spikes = True
    for place in range(lines[0] * width, lines[1] * width):
        counts[place] = 0
    for c in range(depth):
        for place in range(lines[0] * width, lines[1] * width):
            v = get(x, start + c * height * width + place, 2)
            if v != 0:
                k = counts[place]
                channels[place * depth + k] = c
                values[place * depth + k] = v
                counts[place] = k + 1
                spikes &= v == 1
    return spikes


@jitted
def _list_interleaved(x, start, shape, lines, channels, values, counts):
    """Do the same for x[start:] of shape [H, W, C]."""
    depth, _, width = shape
    spikes = True
    for place in range(lines[0] * width, lines[1] * width):
        base = place * depth
        k = base
        for c in range(depth):
            v = get(x, start + base + c, 2)
            if v != 0:
                channels[k] = c
                values[k] = v
                k += 1
                spikes &= v == 1
        counts[place] = k - base
    return spikes


@inner
def _conv(data, at, number):
    """Compute a convolution, one piece of output lines after another."""
    # Line oy of image n is element n * OH + oy of the work. For each piece and image, the non-zero
    # inputs of the lines it needs are listed first; every window then reads these short lists.
    # `rows` is [K * K * C, M]: row and column in the window, then channel. For planar images a line
    # is computed as [OW, M] in a buffer of its own (`line`), so that sums over M are contiguous,
    # and then transposed into the output.
    m = carray(data, HEAD + CONV, dtype=np.int64)
    x, rows, bias, out = at(m[HEAD]), at(m[HEAD + 1]), at(m[HEAD + 2]), at(m[HEAD + 3])
    depth, height, width = shape = m[HEAD + 4], m[HEAD + 5], m[HEAD + 6]
    many, tall, wide = m[HEAD + 7], m[HEAD + 8], m[HEAD + 9]
    side, stride, padding, last = m[HEAD + 10], m[HEAD + 11], m[HEAD + 12], m[HEAD + 13]
    channels = np.empty(height * width * depth, np.int32)
    counts = np.empty(height * width, np.int64)
    index = np.empty(side * side * depth + 1, np.int64)
    value = np.empty(side * side * depth + 1, number)
    values = np.empty(height * width * depth, number)
    room = np.empty(many * wide, number)
    line = at(np.int64(room.ctypes.data))
    table = rows, bias, many
    size = depth * height * width
    piece = claim(data)
    while piece < m[1]:
        row, end = piece * m[2], min((piece + 1) * m[2], m[3])
        while row < end:
            n = row // tall
            first, stop = row - n * tall, min(tall, end - n * tall)
            lines = (
                max(0, first * stride - padding),
                max(0, min(height, (stop - 1) * stride - padding + side)),
            )
            if last:
                spikes = _list_interleaved(x, n * size, shape, lines, channels, values, counts)
            else:
                spikes = _list_planar(x, n * size, shape, lines, channels, values, counts)
            for oy in range(first, stop):
                for ox in range(wide):
                    count = 0
                    top, left = oy * stride - padding, ox * stride - padding
                    for y in range(max(0, top), min(height, top + side)):
                        for here in range(max(0, left), min(width, left + side)):
                            place = y * width + here
                            tap = ((y - top) * side + here - left) * depth
                            for e in range(place * depth, place * depth + counts[place]):
                                index[count] = (tap + channels[e]) * many
                                value[count] = values[e]
                                count += 1
                    if last:
                        to = ((n * tall + oy) * wide + ox) * many
                        _collect(out, to, table, (index, value, count), spikes)
                    else:
                        to = ox * many
                        _collect(line, to, table, (index, value, count), spikes)
                if not last:
                    _turn(line, out, n * many * tall * wide + oy * wide, (many, tall, wide))
            row = n * tall + stop
        piece = claim(data)
    room[0] = 0  # a last access: `line` is only an address and does not keep `room` alive


@jitted
def _turn(line, out, start, shape):
    """Transpose one line [OW, M] into planar images."""
    # The line is read in scope 0, in which `_collect` has written it: in another scope the compiler
    # might move these loads before those stores.
    many, tall, wide = shape
    for j in range(many):
        to = start + j * tall * wide
        for ox in range(wide):
            put(out, to + ox, get(line, ox * many + j, 0), 0)


@body
def linear32(data):
    """Run `_linear` in float32."""
    _linear(data, float32, np.float32)


@body
def linear64(data):
    """Run `_linear` in float64."""
    _linear(data, float64, np.float64)


@body
def conv32(data):
    """Run `_conv` in float32."""
    _conv(data, float32, np.float32)


@body
def conv64(data):
    """Run `_conv` in float64."""
    _conv(data, float64, np.float64)
