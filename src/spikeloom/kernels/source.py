"""The source of one kernel: a step's programs inside loops over time and elements.

Elements are independent, so a block of them is taken through all T steps while its state stays in
the cache. The backward pass runs the block forward once more from the stored currents, keeping the
states before each step, and then goes back: nothing but the currents is stored between the two.
"""

from dataclasses import dataclass, field, replace

from spikeloom.kernels.emit import Emitter
from spikeloom.kernels.pooling import pooling_source
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

    @property
    def bits(self) -> str:
        """Type in which currents and outputs lie in memory."""
        return "uint16" if self.io == "bfloat16" else self.io

    def load(self, text: str) -> str:
        """Write a number from memory as one to compute with."""
        return f"wide({text})" if self.io == "bfloat16" else text

    def store(self, text: str) -> str:
        """Write a computed number as it lies in memory."""
        return f"narrow({text})" if self.io == "bfloat16" else text


@dataclass
class Memory:
    """Names of arrays, each with its own scope (see `_memory_numba`)."""

    scopes: dict[str, int] = field(default_factory=dict)

    def get(self, name: str, index: str = "i", pointer: str = "") -> str:
        """Write a load."""
        return f"get({pointer or name}, {index}, {self._scope(name)})"

    def put(self, name: str, value: str, index: str = "i", pointer: str = "") -> str:
        """Write a store."""
        return f"put({pointer or name}, {index}, {value}, {self._scope(name)})"

    def _scope(self, name: str) -> int:
        return self.scopes.setdefault(name, len(self.scopes))


def kernel_source(programs: StepPrograms, variant: Variant) -> str:
    """Write the module with `forward_body` and `backward_body` of one kernel.

    The numbers behind a body's head (`kernels.threads`) are T, elements of a block, width and
    inner (`kernels.pooling`; 0 without a pool), then addresses: trains, thetas, states, results;
    0 stands for what is not wanted or not given.

    Raises:
        Unsupported: an operation is not known, or a state is no number.
    """
    emitter = Emitter(wide=variant.state == "float64")
    ahead = _forward(programs, variant, emitter)
    back = _backward(programs, variant, emitter)
    pooling = pooling_source(variant.pool, variant.load, variant.store, emitter)
    exp = "math" if emitter.wide else "spikeloom.kernels._scalar_numba"
    head = [
        '"""A generated kernel."""',
        "from math import expm1, log, log1p, sqrt, tanh",
        "import numba",
        "import numpy as np",
        f"from {exp} import exp",
        "from spikeloom.kernels._scalar_numba import fma, narrow, wide",
        f"from spikeloom.kernels._memory_numba import {variant.state} as state_at",
        f"from spikeloom.kernels._memory_numba import {variant.bits} as train_at",
        "from spikeloom.kernels._memory_numba import claim, get, put",
        "from spikeloom.kernels.jit import OPTIONS",
        f"F = np.{variant.state}",
        f"STATE, TRAIN = F().itemsize, np.{variant.bits}().itemsize",
        *(f"{name} = F({text})" for name, text in emitter.constants.items()),
    ]
    return "\n".join([*head, *pooling, *ahead, *back, ""])


def _forward(programs: StepPrograms, variant: Variant, emitter: Emitter) -> list[str]:
    memory = Memory()
    lines, outputs = _written(programs.forward, _loads(programs, variant, memory), emitter)
    out, *states = _present(outputs, emitter)
    rows, pooled = range(programs.states), variant.pool > 1
    arguments = ["c", "out", *_names("th", programs.thetas), *_names("in", rows)]
    arguments += _names("fin", rows)
    store = memory.put("o", out) if pooled else memory.put("out", variant.store(out), "i", "ot")
    return [
        *_function("forward", arguments, [*_names("v", rows), *(["o"] if pooled else [])]),
        *_loop(2, [memory.put(f"v{k}", memory.get(f"in{k}", "b + i")) for k in rows]),
        "        for t in range(steps):",
        f"            ct = train_at(c + ({'0' if variant.constant else 't'} * count + b) * TRAIN)",
        f"            ot = train_at(out + (t * count + b) // {variant.pool**2} * TRAIN)",
        *_loop(3, [*lines, store, *(memory.put(f"v{k}", text) for k, text in enumerate(states))]),
        *(["            pool(o, ot, n, width, inner)"] if pooled else []),
        *_when_given(memory, "fin", "v", rows),
        *_END,
        *_body("forward", arguments),
    ]


