"""How much memory there is: what no machine can hold is refused before it is asked for."""

import os
from pathlib import Path

import torch


def total_bytes(device: torch.device | None = None) -> int | None:
    """Return the memory of a device, of the machine where none is given; None where unknown.

    A container's limit counts as the machine's.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return within_container(size)


def within_container(size: int) -> int:
    """Return a number of bytes, or the container's limit where that is less."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            size = min(size, int(Path("/sys/fs/cgroup", name).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return size


def in_words(count: int) -> str:
    """Write a number of bytes, e.g. 12 GB."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            value = min(count, 10**300) / size
            if value >= 10_000:
                return f"{value:.0e} {unit}"
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{count / 1e3:.0f} KB"
