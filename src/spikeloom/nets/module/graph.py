"""Which blocks must be computed together: strongly connected components of a net's graph."""

from collections.abc import Iterable


def components(blocks: int, edges: Iterable[tuple[int, int]]) -> list[range]:
    """Return the strongly connected components of blocks in a chain, in topological order.

    Block i feeds block i + 1. So only an edge to its own or to an earlier block closes a loop, and
    the loop holds every block between its ends: a component is a run of neighbours, the union of
    loops that share a block. The order of the chain is topological.

    Args:
        blocks: their number.
        edges: (source, target) of each edge besides the chain.

    Example:
        >>> components(5, [(2, 1), (3, 2), (0, 4)])
        [range(0, 1), range(1, 4), range(4, 5)]
    """
    last = list(range(blocks))  # the furthest block from which an edge leads back to each
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
