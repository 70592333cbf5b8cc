"""``spikeloom compare``: several entries, several seeds, one table."""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeloom.base.checks import above, at_least, check_number, expect
from spikeloom.base.errors import ConfigError, Stopped
from spikeloom.base.toml import LARGEST_WHOLE
from spikeloom.cli.console import Columns, Explain, plain_console
from spikeloom.cli.progress import watcher
from spikeloom.cli.stopping import expect_training, stoppable
from spikeloom.cli.train import Set, changed

if TYPE_CHECKING:
    from spikeloom.compare.plan import Plan

_STYLES = {"head": "bold", "title": "italic", "failed": "red", "refused": "yellow"}
_WRAPPED = ("note", "failed", "refused")


def compare(
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(help="Comparisons or recipes: TOML files or names."),
    ] = None,
    net: Annotated[str | None, typer.Option(help="Net text or preset, e.g. 'c16 P f10'.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set, see `spikeloom list data`.")] = None,
    rules: Annotated[
        str | None, typer.Option(help="Rules, separated by commas, e.g. 'ann,bptt,sltt:k_steps=2'.")
    ] = None,
    changes: Set = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, separated by commas, e.g. '0,1,2'.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(help="With --rules: also a linear model, and the net with frozen layers."),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; default: runs/<name>, named after data, net, rules."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Train every entry again.")] = False,
    max_mb: Annotated[
        float | None, typer.Option(help="Limit for the pick: peak memory of a training batch, MB.")
    ] = None,
    max_ms: Annotated[
        float | None, typer.Option(help="Limit for the pick: time to predict one sample, ms.")
    ] = None,
    max_spikes: Annotated[
        float | None, typer.Option(help="Limit for the pick: spikes per inference.")
    ] = None,
    columns: Columns = None,
    explain: Explain = False,
    quiet: Annotated[bool, typer.Option(help="Print the table only.")] = False,
    verbose: Annotated[bool, typer.Option(help="Print every epoch.")] = False,
) -> None:
    """Train several entries on the same data with the same seeds; print one table.

    The same command continues where it stopped; finished runs are never trained again.

    Exit code 1 if a run failed.
    """
    expect_training()
    from spikeloom.compare.run import run_comparison
    from spikeloom.records import names
    from spikeloom.records.progress import all_of
    from spikeloom.report.blocks import comparison_lines
    from spikeloom.report.columns import choose
    from spikeloom.report.page import figures_lacking, write_page
    from spikeloom.report.pick import pick

    chosen = choose(columns)
    given = {"max_mb": max_mb, "max_ms": max_ms, "max_spikes": max_spikes}
    limits = {name: value for name, value in given.items() if value is not None}
    for name, value in limits.items():
        option = f"--{name.replace('_', '-')}"
        check_number(option, value)
        above(0).check(option, value)
    options = {"net": net, "data": data, "rules": rules}
    plan = _plan(recipes, options, changes, seeds, controls=controls)
    folder = out or Path("runs") / plan.name
    console = plain_console()
    shown = watcher(quiet=quiet, verbose=verbose, epochs=verbose, console=console)
    with stoppable() as stop, shown as progress:
        try:
            results = run_comparison(
                plan,
                folder,
                progress=all_of(progress, stop),
                overwrite=force,
                stop=stop,
                command=_command(recipes, options, changes, seeds, controls=controls),
            )
        except (KeyboardInterrupt, Stopped):
            again = "the same command" + (" without --force" if force else "")
            raise Stopped(
                f"stopped; finished runs are in {folder}, {again} goes on from there."
            ) from None
    width = console.width if console.is_terminal else None
    for line in comparison_lines(results, width, chosen, explain=explain):
        whole = width is None or line.kind not in _WRAPPED or len(line.text) <= width
        console.print(line.text, style=_STYLES.get(line.kind), soft_wrap=whole)
    if limits:
        console.print(pick(results.entries, limits), style="bold")
    if os.access(folder, os.W_OK):
        page = write_page([folder], folder / names.PAGE)
        console.print(f"written: {folder / names.RESULTS}, {page}")
        if (lacking := figures_lacking()) is not None:
            console.print(lacking)
    else:
        console.print(f"nothing written: {folder} is read-only, and nothing was left to do")
    entries = results.entries
    compared = [entry for entry in entries if not entry.control] or entries
    if any(entry.error for entry in entries) or not any(entry.runs for entry in compared):
        raise typer.Exit(1)


def _command(
    recipes: list[Path] | None,
    options: dict[str, str | None],
    changes: list[str] | None,
    seeds: str | None,
    *,
    controls: bool,
) -> str:
    """Return the command that runs the same comparison; of absolute paths the name alone."""
    words = ["spikeloom", "compare"]
    words += [path.name if path.is_absolute() else str(path) for path in recipes or ()]
    given = [*options.items(), *(("set", change) for change in changes or ()), ("seeds", seeds)]
    for name, value in given:
        words += [f"--{name}", value] if value is not None else []
    return shlex.join(words + ["--no-controls"] * (not controls))


def _plan(
    recipes: list[Path] | None,
    given: dict[str, str | None],
    changes: list[str] | None,
    seeds: str | None,
    *,
    controls: bool,
) -> "Plan":
    from spikeloom.compare.controls import with_controls
    from spikeloom.compare.plan import merge, name_of, plan_rules, read_comparison

    wanted = None if seeds is None else _parse_seeds(seeds)
    if recipes:
        if any(given.values()):
            raise ConfigError.of(
                "compare", "recipe files or --net/--data/--rules", "both", "drop one"
            )
        if changes:
            raise ConfigError.of(
                "compare",
                "--set with --net/--data/--rules only",
                "it beside recipe files",
                "edit the files",
            )
        return merge([read_comparison(path) for path in recipes], wanted)
    missing = ", ".join(f"--{name}" for name, value in given.items() if not value)
    if missing:
        raise ConfigError.of(
            "compare",
            "recipe files or all of --net, --data and --rules",
            f"no {missing}",
            "see `spikeloom compare --help`",
        )
    net, data, rules = (given[name] or "" for name in ("net", "data", "rules"))
    base: dict[str, Any] = {"net": net, "data": data, "stages": [{"rule": "bptt"}]}
    plan = plan_rules(changed(base, changes), rules, wanted or (0, 1, 2), "compare")
    plan = replace(plan, name=name_of(data, net, rules, changes or ()))
    return with_controls(plan) if controls else plan


def _parse_seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError.of(
            "--seeds", "whole numbers separated by commas", f"'{text}'", "write e.g. 0,1,2"
        ) from None
    for seed in seeds:
        at_least(0, "a seed", most=LARGEST_WHOLE).check("--seeds", seed)
    expect(len(set(seeds)) == len(seeds), "--seeds", "seeds that differ", text, "drop one")
    return seeds
