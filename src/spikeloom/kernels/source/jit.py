"""The compiler: numba where it works, nothing where it does not."""

import atexit
import functools
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

OPTIONS: Mapping[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
"""How every kernel is compiled: free of the interpreter's lock (see `kernels.threads`), dividing
as torch divides. Never with fastmath: a kernel rounds where the reference rounds."""

_LOADING = threading.RLock()


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


def load_source(source: str, comment: str = "") -> ModuleType:
    """Import generated source from the cache, where compiled code is kept from run to run.

    Where the cache cannot be written, the code lives as long as the process; where compiled code
    cannot be read, it is compiled again. Threads that ask for one module get it once.

    Args:
        source: a module; it finds its compiler as any module does.
        comment: lines that stand above it in the file, for whoever reads it. They are no part of
            what is compiled: the same code for another unit is the same file, whose comment is that
            of the unit that was first.
    """
    name = "spikeloom_kernel_" + hashlib.sha256((_built_on() + source).encode()).hexdigest()[:20]
    # one at a time: numba compiles while the module is imported, and two threads that meet in a
    # half-imported module would see its body missing
    with _LOADING:
        if name in sys.modules:
            return sys.modules[name]
        path = kernel_cache() / f"{name}.py"
        try:
            _write(path, source, comment)
        except OSError:
            path = _own_folder() / f"{name}.py"
            _write(path, source, comment)
        try:
            return _imported(name, path)
        except Exception:
            kept = list((path.parent / "__pycache__").glob(f"{name}.*"))
            if not kept:
                raise
            for file in kept:
                file.unlink(missing_ok=True)
            return _imported(name, path)


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@functools.cache
def _built_on() -> str:
    """Return what generated code is compiled together with: another text is another kernel.

    Numba sees changes of the generated file alone, not of the helpers that it inlines from
    `kernels/_*_numba.py`; their text must therefore be part of the file's name.
    """
    helpers = sorted(Path(__file__).parents[1].glob("_*_numba.py"))
    assert helpers, "the helpers of generated code have moved"
    return "".join([str(dict(OPTIONS)), *(path.read_text("utf-8") for path in helpers)])


@functools.cache
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="spikeloom-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _write(path: Path, source: str, comment: str) -> None:
    """Write a file whole or not at all; one that is right keeps its date, and its compiled code.

    The compiler knows its own results by the date of the file and by numbers of lines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and _code(path) == source.encode():
        return
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False, suffix=".tmp") as file:
        file.write((comment + source).encode())
    Path(file.name).replace(path)


def _code(path: Path) -> bytes:
    """Return what a file holds below its comment."""
    lines = path.read_bytes().splitlines(keepends=True)
    first = next((k for k, line in enumerate(lines) if not line.startswith(b"#")), len(lines))
    return b"".join(lines[first:])
