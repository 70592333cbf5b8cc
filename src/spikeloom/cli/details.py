"""Everything about one name: ``spikeloom list rules sltt``."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeloom.base.docstrings import documented, first_line
from spikeloom.base.errors import ConfigError, unknown_name

Option = tuple[str, str, str]
"""Name, default and meaning."""


@dataclass(frozen=True)
class Details:
    """One entry of a registry.

    Args:
        title: one line on what it is.
        facts: pairs of a heading and a text.
        options: that a recipe can set.
        refused: what it cannot do, one line each.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    options: tuple[Option, ...] = ()
    refused: tuple[str, ...] = ()


def details(family: str, name: str) -> Details:
    """Return everything about one name.

    Raises:
        ConfigError: no such name, or a family whose entries have no details.
    """
    if family not in _FAMILIES:
        raise unknown_name("list", "family with details", family, _FAMILIES)
    return _FAMILIES[family](name)


def options_of(kind: Callable[..., Any], skip: tuple[str, ...] = ()) -> tuple[Option, ...]:
    """Return the options of a class or function, with their lines under ``Args:``.

    Args:
        kind: whose parameters are options.
        skip: parameters that a recipe does not set.
    """
    about = documented(kind)
    return tuple(
        (name, default, about.get(name, ""))
        for name, default in _defaults(kind)
        if name not in skip
    )


def _defaults(kind: Any) -> Iterator[tuple[str, str]]:
    """Yield name and default of each option, "required" where there is none."""
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            if field.default_factory is not dataclasses.MISSING:
                yield field.name, _shown(field.default_factory())
            elif field.init:
                bare = field.default is dataclasses.MISSING
                yield field.name, "required" if bare else _shown(field.default)
        return
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            bare = parameter.default is parameter.empty
            yield parameter.name, "required" if bare else _shown(parameter.default)


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        from spikeloom.nets.spec.codec import inline, to_table

        table = to_table(value)
        return str(table["name"]) if set(table) == {"name"} else inline(table)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else re.sub(r"[()']", "", repr(value)) or "none"


def _rule(name: str) -> Details:
    from spikeloom.rules.base import RULES

    rule = RULES.find(name, "list")
    known = rule.facts
    refused = tuple(
        f"net {trial.net}{_given(trial.options)}: {trial.refusal}" for trial in rule.trials.refused
    )
    facts = (
        ("training memory", f"{known.memory} in the number of time steps"),
        ("order", _ORDERS[known.order]),
        ("online", "learns while the input arrives" if known.online else "no"),
        ("nets", "spiking" if known.spiking else "the ReLU net of the same layers"),
        ("source", str(known.source)),
        ("page", f"docs/rules/{name}.md"),
    )
    return Details(known.title, facts, options_of(rule), refused)


_ORDERS = {
    "time": "step by step",
    "layer": "layer by layer",
    "equilibrium": "to the equilibrium of firing rates",
}


def _given(options: Any) -> str:
    return "".join(f", {key} = {value}" for key, value in options.items())


def _unit(name: str) -> Details:
    from spikeloom.neurons.base import UNITS

    unit = UNITS.find(name, "list")
    return Details(first_line(unit), (("page", "docs/concepts/networks.md"),), options_of(unit))


def _surrogate(name: str) -> Details:
    from spikeloom.neurons.surrogate import SURROGATES

    kind = SURROGATES.find(name, "list")
    return Details(first_line(kind), (), options_of(kind))


def _task(name: str) -> Details:
    from spikeloom.tasks.base import TASKS

    task = TASKS.find(name, "list")
    facts = [(one.word, f"{one.about}; {one.best} values are good") for one in task.metrics]
    facts += [("head", f"{task.head}, unless the recipe names another")]
    return Details(task.about, (*facts, ("page", "docs/concepts/tasks.md")), options_of(task))


