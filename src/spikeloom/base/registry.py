"""Registries: classes found by name, each registered in its own file."""

import importlib
import logging
import pkgutil
import sys
import weakref
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Generic, TypeVar, cast

from spikeloom.base.errors import ConfigError, SpikeloomError, unknown_name

T = TypeVar("T")
M = TypeVar("M")

_LOG = logging.getLogger(__name__)

_failed: set[str] = set()
"""Plug-ins that failed to load, so that each is reported once."""


class Registry(Generic[T]):
    """Members of a family by name, e.g. all learning rules.

    Members register themselves with a decorator. The first lookup imports every file of the
    package whose name has no leading underscore, then the entry points of other packages in the
    group ``spikeloom.<folder>``. So a new member is one new file. A plug-in that raises an error
    during its import is reported in one warning; what it has registered is removed again.

    Args:
        kind: what a member is called in messages, e.g. "learning rule".
        package: dotted name of the package with the members.
        needs: attributes that every member must have; checked when it is registered.
    """

    _all: ClassVar["weakref.WeakSet[Registry[Any]]"] = weakref.WeakSet()

    def __init__(self, kind: str, package: str, needs: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.package = package
        self.needs = needs
        self._members: dict[str, T] = {}
        self._homes: dict[str, str] = {}
        self._loaded = False
        self._all.add(self)

    def register(self, name: str) -> Callable[[M], M]:
        """Return a decorator that registers an object under `name`.

        Raises:
            ValueError: the name is taken.
            ConfigError: the object lacks an attribute that every member needs.
        """
        home = sys._getframe(1).f_globals.get("__name__", "")

        def file(member: M) -> M:
            if name in self._members:
                raise ValueError(f"{self.kind} '{name}' is registered twice; choose another name.")
            lacking = [need for need in self.needs if not hasattr(member, need)]
            if lacking:
                raise ConfigError.of(
                    f"{self.kind} '{name}'",
                    ", ".join(self.needs),
                    f"{member!r} without {', '.join(lacking)}",
                    "give it what is missing",
                )
            self._members[name] = cast(T, member)
            self._homes[name] = home
            return member

        return file

    def names(self) -> tuple[str, ...]:
        """Return all known names, sorted."""
        self._load()
        return tuple(sorted(self._members))

    def find(self, name: str, where: str | None = None) -> T:
        """Return the member called `name`.

        Raises:
            ConfigError: there is none; the message suggests the nearest name.
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
            self._plug_in(point)
        self._loaded = True

    def _plug_in(self, point: EntryPoint) -> None:
        """Load an entry point; if it fails, remove what it has registered and warn."""
        value = str(getattr(point, "value", point))
        if value in _failed:
            return
        before = {family: set(family._members) for family in self._all}
        try:
            point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also a SystemExit: a plug-in must not end the program
            _failed.add(value)
            root = value.partition(":")[0].partition(".")[0]
            for family in list(self._all):
                for name in set(family._members) - before.get(family, set()):
                    if family._homes[name].partition(".")[0] == root:
                        del family._members[name], family._homes[name]
            came = f"{type(error).__name__}: {error}".rstrip(": ")
            line = SpikeloomError.of(
                f"plug-in '{value}' of {self.package}",
                "an import without errors",
                f"'{' '.join(came.split())}'",
                "it is left out; repair or remove it",
            )
            _LOG.warning("%s", line)
