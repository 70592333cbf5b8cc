"""Reads TOML from any source; texts that would take very long are refused."""

import re
import tomllib
from typing import Any

LONGEST = 2**20
"""Most characters of a TOML text; a recipe has a few thousand."""

DEEPEST = 64
"""Most parts of a dotted key; the time that tomllib takes grows with their square."""

LARGEST_WHOLE = 2**63 - 1
"""Largest accepted integer: TOML requires 64 bits."""

_WORD = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_TOO_DEEP = re.compile(rf"(?<![\w-])(?:{_WORD}[ \t]*+\.[ \t]*+){{{DEEPEST}}}")


class TomlError(ValueError):
    """A text is no valid TOML or exceeds a limit; the message says why in a few words."""


class NoToml(TomlError):
    """A text is no valid TOML."""


def read(text: str) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises:
        NoToml: it is not valid.
        TomlError: it is too long, nested too deeply, or has integers of more than 64 bits or keys
            of too many parts.
    """
    if len(text) > LONGEST:
        raise TomlError(f"a text of {len(text)} characters, more than {LONGEST}")
    if _TOO_DEEP.search(text):
        raise TomlError(f"a key of {DEEPEST} parts or more")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NoToml(str(error)) from None
    except RecursionError:
        raise TomlError("tables or lists in hundreds of levels") from None
    except ValueError:  # Python refuses to read integers of several thousand digits
        raise TomlError("a number of thousands of digits") from None
    _check_numbers(table)
    return table


def _check_numbers(value: Any) -> None:
    if isinstance(value, dict):
        for part in value.values():
            _check_numbers(part)
    elif isinstance(value, list):
        for part in value:
            _check_numbers(part)
    elif isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise TomlError("a whole number of more than 64 bits")
