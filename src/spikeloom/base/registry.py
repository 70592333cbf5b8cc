"""Registries: a family of things found by name, one file each, no list to edit."""

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
"""Plug-ins that raised: each is named once, also where several families look into its group."""


class Registry(Generic[T]):
    """Names of one family, filled by decorator.

    The first lookup imports every file of the family's folder, and of folders in it, whose name
    has no leading underscore, then the entry points of the group ``spikeloom.<folder>``, so a new
    member is one new file here or in another package. A plug-in that raises while it is imported,
    whatever it raises, is named in one warning and left out with all it had registered.

    Args:
        kind: what a member is called in messages, e.g. "learning rule".
        package: dotted name of the folder (pass ``__package__``).
        needs: what every member must have; another library's is refused where it is registered,
            not where it is used.
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
        """Return a decorator that files its object under `name`.

        Raises:
            ValueError: the name is taken by another object.
            ConfigError: the object lacks something that every member needs.
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
            ConfigError: no such member; the message names the nearest.
        """
        self._load()
        if name not in self._members:
            raise unknown_name(where or self.package, self.kind, name, self._members)
        return self._members[name]

    def _load(self) -> None:
        if self._loaded:
            return
        _import_below(self.package)
        for point in entry_points(group=self.package):
            self._plug_in(point)
        self._loaded = True

    def _plug_in(self, point: EntryPoint) -> None:
        """Load an entry point; one that raises leaves nothing behind but a warning."""
        value = str(getattr(point, "value", point))
        if value in _failed:
            return
        before = {family: set(family._members) for family in self._all}
        try:
            point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a SystemExit of somebody's module is no reason to end
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


def _import_below(package: str) -> None:
    """Import a package's modules and sub-packages, but for names with a leading underscore."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if not module.name.startswith("_"):
            name = f"{package}.{module.name}"
            if module.ispkg:
                _import_below(name)
            else:
                importlib.import_module(name)
