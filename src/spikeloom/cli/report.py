"""``spikeloom report``: one page and one table from run folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom.base.errors import ConfigError
from spikeloom.cli.console import Columns, Explain, plain_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spikeloom.report.columns import Column
    from spikeloom.report.entries import Entry


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run or comparison folders.")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file; default: report.html in the first folder.")
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Print only the table of one comparison; write no page.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The same as a Markdown table.")
    ] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print only all figures as CSV; write no page.")
    ] = False,
    columns: Columns = None,
    explain: Explain = False,
    records: Annotated[
        Path | None,
        typer.Option(help="Folder to which the records of one comparison's table are written."),
    ] = None,
) -> None:
    """Write one self-contained HTML page from run records; print the table."""
    from spikeloom.report.columns import choose

    chosen = choose(columns)
    if csv:
        beside = {
            "--text": text,
            "--markdown": markdown,
            "--columns": columns is not None,
            "--explain": explain,
            "--out": out is not None,
            "--records": records is not None,
        }
        if came := ", ".join(name for name, given in beside.items() if given):
            raise ConfigError.of(
                "--csv",
                "no other option, since it prints every figure and writes nothing",
                came,
                "drop that, or --csv",
            )
        from spikeloom.report.results import results

        plain_console().print(results(*runs).csv(), end="")
        return
    if explain and (text or markdown):
        raise ConfigError.of(
            "--explain",
            "neither --text nor --markdown beside it, which print the table alone",
            "--text" if text else "--markdown",
            "drop one",
        )
    if text or markdown or records is not None:
        _print_alone(runs, chosen, text=text, markdown=markdown, records=records)
        if out is None:
            return
    from spikeloom.records import names
    from spikeloom.report.page import figures_lacking, write_entries
    from spikeloom.report.records import read_entries

    entries = read_entries(runs)
    path = write_entries(entries, out or runs[0] / names.PAGE)
    if not (text or markdown):
        _print_entries(entries, chosen, explain=explain)
    plain_console().print(f"written: {path}")
    if (lacking := figures_lacking()) is not None:
        plain_console().print(lacking)


def _print_alone(
    runs: list[Path],
    columns: "Sequence[Column] | None",
    *,
    text: bool,
    markdown: bool,
    records: Path | None,
) -> None:
    from spikeloom.records import names
    from spikeloom.records.files import save_record
    from spikeloom.report.blocks import plain_table
    from spikeloom.report.records import compact, read_comparison

    if len(runs) != 1:
        raise ConfigError.of(
            "report",
            "one comparison with --text, --markdown and --records",
            f"{len(runs)} folders",
            "name one",
        )
    results = read_comparison(runs[0])
    if text or markdown:
        plain_console().print(plain_table(results, columns, markdown=markdown))
    if records is not None:
        records.mkdir(parents=True, exist_ok=True)
        path = records / names.RESULTS
        save_record(path, compact(results))
        if not (text or markdown):
            plain_console().print(f"written: {path}")


def _print_entries(
    entries: "Sequence[Entry]", columns: "Sequence[Column] | None", *, explain: bool
) -> None:
    from spikeloom.report.blocks import single_lines
    from spikeloom.report.html.scores import unfinished_text
    from spikeloom.report.provenance import made_with

    console = plain_console()
    width = console.width if console.is_terminal else None
    if any(entry.runs or entry.error or entry.refusal for entry in entries):
        records = [entry.record() for entry in entries]
        for line in single_lines(records, width, columns, explain=explain):
            console.print(line.text)
    if explain:
        commands = {entry.command for entry in entries if entry.runs}
        command = commands.pop() if len(commands) == 1 else None
        for line in made_with([run for entry in entries for run in entry.runs], command):
            console.print(line)
    for entry in entries:
        for text in unfinished_text(entry):
            console.print(f"unfinished: {entry.label}: {text}", style="yellow")
        for kind, reason in (("refused", entry.refusal), ("failed", entry.error)):
            if reason is not None:
                console.print(f"{kind}: {entry.label}: {' '.join(reason.split())}", style="red")
