"""Errors that users can cause; every message has the form ``path: expected, came; what to do``."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Self

LONGEST = 2000
"""Most characters of a message, since a quoted value may have any length."""

LONGEST_WORD = 300
"""Most characters of a word in a message."""

LONGEST_CAUSE = 160
"""Most characters that are quoted of another library's error."""


class SpikeloomError(ValueError):
    r"""Base of all errors caused by input; the command line prints it in one line, exit code 2.

    Messages quote the wrong value. Line breaks and control characters in it are escaped, and the
    middle of very long words and messages is left out. Use `of` to build an error: it keeps the
    parts of the message as attributes, for commands, sweeps and tests.

    Args:
        message: the line, ``path: expected ..., got ...; what to do.``
        path: of the wrong value: its TOML path in a recipe (stages.0.rule.k_steps), else object and
            field (rules.sltt.k_steps).
        expected, came, todo: the other parts; empty if only a message was given.
        source: of the path, printed in front of it: a file, an entry, an option.

    Example:
        >>> print(SpikeloomError("net: got 'a\nb'; fix it."))
        net: got 'a\nb'; fix it.
        >>> error = ConfigError.of("rules.sltt.k_steps", "1 or more", "0")
        >>> print(error)
        rules.sltt.k_steps: expected 1 or more, got 0; change it.
        >>> error.path, error.expected, error.came, error.todo
        ('rules.sltt.k_steps', '1 or more', '0', 'change it')
        >>> print(error.moved("rules.sltt", "stages.0.rule").within("demo.toml"))
        demo.toml: stages.0.rule.k_steps: expected 1 or more, got 0; change it.
    """

    def __init__(
        self,
        message: object,
        *,
        path: str = "",
        expected: str = "",
        came: str = "",
        todo: str = "",
        source: str = "",
    ) -> None:
        self.path, self.expected, self.came, self.todo = path, expected, came, todo
        self.source = source
        self._line = _shortened(str(message), 10 * LONGEST)  # what is never shown is not looked at
        joint = ": " if source and not self._line.startswith(":") else ""  # no path: a whole file
        super().__init__(_printable(f"{source}{joint}{self._line}"))

    @classmethod
    def of(cls, path: object, expected: str, came: object, todo: str = "change it") -> Self:
        """Build the error from the parts of its message.

        Args:
            path: of the wrong value, or a file.
            expected: the right values, in words.
            came: the wrong value, as the message shows it; after a search "found ...".
            todo: what to do.
        """
        todo = todo.removesuffix(".")
        end = "" if todo.endswith("?") else "."
        verb, came = (
            ("found", str(came)[6:]) if str(came).startswith("found ") else ("got", str(came))
        )
        line = f"{path}: expected {expected}, {verb} {came}; {todo}{end}"
        return cls(line, path=str(path), expected=expected, came=came, todo=todo)

    @classmethod
    def caused(cls, path: object, expected: str, cause: object, todo: str) -> Self:
        """Build the error for an exception `cause` of the system or of another library."""
        words = " ".join(str(cause).split())[:LONGEST_CAUSE] or type(cause).__name__
        return cls.of(path, expected, f"'{getattr(cause, 'strerror', None) or words}'", todo)

    def parts(self) -> dict[str, str]:
        """Return the constructor arguments of this error, to build one of another class."""
        names = ("path", "expected", "came", "todo", "source")
        return {"message": self._line} | {name: getattr(self, name) for name in names}

    def within(self, source: str) -> "SpikeloomError":
        """Return the error with `source` (a file, an entry) in front of its path."""
        return self._like(self._line, self.path, f"{source}: {self.source}".removesuffix(": "))

    def moved(self, old: str, new: str) -> "SpikeloomError":
        """Return the error with the head `old` of its path replaced by `new`.

        It turns the path of an object's field (rules.sltt.k_steps) into the path at which a recipe
        sets it. If the path does not begin with `old`, the error is returned as it is. An `old`
        with a dot at its end matches only paths below it.
        """
        heads = (old,) if old.endswith(".") else (f"{old}.", f"{old}:")
        if not self._line.startswith(heads):
            return self
        path = new + self.path.removeprefix(old) if self.path.startswith(old) else self.path
        return self._like(new + self._line.removeprefix(old), path, self.source)

    def under(self, table: str) -> "SpikeloomError":
        """Return the error with the path of a table in front of its own path."""
        path = f"{table}.{self.path}".strip(".")
        return self._like(path + self._line.removeprefix(self.path), path, self.source)

    def adding(self, sentence: str) -> "SpikeloomError":
        """Return the error with one more sentence at its end; `sentence` may be empty."""
        line = f"{self._line} {sentence}" if sentence else self._line
        return self._like(line, self.path, self.source)

    def starts_with(self, path: str) -> bool:
        """Whether the path of the error is `path` or lies below it."""
        return self._line.startswith((f"{path}.", f"{path}:"))

    def _like(self, line: str, path: str, source: str) -> "SpikeloomError":
        """Return a copy with another line, path and source, without the subclass's constructor."""
        error = type(self).__new__(type(self))
        error.__dict__.update(self.__dict__)
        changed = {"message": line, "path": path, "source": source}
        SpikeloomError.__init__(error, **(self.parts() | changed))
        return error


