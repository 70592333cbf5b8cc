"""``spikeloom list``: what there is, from the registries, with facts."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spikeloom.base.errors import unknown_name


def list_names(
    what: Annotated[
        str, typer.Argument(help="rules, nets, heads, encoders, units, surrogates or data.")
    ] = "rules",
) -> None:
    """List what can be named in a recipe."""
    tables = {
        "rules": _rules,
        "nets": _nets,
        "heads": _heads,
        "encoders": _encoders,
        "units": _units,
        "surrogates": _surrogates,
        "data": _data,
    }
    if what not in tables:
        raise unknown_name("list", "family", what, tables)
    headings, rows = tables[what]()
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(soft_wrap=False).print(table)


Rows = tuple[list[str], list[tuple[str, ...]]]


def _rules() -> Rows:
    from spikeloom.rules.base import RULES

    rows = []
    for name in RULES.names():
        facts = RULES.find(name).facts
        source = f"{facts.source.authors} {facts.source.year}"
        online = "yes" if facts.online else "no"
        rows.append((name, facts.title, f"{facts.memory} in T", online, source))
    return ["rule", "title", "training memory", "online", "source"], rows


def _nets() -> Rows:
    from spikeloom.nets.presets import PRESETS

    rows = [
        (name, "x".join(map(str, one.in_shape)), f"{one.body} f{one.classes}", one.note)
        for name, one in PRESETS.items()
    ]
    return ["net", "input", "text", "note"], rows


def _heads() -> Rows:
    from spikeloom.heads.base import HEADS

    return ["head", "what it is"], _about(HEADS)


def _encoders() -> Rows:
    from spikeloom.encoders import ENCODERS

    return ["encoder", "what it does"], _about(ENCODERS)


def _units() -> Rows:
    from spikeloom.neurons.base import UNITS

    rows = [(name, _first_line(UNITS.find(name))) for name in UNITS.names()]
    return ["unit", "what it is"], rows


def _surrogates() -> Rows:
    from spikeloom.neurons.surrogate import SURROGATES

    rows = [(name, _first_line(SURROGATES.find(name))) for name in SURROGATES.names()]
    return ["surrogate", "slope"], rows


def _data() -> Rows:
    from spikeloom.data import DATA

    rows = []
    for name in DATA.names():
        info = DATA.find(name)
        shape = "x".join(map(str, info.shape)) if info.shape else "any"
        rows.append((name, shape, str(info.classes or "any"), info.about))
    return ["data", "sample", "classes", "what it is"], rows


def _about(registry: Any) -> list[tuple[str, ...]]:
    return [(name, registry.find(name).about) for name in registry.names()]


def _first_line(thing: object) -> str:
    text = (thing.__doc__ or "").strip().splitlines()[0]
    return text.replace(":math:", "").replace("`", "")
