"""Reads docstrings: descriptions of options and equations, for listings and comments."""

import inspect
import re
from typing import Any


def documented(kind: Any) -> dict[str, str]:
    """Return the descriptions under ``Args:`` in the docstring of a class or function, by name.

    Base classes are included; the description of a derived class wins. Marks of code and
    mathematics are removed.

    Args:
        kind: class or function.

    Example:
        >>> documented(documented)["kind"]
        'class or function.'
    """
    found: dict[str, str] = {}
    for one in inspect.getmro(kind)[::-1] if inspect.isclass(kind) else (kind,):
        text = inspect.cleandoc(one.__doc__ or "") + "\n"
        args = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        lines = re.findall(
            r"^    (\w[\w, ]*): (.*?)(?=^    \w|\Z)",
            args[1] if args else "",
            re.MULTILINE | re.DOTALL,
        )
        for names, about in lines:
            found |= dict.fromkeys(names.split(", "), plain(" ".join(about.split())))
    return found


def equations(kind: type) -> list[str]:
    r"""Return the lines of the equations in the docstrings of a class and its bases.

    Args:
        kind: class.

    Example:
        >>> class Leak:
        ...     '''A leak.
        ...
        ...     .. math:: v[t] = a v[t-1] + c[t]
        ...     '''
        >>> equations(Leak)
        ['v[t] = a v[t-1] + c[t]']
    """
    found: list[str] = []
    for one in inspect.getmro(kind):
        text = inspect.cleandoc(vars(one).get("__doc__") or "")
        for block in re.findall(r"^\.\. math::(.*?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL):
            found += [line.strip() for line in block.splitlines() if line.strip()]
    return found


def plain(text: str) -> str:
    """Remove the marks of inline mathematics and code."""
    text = re.sub(r":math:`([^`]*)`", r"\1", text).replace("`", "")
    return re.sub(r"\\(\w+)", r"\1", text)


def first_line(thing: object) -> str:
    """Return the first line of a docstring."""
    return plain((inspect.getdoc(thing) or "").partition("\n")[0])
