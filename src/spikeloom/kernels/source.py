"""The source of one kernel: a step's programs inside loops over time and elements.

Elements are independent, so a block of them is taken through all T steps while its state stays in
the cache. The backward pass runs the block forward once more from the stored currents, keeping the
states before each step, and then goes back: nothing but the currents is stored between the two.
"""

from dataclasses import dataclass, replace

from spikeloom.kernels.emit import Emitter
from spikeloom.kernels.program import Program, StepPrograms
from spikeloom.kernels.threads import HEAD


@dataclass(frozen=True)
class Variant:
    """What a kernel is compiled for.

    Args:
        io: type of currents, outputs and their gradients: "float32", "float64" or "bfloat16".
        constant: the same currents at every step, stored once.
        pool: side of the average pool its outputs go through; 1 for none.
    """

    io: str = "float32"
    constant: bool = False
    pool: int = 1

    @property
    def state(self) -> str:
        """Type of all that is computed."""
        return "float64" if self.io == "float64" else "float32"


def kernel_source(programs: StepPrograms, variant: Variant) -> str:
    """Write the module with `forward` and `backward` of one kernel.

    Raises:
        Unsupported: an operation is not known, or a state is no number.
    """
    emitter = Emitter(wide=variant.state == "float64")
    ahead = _forward(programs, variant, emitter)
    back = _backward(programs, variant, emitter)
    pooling = _pooling(variant, emitter)
    exp = "from math import exp" if emitter.wide else "from spikeloom.kernels._scalar_numba import exp"
    head = [
        '"""A generated kernel."""',
        "from math import expm1, log, log1p, sqrt, tanh",
        "import numba",
        "import numpy as np",
        exp,
        "from spikeloom.kernels._scalar_numba import fma, narrow, wide",
        "from spikeloom.kernels.jit import OPTIONS",
        "from spikeloom.kernels._team_numba import claim, pointer",
        f"F = np.{variant.state}",
        f"IO = np.{'uint16' if variant.io == 'bfloat16' else variant.io}",
        *(f"{name} = F({text})" for name, text in emitter.constants.items()),
        "",
    ]
    return "\n".join([*head, *pooling, *ahead, "", *back, ""])


def _body(name: str, arguments: list[str], variant: Variant) -> list[str]:
    """Write the function that threads run: it reads addresses and claims pieces.

    The numbers behind the head are steps, block and geometry, then for each array its address and
    its rows (trains) or elements (steps).
    """
    plain = [one for one in arguments if one in ("width", "inner")]
    arrays = [one for one in arguments if one not in (*plain, "lo", "hi", "block")]
    lines = [
        "",
        "",
        "@numba.cfunc(numba.types.void(numba.types.voidptr), cache=True)",
        f"def {name}_body(data):",
        f"    m = numba.carray(data, {HEAD + 1 + len(plain) + 2 * len(arrays)}, dtype=np.int64)",
        f"    count, pooled, block = m[3], m[3] // {variant.pool**2}, m[{HEAD}]",
    ]
    lines += [f"    {one} = m[{HEAD + 1 + k}]" for k, one in enumerate(plain)]
    at = HEAD + 1 + len(plain)
    for one in arrays:
        train, io = one in _TRAINS, "IO" if one in _TRAINS else "F"
        columns = "pooled" if one in ("out", "g") else "count"
        shape = f"(m[{at + 1}], {columns})" if train else f"m[{at + 1}]"
        lines.append(f"    {one} = numba.carray(pointer(m[{at}]), {shape}, dtype={io})")
        at += 2
    return [
        *lines,
        "    piece = claim(data)",
        "    while piece < m[1]:",
        "        lo = piece * m[2]",
        "        hi = min(lo + m[2], count)",
        f"        {name}({', '.join(arguments)})",
        "        piece = claim(data)",
    ]


