"""``spikeloom report``: one page and one table from run folders."""

from pathlib import Path
from typing import Annotated

import typer

from spikeloom.cli.console import plain_console


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run or comparison folders.")],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file; default report.html in the first folder.")
    ] = None,
) -> None:
    """Write one self-contained HTML page from run records; print the table."""
    from spikeloom.report.page import write_entries
    from spikeloom.report.records import read_entries
    from spikeloom.report.scores import unfinished_text
    from spikeloom.report.table import NOTE, entry_rows, fitted, to_text

    entries = read_entries(runs)
    path = write_entries(entries, out or runs[0] / "report.html")
    console = plain_console()
    rows = entry_rows([entry.record() for entry in entries])
    if len(rows) > 1:
        rows, left_out = fitted(rows, console.width if console.is_terminal else None)
        console.print(to_text(rows))
        if left_out:
            console.print(f"left out: {', '.join(left_out)}; the page has them all")
        console.print(NOTE)
    for entry in entries:
        for text in unfinished_text(entry):
            console.print(f"unfinished: {entry.label}: {text}", style="yellow")
        for kind, reason in (("refused", entry.refusal), ("failed", entry.error)):
            if reason is not None:
                console.print(f"{kind}: {entry.label}: {' '.join(reason.split())}", style="red")
    console.print(f"written: {path}")
