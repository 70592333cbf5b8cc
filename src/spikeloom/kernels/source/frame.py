"""The parts that all generated kernels share: module, functions over blocks, loops."""

# A generated module has two functions. `body` is what threads call: it reads addresses and sizes
# from an array of integers and takes pieces of work until none is left. For each piece it calls the
# function that does the work. That takes one block of elements after another through all T steps:
# blocks are the outer loop and time the inner one, so that the state of a block stays in the
# level-1 cache. The innermost loop is over the elements of the block, for vector instructions.

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from spikeloom.kernels.pooling import pooling_source
from spikeloom.kernels.source.emit import Emitter
from spikeloom.kernels.source.program import Program
from spikeloom.kernels.threads import HEAD

TRAINS = ("c", "out", "g", "gc")
"""Arrays in the type of currents and outputs; all others have the type of the state."""
OWN = ["piece", "lo", "hi", "count", "steps", "block", "width", "inner", "stride"]
"""Arguments of every function, after its arrays."""
# A function only uses the address of its scratch array. This last access keeps the compiler from
# freeing the array earlier.
END = ["    work[0] = 0  # the scratch lives until here"]


@dataclass(frozen=True)
class Variant:
    """Properties of a train that need another kernel.

    Args:
        io: type of currents, outputs and their gradients: "float32", "float64" or "bfloat16".
        constant: the current is the same at every step and stored once.
        pool: side of the average pool applied to the outputs; 1 for none.
        over: the backward pass writes the gradient of the currents over the currents.
        tiled: trained quantities repeat along a block; they are passed, and their gradients are
            summed, as tiles of one block.
        part: "all" of a backward pass, only the "sums" that are gradients of trained quantities,
            or the "rest", which needs these sums (see `kernels.functions.TrainFunction`).
    """

    io: str = "float32"
    constant: bool = False
    pool: int = 1
    over: bool = False
    tiled: bool = False
    part: Literal["all", "sums", "rest"] = "all"

    @property
    def state(self) -> str:
        """Type of the state and of all arithmetic."""
        return "float64" if self.io == "float64" else "float32"

    @property
    def bits(self) -> str:
        """Type of currents and outputs in memory; numba has no bfloat16, so it is uint16."""
        return "uint16" if self.io == "bfloat16" else self.io

    def words(self) -> str:
        """Describe the variant, for the comment above the code."""
        said = [self.io]
        said += ["currents that stay"] if self.constant else []
        said += [f"behind it an average pool of side {self.pool}"] if self.pool > 1 else []
        said += ["the currents' gradient written over them"] if self.over else []
        said += [] if self.part == "all" else [f"part of a pass in two: {self.part}"]
        return "; ".join(said)

    def load(self, text: str) -> str:
        """Return the text that converts a stored number to the type of the state."""
        return f"wide({text})" if self.io == "bfloat16" else text

    def store(self, text: str) -> str:
        """Return the text that converts a computed number to the stored type."""
        return f"narrow({text})" if self.io == "bfloat16" else text


@dataclass
class Memory:
    """Writes loads and stores; each array has an alias scope of its own (see `_memory_numba`)."""

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
    """Text of a module, the numbers it reads when it runs, and what it does, in words."""

    text: str
    numbers: tuple[float, ...]
    what: str

    def comment(self, about: str) -> str:
        """Return the comment above the text, for readers.

        It is not compiled, since units that differ in their numbers alone share the code.

        Args:
            about: whose code it is: a unit with its settings, then its equation.
        """
        numbers = ", ".join(f"N{k} = {value!r}" for k, value in enumerate(self.numbers))
        lines = [self.what, "", *about.splitlines(), "", *_LEGEND]
        if numbers:
            lines += ["Numbers given when it runs, so that others share this code:", numbers]
        return "".join(f"# {line}".rstrip() + "\n" for line in lines)


_LEGEND = (
    "c, out: currents, outputs; g, gc: their gradients. th, in, fin: trained quantities, first and",
    "last states; gth, gin, gfin: their gradients. v, d: state and its gradient while time passes.",
)

# Places in the text that `module` fills in, when all numbers are known.
_GIVEN, _READS = "<given>", "<reads>"


