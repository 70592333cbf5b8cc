"""What all generated kernels have in common: the module, functions over blocks, loops."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from spikeloom.kernels.pooling import pooling_source
from spikeloom.kernels.source.emit import Emitter
from spikeloom.kernels.source.program import Program
from spikeloom.kernels.threads import HEAD

TRAINS = ("c", "out", "g", "gc")
"""Arrays in the type of currents and outputs; all others are in that of the state."""
OWN = ["piece", "lo", "hi", "count", "steps", "block", "width", "inner", "stride"]
"""What every function takes behind its arrays."""
END = ["    work[0] = 0  # the scratch lives until here"]


@dataclass(frozen=True)
class Variant:
    """What a kernel is compiled for.

    Args:
        io: type of currents, outputs and their gradients: "float32", "float64" or "bfloat16".
        constant: the same currents at every step, stored once.
        pool: side of the average pool its outputs go through; 1 for none.
        over: the gradient of the currents is written over them, for trains that nobody else reads.
        tiled: trained quantities repeat along a block, and are given and summed as one block.
        part: of a backward pass: "all"; or first the "sums" of trained quantities' gradients and,
            when it is known what follows from them, the "rest" (`kernels.runs.TrainFunction`).
    """

    io: str = "float32"
    constant: bool = False
    pool: int = 1
    over: bool = False
    tiled: bool = False
    part: Literal["all", "sums", "rest"] = "all"

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


class Source(NamedTuple):
    """A module's text, and the numbers its code is given."""

    text: str
    numbers: tuple[float, ...]


_GIVEN, _READS = "<given>", "<reads>"


def module_source(variant: Variant, emitter: Emitter, functions: list[str]) -> Source:
    """Write a module around its functions."""
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
        "from spikeloom.kernels._memory_numba import float64 as double_at",
        "from spikeloom.kernels.source.jit import OPTIONS",
        f"F = np.{variant.state}",
        f"STATE, TRAIN = F().itemsize, np.{variant.bits}().itemsize",
        *(f"{name} = F({value!r})" for name, value in emitter.constants.items()),
    ]
    names = list(emitter.numbers)
    given = ", ".join(["", *names])
    reads = "".join(f"    {name} = F(get(numbers, {k}, 0))\n" for k, name in enumerate(names))
    text = "\n".join([*head, *pooling, *functions, ""])
    text = text.replace(_GIVEN, given).replace(f"{_READS}\n", reads)
    return Source(text, tuple(emitter.numbers.values()))


def function(
    name: str,
    arguments: list[str],
    scratch: list[str],
    kept: list[int] | None = None,
    before: list[str] | None = None,
) -> list[str]:
    """Begin the function that takes blocks lo..hi through time; scratch is one piece of memory.

    Args:
        name: of the function.
        arguments: names of arrays.
        scratch: names of rows of one block.
        kept: numbers of states of which there is a row for each step.
        before: lines before the loop over blocks.
    """
    steps = [one for one in arguments if one not in TRAINS]
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
        f"def {name}({', '.join([*arguments, *OWN])}{_GIVEN}):",
        f"    work = np.empty(({rows} + {len(kept or ())} * steps) * block + 16, F)",
        "    base = (np.int64(work.ctypes.data) + 63) // 64 * 64",
        *parts,
        *(f"    has_{one}, {one} = {one} != 0, state_at({one})" for one in steps),
        *(before or ()),
        "    for b in range(lo, hi, block):",
        "        n = min(block, hi - b)",
    ]


def body(name: str, arguments: list[str]) -> list[str]:
    """Write the function that threads run: it reads addresses and claims pieces."""
    numbers = ["numbers", *OWN[4:], *arguments]
    return [
        "",
        "",
        "@numba.cfunc(numba.types.void(numba.types.voidptr), cache=True)",
        "def body(data):",
        f"    m = numba.carray(data, {HEAD + len(numbers)}, dtype=np.int64)",
        *(f"    {one} = m[{HEAD + k}]" for k, one in enumerate(numbers)),
        "    numbers = double_at(numbers)",
        _READS,
        "    count = m[3]",
        "    piece = claim(data)",
        "    while piece < m[1]:",
        "        lo = piece * m[2]",
        "        hi = min(lo + m[2], count)",
        f"        {name}({', '.join([*arguments, *OWN])}{_GIVEN})",
        "        piece = claim(data)",
    ]


def names(prefix: str, rows: range | int) -> list[str]:
    """Return names with numbers behind them."""
    return [f"{prefix}{k}" for k in (range(rows) if isinstance(rows, int) else rows)]


def loop(depth: int, lines: list[str]) -> list[str]:
    """Write a loop over the block's elements; nothing where there is nothing to do."""
    if not lines:
        return ["    " * depth + "pass"] if depth == 4 else []
    indent = "    " * depth
    return [f"{indent}for i in range(n):", *(f"{indent}    {line}" for line in lines)]


def written(
    program: Program, loads: dict[str, str], emitter: Emitter, prefix: str = ""
) -> tuple[list[str], list[str | None]]:
    """Write a program's lines behind the loads of the inputs it reads."""
    read = program.reads()
    texts = {one.name: prefix + one.name for one in program.inputs}
    lines, outputs = emitter.lines(program, texts, prefix)
    return [
        *(f"{text} = {loads[name]}" for name, text in texts.items() if name in read),
        *lines,
    ], outputs


def present(outputs: list[str | None], emitter: Emitter) -> list[str]:
    """Return the texts of outputs, zero for those that do not exist."""
    return [emitter.constant(0) if text is None else text for text in outputs]
