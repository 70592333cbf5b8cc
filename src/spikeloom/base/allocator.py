"""How this process takes memory from the system."""

import ctypes
import os
import platform

SETTING = "SPIKELOOM_ALLOCATOR"
"""Environment variable; "system" leaves the allocator as it is."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_TOP_PAD = 64 * 2**20
_CHILDREN = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
    "MALLOC_TOP_PAD_": str(_TOP_PAD),
}
_OWN = (*_CHILDREN, "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_memory() -> bool:
    """Keep freed memory in this process and its children, and ask for large pages.

    A train of T steps takes blocks of tens of megabytes and frees them in every training step.
    glibc gives such blocks back to the system at once, which hands out zeroed pages for the next;
    touching those costs as much as a neuron's arithmetic. Kept, a block is reused as it is. The
    price is resident memory: gaps between kept blocks stay taken.

    Settings of malloc in the environment come first, and `SPIKELOOM_ALLOCATOR=system` turns this
    off. Without glibc nothing is done but asking for large pages. Call it before the first large
    tensor; the command `spikeloom` does.

    Returns:
        whether freed memory is kept.

    Example:
        >>> keep_memory() in (True, False)
        True
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch
    if os.environ.get(SETTING) == "system" or any(name in os.environ for name in _OWN):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    malloc = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD))
    kept = all(malloc(name, value) for name, value in settings)
    if kept:
        os.environ.update(_CHILDREN)
    return kept


def memory_kept() -> bool:
    """Return whether this process was told to keep freed memory, by `keep_memory` or otherwise."""
    return os.environ.get("MALLOC_MMAP_MAX_") == "0"
