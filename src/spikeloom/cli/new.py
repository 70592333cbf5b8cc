"""``spikeloom new``: files to start from."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spikeloom.cli.plain import say

new = typer.Typer(no_args_is_help=True, help="Write files to start from.")


class Walk(StrEnum):
    """In which order a new rule runs the net."""

    time = "time"
    layer = "layer"


@new.command("recipe")
def new_recipe(
    path: Annotated[Path, typer.Argument(help="File to write, e.g. mine.toml.")],
    net: Annotated[str, typer.Option(help="Net text or preset.")] = "c16 P c32 P f64 f10",
    data: Annotated[str, typer.Option(help="Data set, see `spikeloom list data`.")] = "digits",
    rule: Annotated[str, typer.Option(help="Rule, see `spikeloom list rules`.")] = "bptt",
) -> None:
    """Write a recipe with every setting, its default and a comment.

    Nothing is overwritten.
    """
    from spikeloom.program.template import write_recipe

    write_recipe(path, net=net, data=data, rule=rule)
    say(f"written: {path}\n\n  spikeloom train {path}")


@new.command("rule")
def new_rule(
    name: Annotated[str, typer.Argument(help="Name in recipes, e.g. my_rule.")],
    title: Annotated[str | None, typer.Option(help="Full name of the rule.")] = None,
    order: Annotated[
        Walk, typer.Option(help="time: step by step, memory constant in T; layer: whole trains.")
    ] = Walk.time,
) -> None:
    """Write a learning rule, its page and its test, complete but for the equation.

    In a checkout of spikeloom they go to their places, elsewhere to the current folder.

    Nothing is overwritten.
    """
    from spikeloom.check.scaffold import in_checkout
    from spikeloom.check.scaffold import new_rule as write

    here = Path()
    rule, page, test = write(here, name, title=title, order=order.value)
    say(f"rule  {rule}\npage  {page}\ntest  {test}\n")
    say("The rule lacks only its equation: write it at NOT YET WRITTEN, then hidden layers")
    say("learn. Until then one check fails, the learning check:")
    if in_checkout(here):
        say(f"  spikeloom check rule {rule}\n  pytest {test} tests/contracts")
        return
    say(f"  spikeloom check rule ./{rule}\n  pytest {test}\n")
    say(
        f"To use it: spikeloom --plugin ./{rule} compare --rules {name},bptt ... Or install it as a"
    )
    say("package with this entry point:")
    say(f'  [project.entry-points."spikeloom.rules"]\n  {name} = "{name}"')
