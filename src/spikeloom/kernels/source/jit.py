"""The compiler: numba where it is installed and works; without it there are no kernels."""

import atexit
import functools
import hashlib
import importlib
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
"""How every kernel is compiled.

`nogil`: several threads run a kernel at once (`kernels.threads`). `error_model`: division by zero
gives inf or NaN, as in torch. Never `fastmath`: a kernel must round where the reference rounds.
"""

# One at a time: numba compiles while a module is imported, and a second thread would find the
# half-imported module without its body.
_LOADING = threading.RLock()


@functools.cache
def numba() -> ModuleType | None:
    """Return numba, or None where it is missing or cannot be loaded."""
    if os.environ.get("SPIKELOOM_KERNELS", "auto") == "reference":
        return None
    try:
        import numba as found
    except Exception:  # e.g. a numba that does not fit numpy; the kind of error is not specified
        return None
    return found


def helpers(name: str) -> ModuleType | None:
    """Return the compiled loops of `kernels._<name>_numba`; None without a compiler."""
    return None if numba() is None else importlib.import_module(f"spikeloom.kernels._{name}_numba")


def compiler() -> str:
    """Return the compiler's name and version, or "reference" where there is none."""
    found = numba()
    return "reference" if found is None else f"numba {found.__version__}"


def kernel_cache() -> Path:
    """Return the folder of generated kernels: in $XDG_CACHE_HOME, else in ~/.cache.

    Files in it are executed, so it is the user's own folder and never one of shared data.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spikeloom-kernels"


def load_source(source: str, comment: str = "") -> ModuleType:
    """Write generated source into the cache and import it; numba keeps its compiled code there.

    If the cache cannot be written, a temporary folder is used instead. If compiled code in the
    cache cannot be read, it is deleted and compiled again.

    Args:
        source: text of a module.
        comment: lines above it in the file, for readers. They are not part of its name: units with
            the same code share one file, which has the comment of the first of them.
    """
    name = "spikeloom_kernel_" + hashlib.sha256((_built_on() + source).encode()).hexdigest()[:20]
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
    paths = sorted(Path(__file__).parents[1].glob("_*_numba.py"))
    assert paths, "the helpers of generated code have moved"
    return "".join([str(dict(OPTIONS)), *(path.read_text("utf-8") for path in paths)])


@functools.cache
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="spikeloom-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _write(path: Path, source: str, comment: str) -> None:
    """Write a file as a whole, unless it has this source already.

    A file that is right is not touched: numba identifies its compiled code by the file's date. A
    new one replaces the old one at once, since other processes may be reading it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and _code(path) == source.encode():
        return
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False, suffix=".tmp") as file:
        file.write((comment + source).encode())
    Path(file.name).replace(path)


def _code(path: Path) -> bytes:
    """Return the contents of a file below its comment."""
    lines = path.read_bytes().splitlines(keepends=True)
    first = next((k for k, line in enumerate(lines) if not line.startswith(b"#")), len(lines))
    return b"".join(lines[first:])
