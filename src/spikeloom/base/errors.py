"""Errors a user can cause, and how they are worded.

Every message reads ``where: what was expected, what came; what to do``.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 2000
"""Characters of a message; what a user gave may be longer than anybody reads."""

LONGEST_WORD = 300
"""Characters without a blank, likewise."""


class SpikeloomError(ValueError):
    r"""Root of all errors caused by input; the command line turns it into one line and exit 2.

    Messages quote what came. Line breaks and control characters in it are shown as escapes, and
    the middle of very long words and messages is left out.

    Example:
        >>> print(SpikeloomError("net: got 'a\nb'; fix it."))
        net: got 'a\nb'; fix it.
    """

    def __init__(self, message: object) -> None:
        text = _shortened(str(message), 10 * LONGEST)  # what is never shown is not looked at
        signs = (
            sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
        )
        words = (_shortened(word, LONGEST_WORD) for word in "".join(signs).split(" "))
        super().__init__(_shortened(" ".join(words), LONGEST))


def _shortened(text: str, most: int) -> str:
    """Leave out the middle of a text that is longer than `most`."""
    return text if len(text) <= most else f"{text[: most // 2]}[...]{text[-most // 2 :]}"


class ConfigError(SpikeloomError):
    """A setting is unknown, of the wrong type or out of range."""


class ShapeError(SpikeloomError):
    """A tensor has the wrong rank, size, type or device."""


class UnsupportedNet(SpikeloomError):
    """A rule, head or method cannot work with the network it was given."""


class DataError(SpikeloomError):
    """A data file is missing, damaged or holds something else than promised."""


class NumericalError(SpikeloomError):
    """A value stopped being finite."""


class Hint(UserWarning):
    """A setting is right as it stands, and may not be what was meant."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A run was asked to stop and saved itself; the message says how to go on."""


_TOO_BIG = re.compile("memory|bad_alloc|Storage size|Overflow when unpacking")
"""How torch says that a tensor does not fit."""


def too_big(error: BaseException) -> str | None:
    """Return one line about an error for want of memory, None for any other error."""
    torchs = isinstance(error, (RuntimeError, TypeError)) and _TOO_BIG.search(str(error))
    if not (isinstance(error, MemoryError) or torchs):
        return None
    came = (str(error) or "no memory").splitlines()[0]
    return f"memory: expected a run that fits, got '{came}'; make net, batch or steps smaller."


def wrong_choice(
    where: str, value: object, known: Iterable[object], todo: str | None = None
) -> ConfigError:
    """Build the error for a value that is none of a few, with the nearest of them.

    Args:
        where: it was given.
        value: that came.
        known: the values that serve, in the order they are named.
        todo: what to do; None for the usual advice.

    Example:
        >>> wrong_choice("rules.ottt.update", "onlin", ["batch", "online"])
        ConfigError("rules.ottt.update: expected batch or online, got 'onlin'; write 'online'.")
    """
    names = [str(name) for name in known]
    expected = " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"
    close = get_close_matches(str(value), names, n=1) if isinstance(value, str) else []
    usual = f"write '{close[0]}'" if close else "change it"
    return ConfigError(f"{where}: expected {expected}, got {value!r}; {todo or usual}.")


def unknown_name(where: str, kind: str, name: object, known: Iterable[str]) -> ConfigError:
    """Build the error for a name that is not in a list, with the nearest known name."""
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return ConfigError(f"{where}: unknown {kind} '{name}'; {hint}known: {', '.join(names)}.")
