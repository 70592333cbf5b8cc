"""How much memory there is, to refuse what does not fit before it is allocated."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")


def total_bytes(device: torch.device | None = None) -> int | None:
    """Return the memory of a device in bytes, by default of the machine; None if unknown.

    In a container its limit counts.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if sys.platform == "win32":
        return _windows()[0]
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return within_container(size)


def free_bytes(device: torch.device | None = None) -> int | None:
    """Return the bytes that this process can still allocate; None if unknown.

    On a CUDA device: free memory and what torch holds unused. On the machine: what the system can
    give without swapping, that is MemAvailable on Linux; free, inactive and speculative pages on
    macOS; available physical memory on Windows.
    """
    if device is not None and device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    if sys.platform == "win32":
        return _windows()[1]
    free = _darwin() if sys.platform == "darwin" else _meminfo("MemAvailable")
    return None if free is None else within_container(free)


def _meminfo(key: str) -> int | None:
    """Return an entry of /proc/meminfo in bytes."""
    try:
        rows = dict(line.split(":", 1) for line in MEMINFO.read_text("utf-8").splitlines())
        return 1024 * int(rows[key].split()[0])
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _darwin() -> int | None:
    """Return the available bytes according to vm_stat of macOS."""
    try:
        text = subprocess.run(
            ["/usr/bin/vm_stat"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    size = re.search(r"page size of (\d+) bytes", text)
    pages = re.findall(r"^Pages (?:free|inactive|speculative): +(\d+)\.", text, re.M)
    return int(size[1]) * sum(map(int, pages)) if size and pages else None


class _Status(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("more", ctypes.c_uint64 * 5),
    )


def _windows() -> tuple[int | None, int | None]:
    """Return total and available physical memory on Windows, in bytes."""
    status = _Status(length=ctypes.sizeof(_Status))
    try:
        told = ctypes.windll.kernel32.GlobalMemoryStatusEx(  # pyright: ignore[reportAttributeAccessIssue]
            ctypes.byref(status)
        )
    except (AttributeError, OSError):
        return None, None
    return (int(status.total), int(status.available)) if told else (None, None)


def within_container(size: int) -> int:
    """Return a number of bytes, or the limit of the container if that is less."""
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
