"""The command `spikeloom`."""

import re
import sys
from typing import Annotated, NoReturn

import typer

from spikeloom.base.errors import SpikeloomError
from spikeloom.cli.compare import compare
from spikeloom.cli.list import list_names
from spikeloom.cli.report import report
from spikeloom.cli.train import train

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="One spiking neural network, every way to train it, one honest table.",
)
app.command("list")(list_names)
app.command("train")(train)
app.command("compare")(compare)
app.command("report")(report)

_TOO_BIG = re.compile("memory|bad_alloc|Storage size|Overflow when unpacking")
"""How torch says that a tensor does not fit."""


def _show_version(wanted: bool) -> None:
    if wanted:
        from spikeloom import __version__

        typer.echo(f"spikeloom {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    """Carry the options of the command itself."""


def main() -> None:
    """Run the command; a user's mistake becomes one line and exit code 2."""
    try:
        app()
    except SpikeloomError as error:
        _stop(str(error))
    except (MemoryError, RuntimeError, TypeError) as error:
        if not (isinstance(error, MemoryError) or _TOO_BIG.search(str(error))):
            raise
        came = (str(error) or "no memory").splitlines()[0]
        _stop(f"memory: expected a run that fits, got '{came}'; make net, batch or steps smaller.")
    except SystemExit as end:
        if end.code == 130:  # typer's for an interrupt
            typer.echo("stopped; finished epochs are in the run folder.", err=True)
        raise


def _stop(message: str) -> NoReturn:
    typer.secho(f"error: {' '.join(message.split())}", fg="red", err=True)
    sys.exit(2)
