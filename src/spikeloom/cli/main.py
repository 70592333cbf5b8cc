"""The command `spikeloom`."""

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from spikeloom.base.allocator import keep_memory
from spikeloom.base.errors import ConfigError, Hint, SpikeloomError, Stopped, too_big
from spikeloom.cli.bench import bench
from spikeloom.cli.check import check
from spikeloom.cli.compare import compare
from spikeloom.cli.evaluate import evaluate
from spikeloom.cli.list import list_names
from spikeloom.cli.new import new
from spikeloom.cli.plain import plain_output, say, say_error
from spikeloom.cli.predict import predict
from spikeloom.cli.profile import profile
from spikeloom.cli.report import report
from spikeloom.cli.stopping import interruptible, last_word, speaks
from spikeloom.cli.train import train

UsageError = typer.BadParameter.__bases__[0]
"""Of typer, which carries a copy of click, or of click, which older ones import."""

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

        say(f"spikeloom {__version__}")
        raise typer.Exit


def _plug_in(files: list[Path]) -> None:
    """Import files of the user's own, after the families that they may add to."""
    if files:
        import_module("spikeloom.program.setup")
        from spikeloom.base.registry import import_file

        for file in files:
            import_file(file, "--plugin")


@app.callback()
def root(
    plugin: Annotated[
        list[Path],
        typer.Option(
            envvar="SPIKELOOM_PLUGINS",
            callback=_plug_in,
            help="Python file to import first, e.g. with a rule of your own; its code runs.",
        ),
    ] = [],  # noqa: B006
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    """Carry the options of the command itself."""


def main() -> None:
    """Run the command; a user's mistake becomes one line and exit code 2."""
    keep_memory()
    plain_output()
    warnings.showwarning = _show_hint
    with interruptible():
        try:
            _check_words(sys.argv[1:])
            code = app(prog_name="spikeloom", standalone_mode=False)
            raise SystemExit(code if isinstance(code, int) else 0)
        except BaseException as error:
            _explain(error)
            raise


def _explain(error: BaseException) -> None:
    """End with one line where a user can have caused the error."""
    interrupted = isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and error.code == 130  # typer's for an interrupt
    )
    if interrupted or isinstance(error, Stopped):
        _leave(last_word() if interrupted else str(error), 130)
    if isinstance(error, SpikeloomError):
        _stop(str(error))
    if isinstance(error, UsageError):
        _refuse_usage(error)
    if isinstance(error, OSError):
        place = error.filename or "system"
        _stop(
            f"{place}: expected a place that can be read and written, got "
            f"'{error.strerror or error}'; check the path and the space left."
        )
    if (refused := too_big(error)) is not None:
        _stop(str(refused))


def _refuse_usage(error: Any) -> NoReturn:
    """End with one line on a wrong word of the command line; without words show the help."""
    text = error.format_message()
    if "\n" in text:  # the help of a command that was given nothing
        say(text, err=True)
        _leave(None, 2)
    command = error.ctx.command_path if error.ctx else "spikeloom"
    _stop(f"{command}: {' '.join(text.split()).rstrip('.')}; see `{command} --help`.")


def _check_words(words: Sequence[str]) -> None:
    """Refuse empty words, as from an unset variable of a script, and numbers of many digits.

    Raises:
        ConfigError: an empty word, for a path would name the present folder; or a number of a
            hundred digits.
    """
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not name.startswith("--") or not equals:
            name, value = words[number - 1] if number else "", word
        if not name.startswith("-"):
            name = f"argument {number + 1}"
        if not value.strip():
            raise ConfigError.of(
                name, "a text", "an empty one", "is a variable of your script unset?"
            )
        if value.strip("+-_").isdecimal() and len(value) > 100:
            raise ConfigError.of(
                name, "a number of a few digits", f"{len(value)} digits", "shorten it"
            )


_show_warning = warnings.showwarning
_hints: set[str] = set()


def _show_hint(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Show a hint as one line, once, without the place in the code."""
    if not issubclass(category, Hint):
        _show_warning(message, category, *place)
    elif speaks() and str(message) not in _hints:
        _hints.add(str(message))
        say(f"note: {' '.join(str(message).split())}", err=True)


def _stop(message: str) -> NoReturn:
    if speaks():
        say_error(message)
    _leave(None, 2)


def _leave(message: str | None, code: int) -> NoReturn:
    """Say the last word and end with a code.

    Of several processes the first one speaks; the others end quietly, for any code of theirs looks
    like a crash to whoever watches them, and has the first one killed. Joined processes end at
    once: an interpreter that tidies up first may meet threads of the connection still at work.
    """
    if not speaks():
        code = 0
    elif message is not None:
        say(message, err=True)
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
