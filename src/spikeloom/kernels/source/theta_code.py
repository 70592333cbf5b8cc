"""The source around trained quantities: where they are read, and where their gradients are summed.

A quantity that repeats along memory (one for all neurons, or one per channel where channels lie
last) is given as a tile of one block's length, and the sums of a piece of work are one tile; any
other is given, and summed over time, element by element.
"""

from dataclasses import dataclass

from spikeloom.kernels.source.frame import Writer, names


@dataclass(frozen=True)
class ThetaCode:
    """Lines of source for trained quantities.

    Args:
        sums: texts of their gradients at one step; None where there is none.
        writer: knows the variant, which says which of both forms.
    """

    sums: list[str | None]
    writer: Writer

    @property
    def scratch(self) -> list[str]:
        """Rows of scratch memory."""
        return names("e", len(self.sums))

    def cleared(self, *, block: bool) -> list[str]:
        """Set sums to 0: before each block, or (tiles) once before all of them."""
        if block == self.writer.variant.tiled:
            return []
        indent = "    " * (2 if block else 1)
        lines = [f"{indent}    {self.writer.memory.put(one, 'F(0)')}" for one in self.scratch]
        return [f"{indent}for i in range({'n' if block else 'block'}):", *lines] if lines else []

    def added(self) -> list[str]:
        """Add the gradients of one element at one step."""
        return [
            self.writer.memory.put(f"e{k}", f"{self.writer.memory.get(f'e{k}')} + {text}")
            for k, text in enumerate(self.sums)
            if text is not None
        ]

    def stored(self, *, block: bool) -> list[str]:
        """Write sums out: after each block, or (tiles) once after all of them."""
        if block == self.writer.variant.tiled:
            return []
        indent, index = "    " * (2 if block else 1), "b + i" if block else "piece * block + i"
        lines = [
            f"{indent}    {self.writer.memory.put(f'gth{k}', self.writer.memory.get(one), index)}"
            for k, one in enumerate(self.scratch)
        ]
        return [f"{indent}for i in range({'n' if block else 'block'}):", *lines] if lines else []


AFFINE = ["slope", "offset"]
"""Names of the two quantities of `affine`."""


def affine(x: str, centre: str, writer: Writer) -> str:
    """Write (x - centre) slope + offset."""
    index = "i" if writer.variant.tiled else "b + i"
    slope, offset = (writer.memory.get(one, index) for one in AFFINE)
    return f"(({x} - {centre}) * {slope} + {offset})"
