"""Kernels on several threads: plain threads, since compiled code needs no interpreter's lock.

Numba's own threads are not used: beside torch's they wait on the same cores, and one of their
layers ends the process when two threads of a program call at once.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

ALIGN = 64
"""Shares begin at multiples of this many elements, so that no two write one cache line."""


def spread(call: Callable[[int, int], object], count: int, *, grain: int) -> None:
    """Cut 0..count into one range per thread of torch's and call each, at the same time.

    Args:
        call: takes (begin, end); ranges do not overlap.
        count: number of elements.
        grain: fewer elements than this are not worth another thread.
    """
    workers = max(1, min(torch.get_num_threads(), count // max(1, grain)))
    if workers == 1:
        call(0, count)
        return
    share = -(-count // workers)
    share = -(-share // ALIGN) * ALIGN if count > ALIGN * workers else share
    ends = [(lo, min(lo + share, count)) for lo in range(0, count, share)]
    pool = _pool(torch.get_num_threads() - 1)
    others = [pool.submit(call, lo, hi) for lo, hi in ends[1:]]
    call(*ends[0])
    for other in others:
        other.result()


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="spikeloom")


# threads do not survive a fork
os.register_at_fork(after_in_child=_pool.cache_clear)
