"""Registries: a family of things found by name, one file each, no list to edit."""

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from spikeloom.base.errors import unknown_name

T = TypeVar("T")
M = TypeVar("M")


class Registry(Generic[T]):
    """Names of one family, filled by decorator.

    The first lookup imports every file of the family's folder whose name has no leading
    underscore, then the entry points of the group ``spikeloom.<folder>``, so a new member is one
    new file here or in another package.

    Args:
        kind: what a member is called in messages, e.g. "learning rule".
        package: dotted name of the folder (pass ``__package__``).
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._members: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[M], M]:
        """Return a decorator that files its object under `name`.

        Raises:
            ValueError: the name is taken by another object.
        """

        def file(member: M) -> M:
            if name in self._members:
                raise ValueError(f"{self.kind} '{name}' is registered twice; choose another name.")
            self._members[name] = cast(T, member)
            return member

        return file

    def names(self) -> tuple[str, ...]:
        """Return all known names, sorted."""
        self._load()
        return tuple(sorted(self._members))

    def find(self, name: str, where: str | None = None) -> T:
        """Return the member called `name`.

        Raises:
            ConfigError: no such member; the message names the nearest.
        """
        self._load()
        if name not in self._members:
            raise unknown_name(where or self.package, self.kind, name, self._members)
        return self._members[name]

    def _load(self) -> None:
        if self._loaded:
            return
        folder = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(folder.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        for point in entry_points(group=self.package):
            point.load()
        self._loaded = True