def _printable(text: str) -> str:
    """Return one line: control characters as escapes, long words and lines shortened."""
    text = _shortened(text, 10 * LONGEST)
    if not text.isprintable():
        signs = (
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )
        text = "".join(signs)
    words = (_shortened(word, LONGEST_WORD) for word in text.split(" "))
    return _shortened(" ".join(words), LONGEST)


def _shortened(text: str, most: int) -> str:
    """Leave out the middle of a text that is longer than `most`."""
    return text if len(text) <= most else f"{text[: most // 2]}[...]{text[-most // 2 :]}"


@contextmanager
def addressed(old: str, new: str, kind: type[SpikeloomError] = SpikeloomError) -> Iterator[None]:
    """Apply `SpikeloomError.moved` to errors of a kind that are raised inside the block."""
    try:
        yield
    except kind as error:
        raise error.moved(old, new) from None


class ConfigError(SpikeloomError):
    """A setting is unknown, of the wrong type or out of range."""


class ShapeError(SpikeloomError):
    """A tensor has the wrong rank, size, type or device."""


class UnsupportedNet(SpikeloomError):
    """A rule, head or method cannot work with the network it was given."""


class DataError(SpikeloomError):
    """A data file is missing, damaged or has unexpected contents."""


class NumericalError(SpikeloomError):
    """A value is not finite."""


class Hint(UserWarning):
    """A setting is valid but may not be what the user meant."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A run was asked to stop and has saved its state; the message says how to resume it."""


_TOO_BIG = re.compile("memory|bad_alloc|Storage size|Overflow when unpacking")
"""Words in torch's errors about a tensor that does not fit into memory."""


def too_big(error: BaseException) -> ConfigError | None:
    """Return the error to report if `error` is about too little memory, else None."""
    torchs = isinstance(error, (RuntimeError, TypeError)) and _TOO_BIG.search(str(error))
    if not (isinstance(error, MemoryError) or torchs):
        return None
    came = (str(error) or "no memory").splitlines()[0]
    return ConfigError.of(
        "memory", "a run that fits", f"'{came}'", "make net, batch or steps smaller"
    )


def wrong_choice(
    where: str, value: object, known: Iterable[object], todo: str | None = None
) -> ConfigError:
    """Build the error for a value that is not one of a few; it suggests the nearest.

    Args:
        where: path of the value.
        value: the wrong value.
        known: the valid values.
        todo: what to do; None for the usual advice.

    Example:
        >>> wrong_choice("rules.ottt.update", "onlin", ["batch", "online"])
        ConfigError("rules.ottt.update: expected batch or online, got 'onlin'; write 'online'.")
    """
    names = [str(name) for name in known]
    expected = " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"
    close = get_close_matches(str(value), names, n=1) if isinstance(value, str) else []
    usual = f"write '{close[0]}'" if close else "change it"
    return ConfigError.of(where, expected, repr(value), todo or usual)


def unknown_name(
    where: str, kind: str, name: object, known: Iterable[str], todo: str = ""
) -> ConfigError:
    """Build the error for an unknown name; it suggests the nearest known one.

    Args:
        where: path of the name.
        kind: of the thing it should name, e.g. "encoder".
        name: the unknown name.
        known: all names.
        todo: what to write instead, if that is known.

    Example:
        >>> print(unknown_name("encoder", "encoder", "poison", ["constant", "poisson"]))
        encoder: unknown encoder 'poison'; did you mean 'poisson'? known: constant, poisson.
        >>> print(unknown_name("encoder.gain", "key", "gain", []))
        encoder.gain: unknown key 'gain'; there is no key to set here.
    """
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1)
    hint = f"{todo}. Known" if todo else f"did you mean '{close[0]}'? known" if close else "known"
    hint = f"{hint}: {', '.join(names)}" if names else f"there is no {kind} to set here"
    return ConfigError(
        f"{where}: unknown {kind} '{name}'; {hint}.",
        path=where,
        expected=f"one of {', '.join(names)}" if names else f"no {kind}",
        came=f"'{name}'",
        todo=todo or (f"write '{close[0]}'" if close else "change it"),
    )
