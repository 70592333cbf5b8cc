"""Registries: classes found by name, each registered in its own file."""

import importlib
import importlib.util
import logging
import pkgutil
import sys
import weakref
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
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
    package, and of folders in it that have an ``__init__.py``, then the entry points of other
    packages in the group ``spikeloom.<folder>``. Names with a leading underscore are left out. So a
    new member is one new file. A plug-in that raises an error during its import is reported in one
    warning; what it has registered is removed again.

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

    def names_in(self, module: str) -> tuple[str, ...]:
        """Return the names that a module has registered, sorted."""
        return tuple(name for name in self.names() if self._homes[name] == module)

    def find(self, name: str, where: str | None = None) -> T:
        """Return the member called `name`.

        Raises:
            ConfigError: there is none; the message suggests the nearest name.
        """
        self._load()
        if name not in self._members:
            file = f"run spikeloom --plugin {name} ... and write the name that it registers"
            todo = file if name.endswith(".py") else ""
            raise unknown_name(where or self.package, self.kind, name, self._members, todo)
        return self._members[name]

    @classmethod
    def load_all(cls) -> None:
        """Load every family that there is by now."""
        for family in list(cls._all):
            family._load()

    def _load(self) -> None:
        if self._loaded:
            return
        _import_folder(self.package)
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


def _import_folder(package: str) -> None:
    """Import the files of a folder and of the folders in it, private ones excepted."""
    folder = importlib.import_module(package)
    for module in pkgutil.iter_modules(folder.__path__):
        if not module.name.startswith("_"):
            take = _import_folder if module.ispkg else importlib.import_module
            take(f"{package}.{module.name}")


def import_file(path: Path, where: str) -> str:
    """Import a Python file of the user's and return its module's name.

    Its code runs, with the modules beside it in reach. A file that is imported already, as those
    of this library are, is not run again.

    Args:
        path: of the file.
        where: who asks, for messages.

    Raises:
        ConfigError: no such file, or one that cannot be imported.
    """
    if not path.is_file() or path.suffix != ".py":
        raise ConfigError.of(where, "a Python file", f"'{path}'", "correct the path")
    for name, module in list(sys.modules.items()):
        known = Path(getattr(module, "__file__", None) or "")
        if known.name == path.name and known.resolve() == path.resolve():
            return name
    Registry.load_all()  # the library's own names come first
    spec = importlib.util.spec_from_file_location(f"_file_{path.stem}", path.resolve())
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(
        spec
    )  # dataclasses look there
    sys.path.insert(0, folder := str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as fault:
        del sys.modules[spec.name]
        came = f"{type(fault).__name__} in '{path}': {fault}"
        raise ConfigError.of(where, "a file that can be imported", came, "correct it") from None
    finally:
        sys.path.remove(folder)
    return spec.name
