"""Public names that are imported when they are first asked for."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package whose names live in its modules.

    So the command answers `--help` without loading torch.

    Args:
        package: its name.
        homes: module of spikeloom by public name, such as ``program.recipe``.

    Raises:
        AttributeError: on use, for a name that is not among them.

    Example:
        >>> lazily("spikeloom", {"ConfigError": "base.errors"})("ConfigError").__name__
        'ConfigError'
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"spikeloom.{homes[name]}"), name)

    return find
