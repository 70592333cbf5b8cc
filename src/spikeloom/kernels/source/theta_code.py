"""Source code that sums the gradients of trained quantities (thetas).

There are two forms. A theta that repeats in memory (one value for all neurons, or one per channel)
is passed as a tile as long as a block, and each piece of work sums its gradient into one tile. Any
other theta is passed with a value per element, and its gradient is summed over time per element.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from spikeloom.kernels.source.frame import Writer, loop, names


@dataclass(frozen=True)
class ThetaCode:
    """Lines that clear, add and store the gradients of thetas.

    Args:
        sums: text of each gradient at one step and element; None if it is zero.
        writer: of the module; its variant says which of the two forms is used.
    """

    sums: list[str | None]
    writer: Writer

    @property
    def scratch(self) -> list[str]:
        """Names of the scratch rows into which gradients are summed."""
        return names("e", len(self.sums))

    def cleared(self, *, block: bool) -> list[str]:
        """Set the sums to 0: before each block, or (tiles) once before all blocks."""
        return self._over(block, (self.writer.memory.put(one, "F(0)") for one in self.scratch))

    def added(self) -> list[str]:
        """Add the gradients of one element at one step."""
        memory = self.writer.memory
        return [
            memory.put(f"e{k}", f"{memory.get(f'e{k}')} + {text}")
            for k, text in enumerate(self.sums)
            if text is not None
        ]

    def stored(self, *, block: bool) -> list[str]:
        """Write the sums to memory: after each block, or (tiles) once after all blocks."""
        memory, index = self.writer.memory, "b + i" if block else "piece * block + i"
        rows = enumerate(self.scratch)
        return self._over(block, (memory.put(f"gth{k}", memory.get(one), index) for k, one in rows))

    def _over(self, block: bool, lines: Iterable[str]) -> list[str]:
        """Write a loop over a block, if this place belongs to the form of the variant."""
        if block == self.writer.variant.tiled:
            return []
        return loop(2, [*lines]) if block else loop(1, [*lines], "block")


AFFINE = ["slope", "offset"]
"""Names of the two arrays that `affine` reads."""


def affine(x: str, centre: str, writer: Writer) -> str:
    """Return the text of (x - centre) slope + offset."""
    index = "i" if writer.variant.tiled else "b + i"
    slope, offset = (writer.memory.get(one, index) for one in AFFINE)
    return f"(({x} - {centre}) * {slope} + {offset})"
