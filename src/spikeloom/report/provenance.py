"""What a table was made with: command, commit, processor, versions."""

from collections import Counter
from collections.abc import Mapping, Sequence

from spikeloom.records.run import EnvironmentRecord, RunRecord

_NAMED = ("torch", "numpy")
"""Packages named beside spikeloom."""


def made_with(runs: Sequence[RunRecord], command: str | None = None) -> list[str]:
    """Return lines that say by what and on what runs were made; older records say less.

    Args:
        runs: records of finished runs.
        command: that made them.
    """
    texts = Counter(_environment(run.environment or EnvironmentRecord()) for run in runs)
    lines = [f"made by: {command}"] if command else []
    for text, count in texts.items():
        of = "" if count == len(runs) else f" ({count} of {len(runs)} runs)"
        lines += [f"made with{of}: {text}"] if text else []
    return lines


def _environment(record: EnvironmentRecord) -> str:
    packages = record.packages
    own = _version(packages, "spikeloom")
    at = f"commit {record.commit}" if record.commit else ""
    count = record.threads
    threads = f"{count} thread{'s' * (count != 1)}" if count else ""
    parts = [
        " at ".join(filter(None, (own, at))),
        record.gpu or record.processor,
        threads,
        record.system,
        f"Python {record.python}" if record.python else "",
        *(_version(packages, name) for name in _NAMED),
        record.kernels,
    ]
    return ", ".join(part for part in parts if part)


def _version(packages: Mapping[str, str | None], name: str) -> str:
    version = packages.get(name)
    return f"{name} {version}" if version else ""
