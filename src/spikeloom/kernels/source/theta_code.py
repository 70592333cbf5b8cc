"""The source around trained quantities: where they are read, and where their gradients are summed.

A quantity that repeats along memory (one for all neurons, or one per channel where channels lie
last) is given as a tile of one block's length, and the sums of a piece of work are one tile; any
other is given, and summed over time, element by element.
"""

from dataclasses import dataclass

from spikeloom.kernels.source.frame import Memory, Variant, names


@dataclass(frozen=True)
class ThetaCode:
    """Lines of source for trained quantities.

    Args:
        sums: texts of their gradients at one step; None where there is none.
        variant: says which of both forms.
        memory: names of arrays.
    """

    sums: list[str | None]
    variant: Variant
    memory: Memory

    @property
    def scratch(self) -> list[str]:
        """Rows of scratch memory."""
        return names("e", len(self.sums))

    def cleared(self, *, block: bool) -> list[str]:
        """Set sums to 0: before each block, or (tiles) once before all of them."""
        if block == self.variant.tiled:
            return []
        indent = "    " * (2 if block else 1)
        lines = [f"{indent}    {self.memory.put(one, 'F(0)')}" for one in self.scratch]
        return [f"{indent}for i in range({'n' if block else 'block'}):", *lines] if lines else []

    def added(self) -> list[str]:
        """Add the gradients of one element at one step."""
        return [
            self.memory.put(f"e{k}", f"{self.memory.get(f'e{k}')} + {text}")
            for k, text in enumerate(self.sums)
            if text is not None
        ]

    def stored(self, *, block: bool) -> list[str]:
        """Write sums out: after each block, or (tiles) once after all of them."""
        if block == self.variant.tiled:
            return []
        indent, index = "    " * (2 if block else 1), "b + i" if block else "piece * block + i"
        lines = [
            f"{indent}    {self.memory.put(f'gth{k}', self.memory.get(one), index)}"
            for k, one in enumerate(self.scratch)
        ]
        return [f"{indent}for i in range({'n' if block else 'block'}):", *lines] if lines else []


AFFINE = ["slope", "offset"]
"""Names of the two quantities of `affine`."""


def affine(x: str, centre: str, variant: Variant, memory: Memory) -> str:
    """Write (x - centre) slope + offset."""
    slope, offset = (memory.get(one, "i" if variant.tiled else "b + i") for one in AFFINE)
    return f"(({x} - {centre}) * {slope} + {offset})"


def theta_loads(count: int, variant: Variant, memory: Memory) -> dict[str, str]:
    """Return the loads of trained quantities, by the names of a program's inputs."""
    index = "i" if variant.tiled else "b + i"
    return {f"x{1 + k}": memory.get(f"th{k}", index) for k in range(count)}
