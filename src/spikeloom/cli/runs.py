"""What the commands on finished runs share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from spikeloom.base.errors import ConfigError, wrong_choice

if TYPE_CHECKING:
    from spikeloom.program.setup import Workbench

Json = Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")]

Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda; default: as in the recipe.")]


def headline(bench: "Workbench", where: Path, remark: str = "") -> str:
    """Say in two lines what is open: the run or recipe, and its net."""
    from spikeloom.nets.spec.grammar import write

    recipe = bench.recipe
    net = recipe.net.text or recipe.net.preset or write(bench.net.spec)
    rule = f"{bench.stage.rule.name}, T = {bench.steps}, {recipe.data.name}"
    return f"{where}: {rule}{remark}\nnet {net}"


def run_remark(folder: Path) -> str:
    """Say that a run has not ended, where it has not."""
    from spikeloom.inference.opening import is_finished

    return "" if is_finished(folder) else "; unfinished, the weights kept so far"


DEVICES = ("auto", "cpu", "cuda")


def check_device(device: str | None) -> None:
    """Refuse a device that is none.

    Raises:
        ConfigError: it is not auto, cpu or cuda.
    """
    if device not in (None, *DEVICES):
        raise wrong_choice("--device", device, DEVICES)


def write_result(path: Path | None, record: dict[str, Any], console: Console) -> None:
    """Write what a command found as JSON, where a file was asked for.

    Raises:
        ConfigError: the file cannot be written.
    """
    from spikeloom.records import storage

    if path is None:
        return
    todo = f"--json {path}: expected a file that can be written, got %s; choose another place."
    if path.is_dir():
        raise ConfigError(todo % "a folder")
    try:
        storage.write_json(path, record)
    except ConfigError:
        raise ConfigError(todo % "one that cannot") from None
    console.print(f"written: {path}")
