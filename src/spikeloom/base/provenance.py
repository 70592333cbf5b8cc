"""Commit of this library and name of the processor, for the records of runs."""

import platform
import subprocess
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve()


@cache
def commit() -> str | None:
    """Return the git commit of this library's files; None if they are in no checkout of it.

    A "+" at the end says that tracked files have changed since. An installed copy inside the
    checkout of another project has no commit.
    """
    if _git("ls-files", "--error-unmatch", str(_HERE)) is None:
        return None
    head = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", str(_HERE.parents[1]))
    return None if head is None else head + "+" * bool(changed)


def cpuinfo() -> dict[str, str]:
    """Return the entries of the first processor; {} if there is no /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text("utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def processor() -> str:
    """Return the name of the processor, or its architecture if it has none."""
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