@dataclass
class Writer:
    """Writes the module of one variant.

    Args:
        variant: to be written.
    """

    variant: Variant
    emitter: Emitter = field(init=False)
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        # one emitter and one memory per module: within it, names and scopes must be unique
        self.emitter = Emitter(wide=self.variant.state == "float64")

    @property
    def pooled(self) -> bool:
        """Whether outputs go through a pool."""
        return self.variant.pool > 1

    def loads(self, thetas: int) -> dict[str, str]:
        """Return the texts that load current and trained quantities, by input of a program."""
        current = self.variant.load(self.memory.get("c", "i", "ct"))
        return {"x0": current} | self.theta_loads(thetas)

    def theta_loads(self, count: int) -> dict[str, str]:
        """Return the texts that load the trained quantities."""
        index = "i" if self.variant.tiled else "b + i"
        return {f"x{1 + k}": self.memory.get(f"th{k}", index) for k in range(count)}

    def grad_load(self) -> str:
        """Return the text that loads the gradient of an output; `unpool` has put it in scratch."""
        if self.pooled:
            return self.memory.get("gs")
        return self.variant.load(self.memory.get("g", "i", "gt"))

    def written(
        self, program: Program, loads: dict[str, str], prefix: str = ""
    ) -> tuple[list[str], list[str | None]]:
        """Write the lines of a program, after lines that load the inputs it reads."""
        read = program.reads()
        texts = {one.name: prefix + one.name for one in program.inputs}
        lines, outputs = self.emitter.lines(program, texts, prefix)
        return [
            *(f"{text} = {loads[name]}" for name, text in texts.items() if name in read),
            *lines,
        ], outputs

    def present(self, outputs: list[str | None]) -> list[str]:
        """Return the texts of outputs, 0 for those that are None."""
        return [self.zero if text is None else text for text in outputs]

    @property
    def zero(self) -> str:
        """The number 0."""
        return self.emitter.constant(0)

    def module(self, what: str, functions: list[str]) -> Source:
        """Write a module: imports, constants, then the functions."""
        variant, emitter = self.variant, self.emitter
        pooling = pooling_source(variant.pool, variant.load, variant.store, emitter)
        exp = "math" if emitter.wide else "spikeloom.kernels._scalar_numba"
        head = [
            '"""A generated kernel; the comment above it says of what."""',
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
        return Source(text, tuple(emitter.numbers.values()), f"{what}, {variant.words()}.")


def function(
    name: str,
    arguments: list[str],
    scratch: list[str],
    kept: list[int] | None = None,
    before: list[str] | None = None,
) -> list[str]:
    """Write the head of the function that takes the blocks from lo to hi through time.

    Args:
        name: of the function.
        arguments: names of arrays.
        scratch: names of scratch rows, each as long as a block.
        kept: indices of the states that have a scratch row for each of the T steps.
        before: lines before the loop over blocks.
    """
    # One argument per array, however many: it is called once per piece of work, by `body` alone,
    # while an array of addresses would be read again for every element. All scratch is a single
    # allocation, aligned to a cache line, that lives as long as one call.
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
    """Write the function that threads call: it reads the arguments and takes pieces of work."""
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
        # one piece at a time, so that a thread that is held up takes fewer of them
        "        lo = piece * m[2]",
        "        hi = min(lo + m[2], count)",
        f"        {name}({', '.join([*arguments, *OWN])}{_GIVEN})",
        "        piece = claim(data)",
    ]


def names(prefix: str, rows: range | int) -> list[str]:
    """Return numbered names: th0, th1, .."""
    return [f"{prefix}{k}" for k in (range(rows) if isinstance(rows, int) else rows)]


def loop(depth: int, lines: list[str], count: str = "n") -> list[str]:
    """Write a loop over the elements of a block; nothing if it is empty."""
    if not lines:  # at depth 4 it is all that an `if` has, which needs a statement
        return ["    " * depth + "pass"] if depth == 4 else []
    indent = "    " * depth
    return [f"{indent}for i in range({count}):", *(f"{indent}    {line}" for line in lines)]
