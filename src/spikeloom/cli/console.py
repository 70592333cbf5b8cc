"""How the commands print: one console, and how cells stand in a table of text."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

Columns = Annotated[
    str | None,
    typer.Option(
        help="Columns to show, separated by commas: groups (main, size, operations, paper, "
        "training, all) or single columns, see --explain.",
    ),
]
"""The option of every command that prints the table of results."""

Explain = Annotated[
    bool, typer.Option("--explain", help="Print what each column means below the table.")
]


def plain_console() -> Console:
    """Return the console of all commands: no markup, no colours by guess, no wrapping."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_note(console: Console, text: str) -> None:
    """Print a paragraph, wrapped at the terminal's width."""
    console.print(text, soft_wrap=False)


def to_left(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[list[str]]:
    """Pad the cells of some columns, so that they stand to the left in `to_text`."""
    widths = {column: max(len(row[column]) for row in rows) for column in columns}
    return [[cell.ljust(widths.get(column, 0)) for column, cell in enumerate(row)] for row in rows]


def beside(table: str, cells: Sequence[str]) -> str:
    """Put a cell behind each row of a table from `to_text`; the first is the headings'."""
    head, rule, *body = table.splitlines()
    width = max(len(line) for line in (head, rule, *body))
    rows = [line.ljust(width) + cell for line, cell in zip([head, *body], cells, strict=True)]
    return "\n".join(line.rstrip() for line in (rows[0], rule, *rows[1:]))


def bar(share: float, width: int = 20) -> str:
    """Draw a share in [0, 1] as a bar of eighths."""
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[rest].strip()).ljust(width)
