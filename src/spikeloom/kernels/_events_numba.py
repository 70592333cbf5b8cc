"""Compiled loops of `kernels.events`: lists of active inputs, and sums of weight rows.

Arrays are flat where two memory orders share one loop, so that each type is compiled once.
"""

from typing import Any

import numba

from spikeloom.kernels.jit import OPTIONS

jitted: Any = numba.njit(cache=True, **OPTIONS)


@jitted
def count_nonzero(x, run, runs, step):
    """Count what is not 0 in runs of flat x, each `step` behind the last, around the end."""
    found = 0
    at = 0
    for _ in range(runs):
        for i in range(at, at + run):
            found += 1 if x[i] != 0 else 0
        at = (at + step) % (x.shape[0] - run + 1)
    return found


@jitted
def _sum_rows(acc, rows, index, count):
    """Add the rows of `index` to acc, eight at a time: acc is read and written less often."""
    width = acc.shape[0]
    k = 0
    while k + 8 <= count:
        r0, r1, r2, r3 = rows[index[k]], rows[index[k + 1]], rows[index[k + 2]], rows[index[k + 3]]
        r4, r5, r6, r7 = (
            rows[index[k + 4]],
            rows[index[k + 5]],
            rows[index[k + 6]],
            rows[index[k + 7]],
        )
        for j in range(width):
            acc[j] += ((r0[j] + r1[j]) + (r2[j] + r3[j])) + ((r4[j] + r5[j]) + (r6[j] + r7[j]))
        k += 8
    if k + 4 <= count:
        r0, r1, r2, r3 = rows[index[k]], rows[index[k + 1]], rows[index[k + 2]], rows[index[k + 3]]
        for j in range(width):
            acc[j] += (r0[j] + r1[j]) + (r2[j] + r3[j])
        k += 4
    while k < count:
        r0 = rows[index[k]]
        for j in range(width):
            acc[j] += r0[j]
        k += 1


@jitted
def _sum_scaled_rows(acc, rows, index, value, count):
    """Add value times row for each of `index` to acc."""
    width = acc.shape[0]
    k = 0
    while k + 4 <= count:
        r0, r1, r2, r3 = rows[index[k]], rows[index[k + 1]], rows[index[k + 2]], rows[index[k + 3]]
        v0, v1, v2, v3 = value[k], value[k + 1], value[k + 2], value[k + 3]
        for j in range(width):
            acc[j] += (v0 * r0[j] + v1 * r1[j]) + (v2 * r2[j] + v3 * r3[j])
        k += 4
    while k < count:
        r0, v0 = rows[index[k]], value[k]
        for j in range(width):
            acc[j] += v0 * r0[j]
        k += 1


@jitted
def _collect(acc, rows, bias, index, value, count, spikes):
    """Set acc to the bias and the sum of all events; without products where all of them are 1."""
    for j in range(acc.shape[0]):
        acc[j] = bias[j]
    if spikes:
        _sum_rows(acc, rows, index, count)
    else:
        _sum_scaled_rows(acc, rows, index, value, count)


@jitted
def linear(x, rows, bias, out, index, value, begin, end):
    """Fill out[begin:end] with bias + x rows.

    x [N, D], rows [D, M], bias [M], out [N, M]; scratch: index and value [D + 1].
    """
    for n in range(begin, end):
        row = x[n]
        count = 0
        for i in range(row.shape[0]):  # no branch: whether an input is active cannot be foreseen
            index[count] = i
            value[count] = row[i]
            count += row[i] != 0
        spikes = True
        for k in range(count):
            spikes &= value[k] == 1
        _collect(out[n], rows, bias, index, value, count, spikes)


@jitted
def _list_planar(x, start, shape, lines, channels, values, counts):
    """List the active channels of each position of image lines; x[start:] is [C, H, W].

    Returns whether all of them are 1.
    """
    depth, height, width = shape
    spikes = True
    for c in range(depth):
        for y in range(lines[0], lines[1]):
            line = x[start + (c * height + y) * width : start + (c * height + y + 1) * width]
            for at in range(width):
                v = line[at]
                if v != 0:
                    place = y * width + at
                    k = counts[place]
                    channels[place, k] = c
                    values[place, k] = v
                    counts[place] = k + 1
                    spikes &= v == 1
    return spikes


@jitted
def _list_interleaved(x, start, shape, lines, channels, values, counts):
    """Do the same where x[start:] is [H, W, C]."""
    depth, _, width = shape
    spikes = True
    for place in range(lines[0] * width, lines[1] * width):
        line = x[start + place * depth : start + (place + 1) * depth]
        names, sizes = channels[place], values[place]
        k = 0
        for c in range(depth):
            if line[c] != 0:
                names[k] = c
                sizes[k] = line[c]
                k += 1
        counts[place] = k
        for e in range(k):
            spikes &= sizes[e] == 1
    return spikes


@jitted
def conv(
    x, rows, bias, out, in_shape, out_shape, window, last, scratch, begin, end
):  # all numbers a thread needs, since nothing is shared
    """Fill output lines begin..end-1 (image n, line oy is n * OH + oy) with a convolution.

    x, out: flat, images [C, H, W], or [H, W, C] where `last`. rows [K * K * C, M] with the window's
    lines first. window: (K, stride, padding). scratch: channels, values [H * W, C], counts [H * W],
    index, value [K * K * C], acc [OW, M].
    """
    depth, height, width = in_shape
    many, tall, wide = out_shape
    side, stride, padding = window
    channels, values, counts, index, value, acc = scratch
    size = depth * height * width
    at = begin
    while at < end:
        n = at // tall
        first, stop = at - n * tall, min(tall, end - n * tall)
        lines = (
            max(0, first * stride - padding),
            max(0, min(height, (stop - 1) * stride - padding + side)),
        )
        counts[:] = 0
        if last:
            spikes = _list_interleaved(x, n * size, in_shape, lines, channels, values, counts)
        else:
            spikes = _list_planar(x, n * size, in_shape, lines, channels, values, counts)
        for oy in range(first, stop):
            for ox in range(wide):
                count = 0
                for ky in range(side):
                    y = oy * stride - padding + ky
                    if y < 0 or y >= height:
                        continue
                    for kx in range(side):
                        here = ox * stride - padding + kx
                        if here < 0 or here >= width:
                            continue
                        place = y * width + here
                        base = (ky * side + kx) * depth
                        names, sizes = channels[place], values[place]
                        for e in range(counts[place]):
                            index[count] = base + names[e]
                            value[count] = sizes[e]
                            count += 1
                _collect(acc[ox], rows, bias, index, value, count, spikes)
            _store(acc, out, (n * tall + oy, oy, n), out_shape, last)
        at = n * tall + stop


@jitted
def _store(acc, out, at, out_shape, last):
    """Write one output line [OW, M] where it belongs."""
    many, tall, wide = out_shape
    line, oy, n = at
    if last:
        out[line * wide * many : (line + 1) * wide * many] = acc.ravel()
        return
    for m in range(many):
        start = ((n * many + m) * tall + oy) * wide
        for ox in range(wide):
            out[start + ox] = acc[ox, m]