def _forward(programs: StepPrograms, variant: Variant, emitter: Emitter) -> list[str]:
    step = programs.forward
    lines, outputs = _written(step, _inputs(programs, variant, keeping=False), emitter)
    out, *states = _present(outputs, emitter)
    rows = range(programs.states)
    pooled = variant.pool > 1
    arguments = ["c", "out", *_names("th", programs.thetas), *_names("in", rows)]
    arguments += [*_names("fin", rows), *_GEOMETRY[pooled], "lo", "hi", "block"]
    body = [
        *_DECORATOR,
        f"def forward({', '.join(arguments)}):",
        "    T = out.shape[0]",
        *(f"    v{k} = np.empty(block, F)" for k in rows),
        *(["    o = np.empty(block, F)"] if pooled else []),
        "    for b in range(lo, hi, block):",
        "        n = min(block, hi - b)",
        *_loop(2, [f"v{k}[i] = in{k}[b + i]" for k in rows]),
        "        for t in range(T):",
        f"            ct = c[{'0' if variant.constant else 't'}]",
        "            ot = out[t]",
        *_loop(
            3,
            [
                *lines,
                f"o[i] = {out}" if pooled else f"ot[b + i] = {_store(out, variant)}",
                *(f"v{k}[i] = {text}" for k, text in enumerate(states)),
            ],
        ),
        *(["            pool(o, ot, b, n, width, inner)"] if pooled else []),
        *_when_given("fin", "v", rows),
    ]
    return [*body, *_body("forward", arguments, variant)]


def _backward(programs: StepPrograms, variant: Variant, emitter: Emitter) -> list[str]:
    again = replace(programs.forward, outputs=programs.forward.outputs[1:]).needed()
    step_inputs = _inputs(programs, variant, keeping=False)
    step_lines, step_outputs = _written(again, step_inputs, emitter)
    states = _present(step_outputs, emitter)
    names = _inputs(programs, variant, keeping=True)
    pooled = variant.pool > 1
    first = 1 + programs.thetas + programs.states
    names[f"x{first}"] = "gs[i]" if pooled else _load("gt[b + i]", variant)
    names |= {f"x{first + 1 + k}": f"d{k}[i]" for k in range(programs.states)}
    read = programs.backward.reads()
    kept = [k for k in range(programs.states) if f"x{1 + programs.thetas + k}" in read]
    lines, outputs = _written(programs.backward, names, emitter)
    current, *others = _present(outputs, emitter)
    thetas, carried = others[: programs.thetas], others[programs.thetas :]
    rows, columns = range(programs.states), range(programs.thetas)
    arguments = ["c", "g", "gc", *_names("th", columns), *_names("in", rows)]
    arguments += [*_names("gth", columns), *_names("gin", rows), *_names("gfin", rows)]
    arguments += [*_GEOMETRY[pooled], "lo", "hi", "block"]
    zero = emitter.constant(0)
    scratch = [*_names("v", rows), *_names("d", rows), *_names("e", columns)]
    scratch += ["gs"] if pooled else []
    scratch += ["acc"] if variant.constant else []
    store = f"acc[i] += {current}" if variant.constant else f"gct[b + i] = {_store(current, variant)}"
    return [
        *_DECORATOR,
        f"def backward({', '.join(arguments)}):",
        "    T = g.shape[0]",
        *(f"    {name} = np.empty(block, F)" for name in scratch),
        *(f"    k{k} = np.empty((T, block), F)" for k in kept),
        "    for b in range(lo, hi, block):",
        "        n = min(block, hi - b)",
        *_loop(2, [f"v{k}[i] = in{k}[b + i]" for k in rows]),
        *_loop(2, [f"e{k}[i] = {zero}" for k in columns]),
        *(_loop(2, [f"acc[i] = {zero}"]) if variant.constant else []),
        "        for t in range(T):",
        f"            ct = c[{'0' if variant.constant else 't'}]",
        *(f"            k{k}t = k{k}[t]" for k in kept),
        *_loop(3, [f"k{k}t[i] = v{k}[i]" for k in kept]),
        "            if t + 1 < T:",
        *_loop(4, [*step_lines, *(f"v{k}[i] = {text}" for k, text in enumerate(states))]),
        *(
            line
            for k in rows
            for line in (
                f"        if gfin{k}.size:",
                *_loop(3, [f"d{k}[i] = gfin{k}[b + i]"]),
                "        else:",
                *_loop(3, [f"d{k}[i] = {zero}"]),
            )
        ),
        "        for t in range(T - 1, -1, -1):",
        f"            ct = c[{'0' if variant.constant else 't'}]",
        "            gt = g[t]",
        *([] if variant.constant else ["            gct = gc[t]"]),
        *(f"            k{k}t = k{k}[t]" for k in kept),
        *(["            unpool(gs, gt, b, n, width, inner)"] if pooled else []),
        *_loop(
            3,
            [
                *lines,
                store,
                *(f"e{k}[i] += {text}" for k, text in enumerate(thetas)),
                *(f"d{k}[i] = {text}" for k, text in enumerate(carried)),
            ],
        ),
        *_when_given("gin", "d", rows),
        *_loop(2, [f"gth{k}[b + i] = e{k}[i]" for k in columns]),
        *(_loop(2, [f"gc[0, b + i] = {_store('acc[i]', variant)}"]) if variant.constant else []),
        *_body("backward", arguments, variant),
    ]


