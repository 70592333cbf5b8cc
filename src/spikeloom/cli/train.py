"""``spikeloom train``: one recipe, one run folder."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeloom.base.errors import ConfigError
from spikeloom.cli.console import Columns, Explain, plain_console
from spikeloom.cli.progress import watcher
from spikeloom.cli.stopping import expect_training, speaks, stoppable

if TYPE_CHECKING:
    from spikeloom.program.recipe import Recipe

Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one value, e.g. --set stages.0.epochs=3."),
]


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe (TOML file or name); not needed with --resume.")
    ] = None,
    changes: Set = None,
    seed: Annotated[int | None, typer.Option(help="Seed instead of the recipe's.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/<name>/seed<seed>.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a stopped run to continue.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(help="Processes that share each batch; torchrun sets it.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed, ...")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    force: Annotated[bool, typer.Option(help="Replace a run that is already there.")] = False,
    columns: Columns = None,
    explain: Explain = False,
    quiet: Annotated[bool, typer.Option(help="Print the result only.")] = False,
    verbose: Annotated[bool, typer.Option(help="Also print every phase.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="Write curves for TensorBoard.")] = False,
) -> None:
    """Train a recipe; write its run folder and print what came out."""
    expect_training()
    from spikeloom.records.comparison import EntryRecord
    from spikeloom.records.progress import all_of
    from spikeloom.records.run import RunRecord
    from spikeloom.report.blocks import single_lines
    from spikeloom.report.columns import choose
    from spikeloom.train.loop import train as run
    from spikeloom.train.runs import stored_recipe
    from spikeloom.train.tensorboard import TensorBoardProgress

    chosen = choose(columns)
    if resume is not None and (out is not None or force):
        raise ConfigError(
            "train: expected --resume without --out and --force, got both; --resume writes to "
            "the folder of the run."
        )
    if devices is None and "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["WORLD_SIZE"])
    given = {"seed": seed, "devices": devices, "precision": precision, "device": device}
    given = {key: value for key, value in given.items() if value is not None}
    if recipe is not None:
        checked = read_changed(recipe, changes, given)
    elif resume is None:
        raise ConfigError("train: expected a recipe file or --resume RUN, got none; name one.")
    elif changes or given.keys() - {"devices"}:
        raise ConfigError(
            "train: expected --resume alone or with the same recipe, got changes; a resumed "
            "run keeps its recipe."
        )
    else:
        checked = stored_recipe(resume)
        if devices not in (None, checked.devices):
            raise ConfigError(
                f"train: expected {checked.devices} as --devices, with which the run began, got "
                f"{devices}; leave it out, or start as many processes."
            )
    folder = resume or out or Path("runs") / checked.name / f"seed{checked.seed}"
    console = plain_console()
    curves = [TensorBoardProgress(folder)] if tensorboard else []
    with stoppable() as stop, watcher(quiet=quiet, verbose=verbose, console=console) as shown:
        outcome = run(
            checked,
            folder,
            progress=all_of(shown, stop, *curves),
            overwrite=force,
            resume=resume is not None,
            stop=stop,
        )
    if not speaks():
        return
    if outcome.bench is None:
        console.print("nothing left to do: the run is finished.")
    record = outcome.record
    assert isinstance(record, RunRecord)  # only a comparison trains without a test
    stages = [stage.rule for stage in record.stages]  # older records have none
    entry = EntryRecord(label=" + ".join(stages) or record.rule, runs=(record,))
    width = console.width if console.is_terminal else None
    for line in single_lines([entry], width, chosen, explain=explain):
        console.print(line.text)
    console.print(f"run folder: {folder}")


def read_changed(path: Path, changes: list[str] | None, given: dict[str, Any]) -> "Recipe":
    """Read a recipe by file or name, changed by --set and by options of their own.

    A path of data in the file is relative to the file, one in a change to the current folder.
    """
    from spikeloom.program.places import data_path, located
    from spikeloom.program.recipe import build_recipe
    from spikeloom.program.shipped import recipe_file
    from spikeloom.program.tables import placed, read_toml

    file = recipe_file(path)
    own = read_toml(file)
    table = changed(own, changes)
    beside = file.parent if data_path(table) == data_path(own) else None
    with placed(str(path)):
        table = located(table, beside)
    return build_recipe(table | given, str(path))


def changed(table: dict[str, Any], changes: list[str] | None) -> dict[str, Any]:
    """Return a copy of a recipe's table with every ``path=value`` applied.

    Raises:
        ConfigError: a change without "=", or a path that leads nowhere.
    """
    from spikeloom.program.tables import override, parse_value

    for change in changes or []:
        path, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(
                f"--set: expected path=value, got '{change}'; write e.g. stages.0.epochs=3."
            )
        table = override(table, path, parse_value(value, f"--set {path}"), "--set")
    return table
