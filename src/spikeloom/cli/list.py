"""``spikeloom list``: what there is, from the registries, with facts."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import shorten
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from spikeloom.base.docstrings import first_line
from spikeloom.base.errors import unknown_name
from spikeloom.base.registry import Registry
from spikeloom.cli.details import details


def list_names(
    what: Annotated[
        str,
        typer.Argument(
            help="rules, nets, tasks, heads, encoders, units, surrogates, data, recipes."
        ),
    ] = "rules",
    name: Annotated[
        str | None, typer.Argument(help="One of them: its options, defaults and limits.")
    ] = None,
) -> None:
    """List what can be named in a recipe, or everything about one name."""
    tables = {
        "rules": _rules,
        "nets": _nets,
        "tasks": _tasks,
        "heads": _heads,
        "encoders": _encoders,
        "units": _units,
        "surrogates": _surrogates,
        "data": _data,
        "recipes": _recipes,
    }
    if what not in tables:
        raise unknown_name("list", "family", what, tables)
    if name is not None:
        _print_details(what, name)
        return
    headings, rows = tables[what]()
    notes = _missing() if what == "data" else []
    console = _console()
    console.print(_table(headings, rows))
    for note in notes:
        console.print(note, markup=False)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    columns = (Column(heading, overflow="fold") for heading in headings)
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _print_details(family: str, name: str) -> None:
    found = details(family, name)
    console = _console()
    console.print(f"{name}: {found.title}", markup=False, style="bold")
    table = Table.grid(padding=(0, 2))
    for word, text in found.facts:
        table.add_row(word, escape(text))
    console.print(table)
    if found.options:
        console.print()
        console.print(_table(("option", "default", "meaning"), found.options))
    if found.refused:
        console.print("\nrefused, for example:", style="bold")
        for line in found.refused:
            console.print(f"  {line}", markup=False)


FILE_WIDTH = 1000
"""Columns where there is no terminal to fold for."""

LONGEST = 160
"""Characters of a net's text that are shown."""

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
    from spikeloom.nets.spec.presets import PRESETS

    rows = [
        (
            name,
            "x".join(map(str, one.in_shape)),
            shorten(one.text, LONGEST, placeholder=" ..."),
            one.note,
        )
        for name, one in PRESETS.items()
    ]
    return ["net", "input", "text", "note"], rows


def _tasks() -> Rows:
    from spikeloom.tasks.base import TASKS

    rows = [
        (name, ", ".join(metric.word for metric in task.metrics), task.about)
        for name, task in ((name, TASKS.find(name)) for name in TASKS.names())
    ]
    return ["task", "judged by", "what it is"], rows


def _heads() -> Rows:
    from spikeloom.heads.base import HEADS

    return ["head", "what it is"], _entries(HEADS, lambda head: head.about)


def _encoders() -> Rows:
    from spikeloom.encoders import ENCODERS

    return ["encoder", "what it does"], _entries(ENCODERS, lambda encoder: encoder.about)


def _units() -> Rows:
    from spikeloom.neurons.base import UNITS

    return ["unit", "what it is"], _entries(UNITS, first_line)


def _surrogates() -> Rows:
    from spikeloom.neurons.surrogate import SURROGATES

    return ["surrogate", "slope"], _entries(SURROGATES, first_line)


def _entries(registry: Registry[Any], about: Callable[[Any], str]) -> list[tuple[str, ...]]:
    return [(name, about(registry.find(name))) for name in registry.names()]


def _data() -> Rows:
    from spikeloom.data import DATA
    from spikeloom.data.base import data_root

    root = data_root()
    rows = []
    for name in DATA.names():
        info = DATA.find(name)
        shape = "x".join(map(str, info.shape)) if info.shape else "any"
        state = info.state(root).partition(":")[0]
        rows.append((name, shape, str(info.classes or "any"), state, info.about))
    return ["data", "sample", "classes", "state", "what it is"], rows


def _missing() -> list[str]:
    """Say for each set that is not there what is missing and where to get it."""
    from spikeloom.data import DATA
    from spikeloom.data.base import data_root

    root = data_root()
    lines = [f"\n$SPIKELOOM_DATA is {root}"]
    for name in DATA.names():
        info = DATA.find(name)
        state, _, what = info.state(root).partition(": ")
        if state == "missing":
            lines.append(f"{name}: missing {what}; {info.source}")
    return lines


def _recipes() -> Rows:
    from spikeloom.cli.details import recipe_facts, recipe_files

    rows = []
    for name, path in recipe_files().items():
        facts = recipe_facts(path)
        rows.append((name, facts["data"], facts.get("error") or facts["rules"]))
    return ["recipe", "data", "rules"], rows
