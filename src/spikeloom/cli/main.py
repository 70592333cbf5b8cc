"""The command `spikeloom`."""

import os
import sys
from typing import Annotated, NoReturn

import typer

from spikeloom.base.allocator import keep_memory
from spikeloom.base.errors import SpikeloomError, Stopped, too_big
from spikeloom.cli.bench import bench
from spikeloom.cli.check import check
from spikeloom.cli.compare import compare
from spikeloom.cli.evaluate import evaluate
from spikeloom.cli.list import list_names
from spikeloom.cli.new import new
from spikeloom.cli.predict import predict
from spikeloom.cli.profile import profile
from spikeloom.cli.report import report
from spikeloom.cli.stopping import speaks
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
app.add_typer(new, name="new")
app.add_typer(check, name="check")
app.command("evaluate")(evaluate)
app.command("profile")(profile)
app.command("predict")(predict)
app.command("bench")(bench)


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
    keep_memory()
    try:
        app()
    except Stopped as stopped:
        _leave(str(stopped), 130)
    except SpikeloomError as error:
        _stop(str(error))
    except (MemoryError, RuntimeError, TypeError) as error:
        message = too_big(error)
        if message is None:
            raise
        _stop(message)
    except SystemExit as end:
        if end.code == 130 and speaks():  # typer's for an interrupt
            typer.echo(
                "stopped at once; `train --resume` or the same `compare` goes on from there.",
                err=True,
            )
        raise


def _stop(message: str) -> NoReturn:
    _leave(typer.style(f"error: {' '.join(message.split())}", fg="red"), 2)


def _leave(message: str, code: int) -> NoReturn:
    """Say the last word and end with a code.

    Of several processes the first one speaks; the others end quietly, for any code of theirs looks
    like a crash to whoever watches them, and has the first one killed. Joined processes end at
    once: an interpreter that tidies up first may meet threads of the connection still at work.
    """
    if speaks():
        typer.echo(message, err=True)
    else:
        code = 0
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
