"""Kernels on several threads: torch's own, which have just finished a product and still wait.

Any other pool would meet them on the same cores: OpenMP's threads spin for a while after their
work, and a kernel that follows a matrix product on foreign threads runs at half its speed.
"""

import ctypes
import functools
import os
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

HEAD = 4
"""Numbers before a body's own: the next piece, how many there are, elements in one and in all."""

_PIECES = 4  # per thread, so that one that is held up does not hold up all


class Shares(NamedTuple):
    """Work in pieces: elements in all, elements of a piece, pieces, threads that claim them."""

    total: int
    size: int
    pieces: int
    workers: int


def shares(count: int, *, grain: int, multiple: int = 1) -> Shares:
    """Cut 0..count into pieces, for as many of torch's threads as it is worth.

    Args:
        count: number of elements.
        grain: fewer elements than this are not worth another thread.
        multiple: pieces begin at multiples of this many elements.
    """
    workers = max(1, min(torch.get_num_threads(), count // max(1, grain)))
    size = count
    if workers > 1:
        size = max(grain // 2, -(-count // (workers * _PIECES)))
    size = -(-size // multiple) * multiple
    return Shares(count, size, -(-count // size), workers)


def run_body(body: Any, numbers: Sequence[int], work: Shares) -> None:
    """Run a compiled body on torch's threads.

    Args:
        body: a `numba.cfunc` of one pointer, to the four numbers of `HEAD` and `numbers`; it claims
            pieces until none is left.
        numbers: addresses and sizes, as the body reads them.
        work: what there is to claim.
    """
    # `data` is shared by all threads and must outlive the last: none of the three ways below
    # returns before its threads have.
    workers = work.workers
    data = array("q", (0, work.pieces, work.size, work.total, *numbers))
    address = data.buffer_info()[0]
    gomp = _gomp() if workers > 1 else None
    if workers == 1:
        body.ctypes(address)
    elif gomp is not None:
        gomp.GOMP_parallel(body.address, address, workers, 0)
    else:
        others = [_pool(workers - 1).submit(body.ctypes, address) for _ in range(workers - 1)]
        body.ctypes(address)
        for other in others:
            other.result()


@functools.cache
def _gomp() -> Any:
    """Return GNU's OpenMP as torch has loaded it, or None where torch runs on something else.

    A process that was forked has lost its threads, and would wait for them for ever.
    """
    if os.getpid() != _STARTED:
        return None
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        address, number = ctypes.c_void_p, ctypes.c_uint
        library.GOMP_parallel.argtypes = [address, address, number, number]
        library.GOMP_parallel.restype = None
    except (OSError, AttributeError):
        return None
    return library


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="spikeloom")


_STARTED = os.getpid()

if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)
    os.register_at_fork(after_in_child=_gomp.cache_clear)
