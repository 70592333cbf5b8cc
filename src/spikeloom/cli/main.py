"""The command `spikeloom`."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from spikeloom.base.errors import SpikeloomError
from spikeloom.cli.compare import compare
from spikeloom.cli.list import list_names
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
        message = " ".join(str(error).split())
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"error: {message}", markup=False, style="red"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; finished epochs are in the run folder.")
        sys.exit(130)
