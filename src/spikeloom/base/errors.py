"""Errors a user can cause, and how they are worded.

Every message reads ``path: what was expected, what came; what to do``.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Self

LONGEST = 2000
"""Characters of a message; what a user gave may be longer than anybody reads."""

LONGEST_WORD = 300
"""Characters of a word in it."""

LONGEST_CAUSE = 160
"""Characters of another library's error that are quoted."""


class SpikeloomError(ValueError):
    r"""Root of all errors caused by input; the command line turns it into one line and exit 2.

    Messages quote what came. Line breaks and control characters in it are shown as escapes, and
    the middle of very long words and messages is left out. Errors built with `of` carry the parts
    of their line for whoever reads them: a command, a sweep, a test.

    Args:
        message: the line, ``path: what was expected, what came; what to do.``
        path: address of the wrong value, at the head of the line: its TOML path where it stands in
            a recipe (stages.0.rule.k_steps), else the object and its field (rules.sltt.k_steps).
        expected, came, todo: the other parts; empty where the line was given as plain text.
        source: where the path stands, in front of it: a file, an entry, an option.

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
        """Build the error from the parts of its line.

        Args:
            path: address of the wrong value, or the file.
            expected: what should stand there.
            came: what stands there, as the message shows it; "found ..." after a search.
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
        """Build the error for what the system, or a reader of files, refused with `cause`."""
        words = " ".join(str(cause).split())[:LONGEST_CAUSE] or type(cause).__name__
        return cls.of(path, expected, f"'{getattr(cause, 'strerror', None) or words}'", todo)

    def parts(self) -> dict[str, str]:
        """Return the arguments that make an equal error, also of another class."""
        names = ("path", "expected", "came", "todo", "source")
        return {"message": self._line} | {name: getattr(self, name) for name in names}

    def within(self, source: str) -> "SpikeloomError":
        """Return the error with `source`, a file or an entry, in front of its path."""
        return self._like(self._line, self.path, f"{source}: {self.source}".removesuffix(": "))

    def moved(self, old: str, new: str) -> "SpikeloomError":
        """Return the error with `new` for the part `old` of its address; itself where it has none.

        This is how what an object says of its own field becomes the path at which a recipe sets it.
        With a dot at the end `old` stands for what lies below it only.
        """
        heads = (old,) if old.endswith(".") else (f"{old}.", f"{old}:")
        if not self._line.startswith(heads):
            return self
        path = new + self.path.removeprefix(old) if self.path.startswith(old) else self.path
        return self._like(new + self._line.removeprefix(old), path, self.source)

    def under(self, table: str) -> "SpikeloomError":
        """Return the error of a part of a table with the table's path before its own."""
        path = f"{table}.{self.path}".strip(".")
        return self._like(path + self._line.removeprefix(self.path), path, self.source)

    def adding(self, sentence: str) -> "SpikeloomError":
        """Return the error with a sentence more at the end; itself for an empty one."""
        line = f"{self._line} {sentence}" if sentence else self._line
        return self._like(line, self.path, self.source)

    def starts_with(self, path: str) -> bool:
        """Whether the address is `path` or lies below it."""
        return self._line.startswith((f"{path}.", f"{path}:"))

    def _like(self, line: str, path: str, source: str) -> "SpikeloomError":
        """Return an error of the same class with another head, whatever its constructor takes."""
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
    """Let errors of a kind raised inside speak of `new` where they speak of `old`: see `moved`."""
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
    """A data file is missing, damaged or holds something else than promised."""


class NumericalError(SpikeloomError):
    """A value stopped being finite."""


class Hint(UserWarning):
    """A setting is right as it stands, and may not be what was meant."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A run was asked to stop and saved itself; the message says how to go on."""


_TOO_BIG = re.compile("memory|bad_alloc|Storage size|Overflow when unpacking")
"""How torch says that a tensor does not fit."""


def too_big(error: BaseException) -> ConfigError | None:
    """Return the error to report for one for want of memory, None for any other error."""
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
    """Build the error for a value that is none of a few, with the nearest of them.

    Args:
        where: it was given.
        value: that came.
        known: the valid values, in the order they are named.
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
    """Build the error for a name that is not in a list, with the nearest known name.

    Args:
        where: it was given.
        kind: what it should name.
        name: that came.
        known: the names there are.
        todo: what to write in its place, where that is known.

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
