"""What a table was made with: command, commit, processor, versions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]

_NAMED = ("torch", "numpy")
"""Packages named beside spikeloom."""


def made_with(runs: Sequence[Record], command: str | None = None) -> list[str]:
    """Return lines that say by what and on what runs were made; older records say less.

    Args:
        runs: records of finished runs.
        command: that made them.
    """
    texts = Counter(_environment(run.get("environment") or {}) for run in runs)
    lines = [f"made by: {command}"] if command else []
    for text, count in texts.items():
        of = "" if count == len(runs) else f" ({count} of {len(runs)} runs)"
        lines += [f"made with{of}: {text}"] if text else []
    return lines


def _environment(record: Record) -> str:
    packages = record.get("packages") or {}
    own = f"spikeloom {packages['spikeloom']}" if packages.get("spikeloom") else ""
    at = f"commit {record['commit']}" if record.get("commit") else ""
    count = record.get("threads")
    threads = f"{count} thread{'s' * (count != 1)}" if count else ""
    parts = [
        " at ".join(filter(None, (own, at))),
        record.get("gpu") or record.get("processor"),
        threads,
        record.get("system"),
        f"Python {record['python']}" if record.get("python") else "",
        *(f"{name} {packages[name]}" for name in _NAMED if packages.get(name)),
        record.get("kernels"),
    ]
    return ", ".join(part for part in parts if part)
