"""What the figures were measured on: hardware, versions, and the load by others."""

import os
import platform

import torch

from spikeloom.base.allocator import memory_kept
from spikeloom.base.extras import version_of
from spikeloom.base.memory import free_bytes, total_bytes
from spikeloom.base.provenance import commit, cpuinfo, processor

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
BUSY = 0.5
_PACKAGES = ("torch", "numpy", "numba")


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy() -> bool:
    """Return whether others have kept half a core or more at work during the last minute."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] >= BUSY


def memory_left() -> float:
    """Return the share of the machine's memory that is available; 1 where it cannot be told."""
    total, free = total_bytes(), free_bytes()
    return free / total if total and free is not None else 1.0


def machine() -> dict[str, str]:
    """Return hardware and versions by name; no paths and no host name."""
    facts = cpuinfo()
    flags = set(facts.get("flags", "").split())
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "?"
    return {
        "commit": commit() or "?",
        "processor": processor(),
        "cores": str(usable_cores()),
        "instructions": ", ".join(flag for flag in _FLAGS if flag in flags) or "?",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version_of(name) or 'absent'}" for name in _PACKAGES),
        "CPU capability of torch": torch.backends.cpu.get_cpu_capability(),
        "allocator": "keeps freed memory" if memory_kept() else "the system's",
        "load before": load,
    }


def _memory() -> str:
    size = total_bytes()
    return "?" if size is None else f"{size / 2**30:.0f} GiB"
