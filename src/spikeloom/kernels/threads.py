"""Kernels on several threads: those of torch's own OpenMP pool.

After a matrix product torch's threads spin for a while, waiting for more work. A second pool would
compete with them for the same cores, and a kernel right after a product would run at half speed.
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
"""Numbers in front of a body's own: next piece, number of pieces, elements per piece, elements."""

# Pieces per thread. More than one, so that a thread that is held up leaves work to the others.
_PIECES = 4


class Shares(NamedTuple):
    """Division of work into pieces.

    Args:
        total: number of elements.
        size: elements of a piece.
        pieces: number of pieces.
        workers: number of threads that take pieces.
    """

    total: int
    size: int
    pieces: int
    workers: int


def shares(count: int, *, grain: int, multiple: int = 1) -> Shares:
    """Divide elements 0 to count into pieces, for as many of torch's threads as it is worth.

    Args:
        count: number of elements.
        grain: with fewer elements than this per thread another thread is not worth its call.
        multiple: pieces begin at multiples of this many elements.
    """
    workers = max(1, min(torch.get_num_threads(), count // max(1, grain)))
    size = count
    if workers > 1:
        size = max(grain // 2, -(-count // (workers * _PIECES)))
    size = -(-size // multiple) * multiple
    return Shares(count, size, -(-count // size), workers)


def run_body(body: Any, numbers: Sequence[int], work: Shares) -> None:
    """Run a compiled body on torch's threads; return when all of them have finished.

    Args:
        body: a `numba.cfunc` that gets one pointer, to the numbers of `HEAD` followed by `numbers`;
            each thread calls it, and it takes pieces until none is left.
        numbers: addresses and sizes, as the body reads them.
        work: the division into pieces.
    """
    # All threads read `data` and count pieces up in its first number. It must live until the last
    # thread ends: each of the three ways below waits for its threads before it returns.
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
    """Return the GNU OpenMP library that torch has loaded; None if torch uses another one.

    Also None in a forked process: its OpenMP threads did not survive the fork, and a call would
    wait for them forever.
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