def _backward(programs: StepPrograms, variant: Variant, emitter: Emitter) -> list[str]:
    memory = Memory()
    again = replace(programs.forward, outputs=programs.forward.outputs[1:]).needed()
    loads = _loads(programs, variant, memory)
    step_lines, step_outputs = _written(again, loads, emitter)
    states = _present(step_outputs, emitter)
    first, pooled = 1 + programs.thetas + programs.states, variant.pool > 1
    rows, columns = range(programs.states), range(programs.thetas)
    loads |= {f"x{1 + programs.thetas + k}": memory.get(f"k{k}", "i", f"k{k}t") for k in rows}
    loads[f"x{first}"] = memory.get("gs") if pooled else variant.load(memory.get("g", "i", "gt"))
    loads |= {f"x{first + 1 + k}": memory.get(f"d{k}") for k in rows}
    read = programs.backward.reads()
    kept = [k for k in rows if f"x{1 + programs.thetas + k}" in read]
    lines, outputs = _written(programs.backward, loads, emitter)
    current, *others = _present(outputs, emitter)
    thetas, carried = others[: programs.thetas], others[programs.thetas :]
    arguments = ["c", "g", "gc", *_names("th", columns), *_names("in", rows)]
    arguments += [*_names("gth", columns), *_names("gin", rows), *_names("gfin", rows)]
    zero = emitter.constant(0)
    scratch = [*_names("v", rows), *_names("d", rows), *_names("e", columns)]
    scratch += [*(["gs"] if pooled else []), *(["acc"] if variant.constant else [])]
    at = "0" if variant.constant else "t"
    current_rows = [f"            ct = train_at(c + ({at} * count + b) * TRAIN)"]
    kept_rows = [f"            k{k}t = state_at(k{k} + t * block * STATE)" for k in kept]
    if variant.constant:
        store = memory.put("acc", f"{memory.get('acc')} + {current}")
    else:
        store = memory.put("gc", variant.store(current), "i", "gct")
    return [
        *_function("backward", arguments, scratch, kept),
        *_loop(2, [memory.put(f"v{k}", memory.get(f"in{k}", "b + i")) for k in rows]),
        *_loop(2, [memory.put(f"e{k}", zero) for k in columns]),
        *(_loop(2, [memory.put("acc", zero)]) if variant.constant else []),
        "        for t in range(steps):",
        *current_rows,
        *kept_rows,
        *_loop(3, [memory.put(f"k{k}", memory.get(f"v{k}"), "i", f"k{k}t") for k in kept]),
        "            if t + 1 < steps:",
        *_loop(4, [*step_lines, *(memory.put(f"v{k}", text) for k, text in enumerate(states))]),
        *_given_or_zero(memory, "d", "gfin", rows, zero),
        "        for t in range(steps - 1, -1, -1):",
        *current_rows,
        *kept_rows,
        f"            gt = train_at(g + (t * count + b) // {variant.pool**2} * TRAIN)",
        f"            gct = train_at(gc + ({at} * count + b) * TRAIN)",
        *(["            unpool(gs, gt, n, width, inner)"] if pooled else []),
        *_loop(
            3,
            [
                *lines,
                store,
                *(
                    memory.put(f"e{k}", f"{memory.get(f'e{k}')} + {text}")
                    for k, text in enumerate(thetas)
                ),
                *(memory.put(f"d{k}", text) for k, text in enumerate(carried)),
            ],
        ),
        *_when_given(memory, "gin", "d", rows),
        *_loop(2, [memory.put(f"gth{k}", memory.get(f"e{k}"), "b + i") for k in columns]),
        *(_constant_end(memory, variant) if variant.constant else []),
        *_END,
        *_body("backward", arguments),
    ]


