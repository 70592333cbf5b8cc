"""Source of an average pool after the outputs of a kernel, and of its backward pass.

A block holds whole rows of windows. `width` is the number of neurons in an image row. `inner` is
the number of channels if they are last in memory, else 1.

The sums run over a window row by row, as in torch's pool, so that results are bit-identical.
"""

from collections.abc import Callable

from spikeloom.kernels.source.emit import Emitter

_TEMPLATE = """

@numba.njit(**OPTIONS)
def pool(o, out, n, width, inner):
    row, columns = width * inner, width // {k}
    for group in range(n // ({k} * row)):
        base, to = group * {k} * row, group * columns * inner
        if inner == 1:
            for x in range(columns):
                at = base + x * {k}
                total = {zero}
{tall}
                put(out, to + x, {mean}, 0)
        else:
            for x in range(columns):
                at, here = base + x * {k} * inner, to + x * inner
                for i in range(inner):
                    total = {zero}
{deep}
                    put(out, here + i, {mean}, 0)


@numba.njit(**OPTIONS)
def unpool(gs, g, n, width, inner):
    row, columns = width * inner, width // {k}
    for group in range(n // ({k} * row)):
        base, to = group * {k} * row, group * columns * inner
        for x in range(columns):
            at, source = base + x * {k} * inner, to + x * inner
            for i in range(inner):
                share = {load} / {count}
{back}
"""


def pooling_source(
    side: int, load: Callable[[str], str], store: Callable[[str], str], emitter: Emitter
) -> list[str]:
    """Write the functions `pool` and `unpool`; nothing for a side of 1.

    Args:
        side: of the window; windows do not overlap.
        load: converts a stored number to the type of the state, as text.
        store: converts a computed number to the stored type, as text.
        emitter: of the module, for its constants.
    """
    if side == 1:
        return []
    cells = [(dy, dx) for dy in range(side) for dx in range(side)]
    deep = [f"total += get(o, at + {dy} * row + {dx} * inner + i, 1)" for dy, dx in cells]
    tall = [f"total += get(o, at + {dy} * row + {dx}, 1)" for dy, dx in cells]
    back = [f"put(gs, at + {dy} * row + {dx} * inner + i, share, 1)" for dy, dx in cells]
    count = f"F({side**2})"
    text = _TEMPLATE.format(
        k=side,
        zero=emitter.constant(0),
        count=count,
        mean=store(f"total / {count}"),
        load=load("get(g, source + i, 0)"),
        tall=_indented(4, tall),
        deep=_indented(5, deep),
        back=_indented(4, back),
    )
    return text.rstrip().splitlines()


def _indented(depth: int, lines: list[str]) -> str:
    return "\n".join("    " * depth + line for line in lines)
