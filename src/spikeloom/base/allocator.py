"""Settings of the memory allocator: keep freed memory in the process."""

import ctypes
import os
import platform

SETTING = "SPIKELOOM_ALLOCATOR"
"""Environment variable; with "system" the allocator is left as it is."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # numbers of malloc.h
# The heap grows by at least 64 MB at a time, so that it seldom has to.
_TOP_PAD = 64 * 2**20
# The same settings for child processes, which read them from the environment.
_CHILDREN = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
    "MALLOC_TOP_PAD_": str(_TOP_PAD),
}
_OWN = (*_CHILDREN, "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_memory() -> bool:
    """Keep freed memory in this process and its children, and request large pages.

    Each training step allocates and frees blocks of tens of megabytes. By default glibc returns
    such blocks to the system at once, and the system hands out zeroed pages for the next one;
    touching them costs as much as the arithmetic of the neurons. A block that is kept is used
    again as it is. In return the process takes more memory, since gaps between blocks stay.

    Settings of malloc in the environment take precedence, and `SPIKELOOM_ALLOCATOR=system` turns
    this off. Without glibc only large pages are requested. Call it before the first large tensor,
    as the command `spikeloom` does.

    Returns:
        Whether freed memory is kept.

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
