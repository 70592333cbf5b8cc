"""Public names that are imported when they are first asked for."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
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


class _Moved(ModuleType):
    """A module at its old address: what is asked of it comes from the new one."""

    def __init__(self, address: str, home: str) -> None:
        super().__init__(address, f"Moved to `{home}`.")
        self._home = home

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for more than modules have
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        return getattr(import_module(self._home), name)


def moved(package: str, homes: Mapping[str, str]) -> None:
    """Keep old addresses of modules, so that code written before still finds its names.

    Args:
        package: where the modules were.
        homes: module of spikeloom where each is now, by its old name in the package.

    Example:
        >>> moved("spikeloom.base", {"example_of_old": "base.errors"})
        >>> from spikeloom.base.example_of_old import ConfigError
        >>> ConfigError.__module__
        'spikeloom.base.errors'
    """
    for name, home in homes.items():
        address = f"{package}.{name}"
        sys.modules.setdefault(address, _Moved(address, f"spikeloom.{home}"))
