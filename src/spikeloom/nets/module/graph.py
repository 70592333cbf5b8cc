"""Strongly connected components of a net's graph: blocks that must be computed together."""

from collections.abc import Iterable


def components(blocks: int, edges: Iterable[tuple[int, int]]) -> list[range]:
    """Return the strongly connected components of blocks in a chain, in topological order.

    Block i feeds block i + 1. So only an edge to the same or an earlier block closes a loop, and
    the loop contains every block between its ends. Loops that share a block form one component.
    Every component is therefore a range of consecutive blocks, and the order of the chain is a
    topological order.

    Args:
        blocks: number of blocks.
        edges: (source, target) of each edge besides the chain.

    Example:
        >>> components(5, [(2, 1), (3, 2), (0, 4)])
        [range(0, 1), range(1, 4), range(4, 5)]
    """
    last = list(range(blocks))  # last[i]: the last block with an edge to block i
    for source, target in edges:
        last[target] = max(last[target], source)
    found: list[range] = []
    start = 0
    while start < blocks:
        block = end = start
        while block <= end:
            end = max(end, last[block])
            block += 1
        found.append(range(start, end + 1))
        start = end + 1
    return found