def _constant_end(memory: Memory, variant: Variant) -> list[str]:
    return [
        "        gct = train_at(gc + b * TRAIN)",
        *_loop(2, [memory.put("gc", variant.store(memory.get("acc")), "i", "gct")]),
    ]


_TRAINS = ("c", "out", "g", "gc")
_OWN = ["lo", "hi", "count", "steps", "block", "width", "inner"]
_END = ["    work[0] = 0  # the scratch lives until here"]


def _function(
    name: str, arguments: list[str], scratch: list[str], kept: list[int] | None = None
) -> list[str]:
    """Begin the function that takes blocks lo..hi through time; scratch is one piece of memory."""
    steps = [one for one in arguments if one not in _TRAINS]
    rows = len(scratch)
    parts = [f"    {one} = state_at(base + {k} * block * STATE)" for k, one in enumerate(scratch)]
    parts += [
        f"    k{one} = base + ({rows} + {k} * steps) * block * STATE"
        for k, one in enumerate(kept or ())
    ]
    return [
        "",
        "",
        "@numba.njit(**OPTIONS)",
        f"def {name}({', '.join([*arguments, *_OWN])}):",
        f"    work = np.empty(({rows} + {len(kept or ())} * steps) * block + 16, F)",
        "    base = (np.int64(work.ctypes.data) + 63) // 64 * 64",
        *parts,
        *(f"    has_{one}, {one} = {one} != 0, state_at({one})" for one in steps),
        "    for b in range(lo, hi, block):",
        "        n = min(block, hi - b)",
    ]


def _body(name: str, arguments: list[str]) -> list[str]:
    """Write the function that threads run: it reads addresses and claims pieces."""
    own = ["steps", "block", "width", "inner"]
    numbers = [*own, *arguments]
    return [
        "",
        "",
        "@numba.cfunc(numba.types.void(numba.types.voidptr), cache=True)",
        f"def {name}_body(data):",
        f"    m = numba.carray(data, {HEAD + len(numbers)}, dtype=np.int64)",
        *(f"    {one} = m[{HEAD + k}]" for k, one in enumerate(numbers)),
        "    count = m[3]",
        "    piece = claim(data)",
        "    while piece < m[1]:",
        "        lo = piece * m[2]",
        "        hi = min(lo + m[2], count)",
        f"        {name}({', '.join([*arguments, *_OWN])})",
        "        piece = claim(data)",
    ]


def _names(prefix: str, rows: range | int) -> list[str]:
    return [f"{prefix}{k}" for k in (range(rows) if isinstance(rows, int) else rows)]


def _given_or_zero(memory: Memory, scratch: str, array: str, rows: range, zero: str) -> list[str]:
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if has_{array}{k}:")
        lines += _loop(3, [memory.put(f"{scratch}{k}", memory.get(f"{array}{k}", "b + i"))])
        lines.append("        else:")
        lines += _loop(3, [memory.put(f"{scratch}{k}", zero)])
    return lines


def _when_given(memory: Memory, array: str, scratch: str, rows: range) -> list[str]:
    """Write out scratch where the caller wants it."""
    lines: list[str] = []
    for k in rows:
        lines.append(f"        if has_{array}{k}:")
        lines += _loop(3, [memory.put(f"{array}{k}", memory.get(f"{scratch}{k}"), "b + i")])
    return lines


def _loop(depth: int, lines: list[str]) -> list[str]:
    """Write a loop over the block's elements; nothing where there is nothing to do."""
    if not lines:
        return ["    " * depth + "pass"] if depth == 4 else []
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


def _loads(programs: StepPrograms, variant: Variant, memory: Memory) -> dict[str, str]:
    """Return the loads of current, thetas and states in a loop that moves the states on."""
    loads = {"x0": variant.load(memory.get("c", "i", "ct"))}
    loads |= {f"x{1 + k}": memory.get(f"th{k}", "b + i") for k in range(programs.thetas)}
    return loads | {
        f"x{1 + programs.thetas + k}": memory.get(f"v{k}") for k in range(programs.states)
    }


def _present(outputs: list[str | None], emitter: Emitter) -> list[str]:
    return [emitter.constant(0) if text is None else text for text in outputs]
