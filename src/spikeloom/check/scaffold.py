"""A new rule to start from: its form is right, its hidden layers do not learn yet."""

import datetime
import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal

from spikeloom.base.errors import ConfigError
from spikeloom.rules.base import RULES

Order = Literal["time", "layer"]
NEW = "new rule"


def in_checkout(folder: Path) -> bool:
    """Return whether a folder is the root of a checkout of the project."""
    return (folder / "src" / "spikeloom" / "rules").is_dir()


def new_rule(
    folder: Path, name: str, *, title: str | None = None, order: Order = "time"
) -> tuple[Path, ...]:
    """Write a rule, its page and its test; return their paths, the rule's first.

    In a checkout of the project they go to their rooms, elsewhere into the folder itself.

    Args:
        folder: where the user stands.
        name: of the rule and its file.
        title: full name of the rule.
        order: "time" steps and learns at once; "layer" sees whole trains.

    Raises:
        ConfigError: the name or title does not do, a file is there already, or none can be written.
    """
    _check_name(name)
    words = {
        "name": name,
        "rule": _class_name(name),
        "title": _checked_title(title, name),
        "short": title or "say its name in full",
        "year": str(datetime.date.today().year),
    }
    inside = in_checkout(folder)
    words["gap"] = "\n" if inside else ""  # elsewhere spikeloom is a library like any other
    texts = dict(zip(_places(folder, name, inside), _texts(words, order, inside), strict=True))
    for path in texts:
        if path.exists():
            todo = "choose another name or remove it"
            raise ConfigError.of(NEW, f"no file {path}", "one", todo)
    _check_free(name)
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        todo = "go to another folder"
        raise ConfigError.of(NEW, "a folder to write into", f"'{error}'", todo) from None
    return tuple(texts)


def _places(folder: Path, name: str, inside: bool) -> tuple[Path, Path, Path]:
    if inside:
        return (
            folder / "src" / "spikeloom" / "rules" / f"{name}.py",
            folder / "docs" / "rules" / f"{name}.md",
            folder / "tests" / "identities" / f"test_identity_{name}.py",
        )
    return folder / f"{name}.py", folder / f"{name}.md", folder / f"test_{name}.py"


def _texts(words: dict[str, str], order: Order, inside: bool) -> tuple[str, str, str]:
    imports = Template(_template("inside" if inside else "outside")).substitute(words).rstrip()
    battery = "" if inside else _template("battery")
    test = Template(_template("test")).substitute(words, imports=imports, battery=battery)
    rule = Template(_template("head") + _template(order)).substitute(words)
    return rule, Template(_template("page")).substitute(words), test


def _template(name: str) -> str:
    return (files("spikeloom.check") / "templates" / f"{name}.txt").read_text(encoding="utf-8")


def _class_name(name: str) -> str:
    """Return the name in capitals, with "Rule" behind where the template uses it otherwise."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    text = _template("head") + _template("time") + _template("layer") + _template("test")
    return f"{camel}Rule" if re.search(rf"\b{camel}\b", text) else camel


def _checked_title(title: str | None, name: str) -> str:
    if title is None:
        return f"{name}, a rule still to be named in full"
    if not re.fullmatch(r"[^\W_][^\"\\$\n]{5,59}", title):
        known = "a title of 6 to 60 characters in one line, without quotes, $ and backslashes"
        raise ConfigError.of(NEW, known, f"'{title}'", "change --title")
    return title.strip().rstrip(".")


def _check_name(name: str) -> None:
    good = re.fullmatch(r"[a-z][a-z0-9_]{0,29}", name) and not keyword.iskeyword(name)
    if not good or name.endswith("_"):
        known = "a name of up to 30 small letters, digits and _, no Python keyword"
        raise ConfigError.of(NEW, known, f"'{name}'", "change it, e.g. to my_rule")


def _check_free(name: str) -> None:
    """Refuse names of rules, and of modules that the new file would hide."""
    rule = name in RULES.names()
    if rule or any(map(importlib.util.find_spec, (name, f"spikeloom.rules.{name}"))):
        came = f"'{name}', which is a {'rule' if rule else 'module'}"
        raise ConfigError.of(NEW, "a new name", came, "choose another (see `spikeloom list`)")