def _head(name: str) -> Details:
    from spikeloom.heads.base import HEADS
    from spikeloom.program.recipe import HEAD_OWN

    head = HEADS.find(name, "list")
    source = (("source", str(head.source)),) if head.source else ()
    facts = (*source, ("page", "docs/concepts/heads.md"))
    return Details(head.about, facts, options_of(head, HEAD_OWN))


def _encoder(name: str) -> Details:
    from spikeloom.encoders import ENCODERS

    kind = ENCODERS.find(name, "list")
    return Details(kind.about, (), options_of(kind))


def _data(name: str) -> Details:
    from spikeloom.data import DATA
    from spikeloom.data.base import data_root

    info = DATA.find(name, "list")
    load = getattr(info.load, "func", info.load)
    facts = (
        ("sample", "x".join(map(str, info.shape)) if info.shape else "your files decide"),
        ("classes", str(info.classes or "your files decide")),
        ("state", info.state(data_root())),
        *((("files", info.source),) if info.source else ()),
        ("page", f"docs/howto/{'data' if info.steps is None else 'data_in_time'}.md"),
    )
    options = tuple(one for one in options_of(load) if one[0] in info.options)
    return Details(info.about, facts, options)


def _net(name: str) -> Details:
    from spikeloom.nets.spec.grammar import write
    from spikeloom.nets.spec.presets import PRESETS

    if name not in PRESETS:
        raise unknown_name("list", "preset", name, PRESETS)
    net = PRESETS[name]
    facts = (
        ("input", "x".join(map(str, net.in_shape))),
        ("text", net.text if isinstance(net.text, str) else write(net.text)),
        ("page", "docs/concepts/networks.md"),
    )
    return Details(net.note or name, facts)


def recipe_files() -> dict[str, Path]:
    """Return the shipped recipes by name, and those below ./recipes that are others by file."""
    from spikeloom.program.shipped import shipped_recipes

    shipped = dict(shipped_recipes())
    known = {path.resolve() for path in shipped.values()}
    own = [path for path in sorted(Path("recipes").rglob("*.toml")) if path.resolve() not in known]
    return {str(path): path for path in own} | shipped


def recipe_facts(path: Path) -> dict[str, str]:
    """Read name, data, net, rules and paper of a recipe or comparison, and why it cannot be read.

    A file that says less has empty texts.
    """
    from spikeloom.program.tables import read_toml

    try:
        table = read_toml(path)
    except ConfigError as error:
        return {"data": "", "rules": "", "error": f"cannot be read: {error}"}
    base = _table(table.get("base")) or table
    rules = [_name(_table(stage).get("rule")) for stage in _list(base.get("stages"))]
    for entry in _list(table.get("entries")):
        changes = _table(_table(entry).get("set"))
        rules += [_name(value) for key, value in changes.items() if key.endswith(".rule")]
    net, paper = base.get("net"), _table(base.get("paper") or table.get("paper"))
    text = _table(net).get("text") or _table(net).get("preset") or net
    return {
        "name": str(table.get("name", "")),
        "data": _name(base.get("data")),
        "net": text if isinstance(text, str) else "",
        "rules": ", ".join(dict.fromkeys(filter(None, rules))),
        "paper": str(paper.get("title", "")),
    }


def _recipe(name: str) -> Details:
    files = recipe_files()
    if name not in files:
        raise unknown_name("list", "recipe", name, files)
    facts = recipe_facts(files[name])
    shown = {"file": str(files[name])} | facts | {"page": "docs/concepts/recipes.md"}
    title = shown.pop("name", "") or name
    return Details(title, tuple((word, text) for word, text in shown.items() if text))


def _name(value: object) -> str:
    """Return the name of a thing given by name, or by a table with its options."""
    return str(_table(value).get("name", "")) or (value if isinstance(value, str) else "")


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


_FAMILIES: dict[str, Callable[[str], Details]] = {
    "rules": _rule,
    "nets": _net,
    "tasks": _task,
    "heads": _head,
    "encoders": _encoder,
    "units": _unit,
    "surrogates": _surrogate,
    "data": _data,
    "recipes": _recipe,
}
