"""Rules to check: registered ones by name, a user's own by file."""

from pathlib import Path

from spikeloom.base.errors import ConfigError, unknown_name
from spikeloom.base.registry import import_file
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
        names = _registered(Path(what))
    elif what in RULES.names():
        names = (what,)
    elif Path(f"{what}.py").is_file():
        came, todo = f"'{what}', which is no rule", f"for the file write ./{what}.py"
        raise ConfigError.of(WHERE, "the name of a rule or a file", came, todo)
    else:
        raise unknown_name(WHERE, "learning rule", what, RULES.names())
    return [case for name in names for case in cases_of(name, RULES.find(name))]


def _registered(path: Path) -> tuple[str, ...]:
    """Import a file and return the names of the rules it registers."""
    names = RULES.names_in(import_file(path, WHERE))
    if not names:
        raise ConfigError.of(
            WHERE,
            "a file that registers a rule",
            f"none in '{path}'",
            'put @RULES.register("name") before its class',
        )
    return names
