"""What a figure was made with: the commit of this library and the processor."""

import platform
import subprocess
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve()


@cache
def commit() -> str | None:
    """Return the commit this library's files are at; None where they lie in no git checkout.

    "+" behind it says that tracked files were changed since. A checkout of something else around
    an installed copy does not count.
    """
    if _git("ls-files", "--error-unmatch", str(_HERE)) is None:
        return None
    head = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", str(_HERE.parents[1]))
    return None if head is None else head + "+" * bool(changed)


def cpuinfo() -> dict[str, str]:
    """Return the first processor's entries; none where the system does not list them."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text("utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def processor() -> str:
    """Return the processor's name, its architecture where it has none."""
    return cpuinfo().get("model name") or platform.processor() or platform.machine()


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_HERE.parent), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
