"""The compiler: numba where it works, nothing where it does not."""

import functools
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

OPTIONS: Mapping[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
"""How every kernel is compiled: free of the interpreter's lock (see `kernels.threads`), dividing
as torch divides. Never with fastmath: a kernel rounds where the reference rounds."""


@functools.cache
def numba() -> ModuleType | None:
    """Return numba, or None where it is missing or cannot be loaded."""
    if os.environ.get("SPIKELOOM_KERNELS", "auto") == "reference":
        return None
    try:
        import numba as found
    except Exception:  # a compiler that does not fit numpy fails in its own ways
        return None
    return found


def compiler() -> str:
    """Return the compiler's name and version, or "reference" where there is none."""
    found = numba()
    return "reference" if found is None else f"numba {found.__version__}"


def kernel_cache() -> Path:
    """Return the folder of generated kernels: in $XDG_CACHE_HOME, else in ~/.cache.

    It is the user's own, never that of data sets: what lies here is executed.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spikeloom-kernels"


def load_source(source: str) -> ModuleType:
    """Import generated source from the cache, where compiled code is kept from run to run.

    Where the cache cannot be written, the code lives as long as the process.

    Args:
        source: a module; it finds its compiler as any module does.
    """
    name = "spikeloom_kernel_" + hashlib.sha256(source.encode()).hexdigest()[:20]
    if name in sys.modules:
        return sys.modules[name]
    path = kernel_cache() / f"{name}.py"
    try:
        _write(path, source)
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="spikeloom-kernels-")) / f"{name}.py"
        _write(path, source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _write(path: Path, source: str) -> None:
    """Write a file whole or not at all; one that is right keeps its date, and its compiled code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_text() == source:
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, suffix=".tmp") as file:
        file.write(source)
    Path(file.name).replace(path)
