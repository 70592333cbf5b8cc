"""Rules to check: registered ones by name, a user's own by file."""

import importlib.util
import sys
from pathlib import Path

from spikeloom.base.errors import ConfigError, unknown_name
from spikeloom.check.toy import Case, cases_of
from spikeloom.rules.base import RULES

WHERE = "check rule"


def find_cases(what: str) -> list[Case]:
    """Return what to check of a registered rule, or of the rules that a file registers.

    A file is imported: its code runs.

    Args:
        what: name of a rule, or path of a Python file.

    Raises:
        ConfigError: no such rule or file, a file that cannot be imported or registers nothing.
    """
    if what.endswith(".py") or "/" in what or "\\" in what:
        names = _register(Path(what))
    elif what in RULES.names():
        names = [what]
    elif Path(f"{what}.py").is_file():
        came, todo = f"'{what}', which is no rule", f"for the file write ./{what}.py"
        raise ConfigError.of(WHERE, "the name of a rule or a file", came, todo)
    else:
        raise unknown_name(WHERE, "learning rule", what, RULES.names())
    return [case for name in names for case in cases_of(name, RULES.find(name))]


def _register(path: Path) -> list[str]:
    """Import a file and return the names of the rules it registers."""
    if not path.is_file() or path.suffix != ".py":
        raise ConfigError.of(WHERE, "a Python file", f"'{path}'", "correct the path")
    known = set(RULES.names())
    own = importlib.util.find_spec("spikeloom.rules")
    folders = own.submodule_search_locations if own else None
    if folders and path.parent.resolve() in [Path(folder).resolve() for folder in folders]:
        # a file of the package itself is registered by now
        module = f"spikeloom.rules.{path.stem}"
        names = [name for name in known if RULES.find(name).__module__ == module]
    else:
        _import(path)
        names = list(set(RULES.names()) - known)
    if not names:
        todo = 'put @RULES.register("name") before its class'
        raise ConfigError.of(WHERE, "a file that registers a rule", f"none in '{path}'", todo)
    return sorted(names)


def _import(path: Path) -> None:
    folder = str(path.parent.resolve())
    spec = importlib.util.spec_from_file_location(f"_checked_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, folder)  # for modules beside the file
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as fault:
        del sys.modules[spec.name]
        came = f"{type(fault).__name__} in '{path}': {fault}"
        raise ConfigError.of(WHERE, "a file that can be imported", came, "correct it") from None
    finally:
        sys.path.remove(folder)
