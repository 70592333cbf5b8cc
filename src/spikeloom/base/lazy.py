"""Lazy imports of public names, and old addresses of moved modules."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package that imports each public name at its first use.

    So the command answers `--help` without loading torch.

    Args:
        package: its name.
        homes: for each public name the module of spikeloom that has it, e.g. ``program.recipe``.

    Raises:
        AttributeError: on use, for an unknown name.

    Example:
        >>> lazily("spikeloom", {"ConfigError": "base.errors"})("ConfigError").__name__
        'ConfigError'
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"spikeloom.{homes[name]}"), name)

    return find


class _Moved(ModuleType):
    """Stands at the old address of a module and takes all names from the new one."""

    def __init__(self, address: str, home: str) -> None:
        super().__init__(address, f"Moved to `{home}`.")
        self._home = home

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system also asks for names that no module has
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        return getattr(import_module(self._home), name)


def moved(package: str, homes: Mapping[str, str]) -> None:
    """Keep the old addresses of modules importable.

    Args:
        package: that had the modules.
        homes: for each old module name the module of spikeloom that has its names now.

    Example:
        >>> moved("spikeloom.base", {"example_of_old": "base.errors"})
        >>> from spikeloom.base.example_of_old import ConfigError
        >>> ConfigError.__module__
        'spikeloom.base.errors'
    """
    for name, home in homes.items():
        address = f"{package}.{name}"
        sys.modules.setdefault(address, _Moved(address, f"spikeloom.{home}"))
