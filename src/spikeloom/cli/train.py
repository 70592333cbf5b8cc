"""``spikeloom train``: one recipe, one run folder."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spikeloom.base.errors import ConfigError

Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one value, e.g. --set stages.0.epochs=3."),
]


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML).")],
    changes: Set = None,
    seed: Annotated[int | None, typer.Option(help="Seed instead of the recipe's.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/<name>/seed<seed>.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed, ...")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    force: Annotated[bool, typer.Option(help="Replace a run that is already there.")] = False,
) -> None:
    """Train a recipe; write its run folder and print what came out."""
    from spikeloom.report.table import entry_rows, to_text
    from spikeloom.train.loop import train as run
    from spikeloom.train.recipe import build_recipe
    from spikeloom.train.tables import read_toml

    table = changed(read_toml(recipe), changes)
    for key, value in (("seed", seed), ("precision", precision), ("device", device)):
        if value is not None:
            table[key] = value
    checked = build_recipe(table, str(recipe))
    folder = out or Path("runs") / checked.name / f"seed{checked.seed}"
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    outcome = run(checked, folder, progress=epoch_printer(console), overwrite=force)
    entry = {"label": checked.stage.rule.name, "control": False, "runs": [outcome.record]}
    console.print(to_text(entry_rows([entry])))
    console.print(f"run folder: {folder}")


def changed(table: dict[str, Any], changes: list[str] | None) -> dict[str, Any]:
    """Return a copy of a recipe's table with every ``path=value`` applied.

    Raises:
        ConfigError: a change without "=", or a path that leads nowhere.
    """
    from spikeloom.train.tables import override, parse_value

    for change in changes or []:
        path, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(
                f"--set: expected path=value, got '{change}'; write e.g. stages.0.epochs=3."
            )
        table = override(table, path, parse_value(value), "--set")
    return table


def epoch_printer(console: Console, prefix: str = "") -> Any:
    """Return a function that prints one line per epoch."""

    def show(entry: dict[str, Any]) -> None:
        console.print(
            f"{prefix}epoch {entry['epoch'] + 1:3d}  loss {entry['loss']:.4f}  "
            f"train {100 * entry['accuracy']:.2f} %  val {100 * entry['val_accuracy']:.2f} %  "
            f"{entry['seconds']:.1f} s"
        )

    return show