_TRAINS = ("c", "out", "g", "gc")
_DECORATOR = ["@numba.njit(**OPTIONS)"]
_GEOMETRY = {False: [], True: ["width", "inner"]}
"""Rows of a pooled map: neurons per row, and neighbours in memory that are pooled alike (channels
where they lie last, else 1). A block holds whole groups of as many rows as the window is high."""

_POOL = """
@numba.njit(**OPTIONS)
def pool(o, out, b, n, width, inner):
    row, columns = width * inner, width // {k}
    for group in range(n // ({k} * row)):
        base, to = group * {k} * row, b // {kk} + group * columns * inner
        if inner == 1:
            for x in range(columns):
                at = base + x * {k}
                total = {zero}
{tall}
                out[to + x] = {mean}
        else:
            for x in range(columns):
                at = base + x * {k} * inner
                for i in range(inner):
                    total = {zero}
{deep}
                    out[to + x * inner + i] = {mean}


@numba.njit(**OPTIONS)
def unpool(gs, g, b, n, width, inner):
    row, columns = width * inner, width // {k}
    for group in range(n // ({k} * row)):
        base, to = group * {k} * row, b // {kk} + group * columns * inner
        for x in range(columns):
            at, source = base + x * {k} * inner, to + x * inner
            for i in range(inner):
                share = {load} / {count}
{back}
"""


def _pooling(variant: Variant, emitter: Emitter) -> list[str]:
    """Write the pool of outputs and the way back of its gradient."""
    k = variant.pool
    if k == 1:
        return []
    count, zero = emitter.constant(k * k), emitter.constant(0)
    cells = [(dy, dx) for dy in range(k) for dx in range(k)]
    deep = [f"total += o[at + {dy} * row + {dx} * inner + i]" for dy, dx in cells]
    tall = [f"total += o[at + {dy} * row + {dx}]" for dy, dx in cells]
    back = [f"gs[at + {dy} * row + {dx} * inner + i] = share" for dy, dx in cells]

    def indented(depth: int, lines: list[str]) -> str:
        return "\n".join("    " * depth + line for line in lines)

    text = _POOL.format(
        k=k,
        kk=k * k,
        zero=zero,
        count=count,
        mean=_store(f"total / {count}", variant),
        load=_load("g[source + i]", variant),
        tall=indented(4, tall),
        deep=indented(5, deep),
        back=indented(4, back),
    )
    return text.splitlines()


def _names(prefix: str, rows: range | int) -> list[str]:
    return [f"{prefix}{k}" for k in (range(rows) if isinstance(rows, int) else rows)]


def _when_given(array: str, scratch: str, rows: range) -> list[str]:
    """Write out scratch where the caller wants it: an empty array says no."""
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if {array}{k}.size:")
        lines += _loop(3, [f"{array}{k}[b + i] = {scratch}{k}[i]"])
    return lines


def _loop(depth: int, lines: list[str]) -> list[str]:
    """Write a loop over the block's elements; nothing where there is nothing to do."""
    if not lines:
        return []
    indent = "    " * depth
    return [f"{indent}for i in range(n):", *(f"{indent}    {line}" for line in lines)]


def _written(
    program: Program, loads: dict[str, str], emitter: Emitter
) -> tuple[list[str], list[str | None]]:
    """Write a program's lines behind the loads of the inputs it reads."""
    read = program.reads()
    names = {one.name: one.name for one in program.inputs}
    lines, outputs = emitter.lines(program, names)
    return [*(f"{name} = {loads[name]}" for name in names if name in read), *lines], outputs


def _inputs(programs: StepPrograms, variant: Variant, *, keeping: bool) -> dict[str, str]:
    """Return the text of current, thetas and states inside a loop."""
    names = {"x0": _load("ct[b + i]", variant)}
    names |= {f"x{1 + k}": f"th{k}[b + i]" for k in range(programs.thetas)}
    state = "k{0}t[i]" if keeping else "v{0}[i]"
    return names | {
        f"x{1 + programs.thetas + k}": state.format(k) for k in range(programs.states)
    }


def _load(text: str, variant: Variant) -> str:
    return f"wide({text})" if variant.io == "bfloat16" else text


def _store(text: str, variant: Variant) -> str:
    return f"narrow({text})" if variant.io == "bfloat16" else text


def _present(outputs: list[str | None], emitter: Emitter) -> list[str]:
    return [emitter.constant(0) if text is None else text for text in outputs]
