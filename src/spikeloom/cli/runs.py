"""What the commands on finished runs share."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from spikeloom.base.errors import ConfigError
from spikeloom.cli.progress import watcher

if TYPE_CHECKING:
    from spikeloom.train.progress import Progress
    from spikeloom.train.setup import Workbench

Json = Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")]

Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda; default the recipe's.")]


def plain_console() -> Console:
    """Return the console of all commands: no markup, no colours by guess, no wrapping."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def watching() -> "AbstractContextManager[Progress]":
    """Show the progress of what runs inside the block."""
    return watcher(console=plain_console())


def headline(bench: "Workbench", where: Path, remark: str = "") -> str:
    """Say in two lines what is open: the run or recipe, and its net."""
    from spikeloom.nets.grammar import write

    recipe = bench.recipe
    net = recipe.net.text or recipe.net.preset or write(bench.net.spec)
    rule = f"{bench.stage.rule.name}, T = {bench.steps}, {recipe.data.name}"
    return f"{where}: {rule}{remark}\nnet {net}"


def run_remark(folder: Path) -> str:
    """Say that a run has not ended, where it has not."""
    from spikeloom.train.opening import is_finished

    return "" if is_finished(folder) else "; unfinished, the weights kept so far"


def check_device(device: str | None) -> None:
    """Refuse a device that is none.

    Raises:
        ConfigError: it is not auto, cpu or cuda.
    """
    if device not in (None, "auto", "cpu", "cuda"):
        raise ConfigError(f"--device: expected auto, cpu or cuda, got '{device}'; change it.")


def write_result(path: Path | None, record: dict[str, Any], console: Console) -> None:
    """Write what a command found as JSON, where a file was asked for.

    Raises:
        ConfigError: the file cannot be written.
    """
    from spikeloom.train import checkpoint

    if path is None:
        return
    todo = f"--json {path}: expected a file that can be written, got %s; choose another place."
    if path.is_dir():
        raise ConfigError(todo % "a folder")
    try:
        checkpoint.write_json(path, record)
    except ConfigError:
        raise ConfigError(todo % "one that cannot") from None
    console.print(f"written: {path}")


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
