"""``spikeloom compare``: several entries, several seeds, one table."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spikeloom.base.errors import ConfigError
from spikeloom.cli.train import EpochPrinter, Set, changed


def compare(
    recipes: Annotated[
        list[Path] | None, typer.Argument(help="Comparison or recipe files (TOML).")
    ] = None,
    net: Annotated[str | None, typer.Option(help="Net text or preset, e.g. 'c16 P f10'.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set, see `spikeloom list data`.")] = None,
    rules: Annotated[
        str | None, typer.Option(help="Rules by comma, e.g. 'ann,bptt,sltt:k_steps=2'.")
    ] = None,
    changes: Set = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds by comma, e.g. '0,1,2'.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default runs/<name>.")] = None,
    force: Annotated[bool, typer.Option(help="Replace results that are already there.")] = False,
    verbose: Annotated[bool, typer.Option(help="Print every epoch.")] = False,
) -> None:
    """Train several entries on the same data with the same seeds; print one table."""
    from spikeloom.report.table import NOTE, entry_rows, to_text
    from spikeloom.train.compare import Plan, Row, plan_rules, read_comparison, run_comparison

    given = {"--net": net, "--data": data, "--rules": rules}
    if recipes and (net or data or rules):
        raise ConfigError(
            "compare: expected recipe files or --net/--data/--rules, got both; drop one."
        )
    if recipes:
        if changes:
            raise ConfigError(
                "compare: expected --set with --net/--data/--rules only, got it beside recipe "
                "files; edit the files."
            )
        plans = [read_comparison(path) for path in recipes]
        if seeds is None and len({plan.seeds for plan in plans}) > 1:
            raise ConfigError(
                f"compare: expected files with the same seeds, got "
                f"{', '.join(str(list(plan.seeds)) for plan in plans)}; pass --seeds."
            )
        rows = tuple(row for plan in plans for row in plan.rows)
        plan = Plan(plans[0].name, rows, plans[0].seeds)
    elif net and data and rules:
        base: dict[str, Any] = {"net": net, "data": data, "stages": [{"rule": "bptt"}]}
        plan = plan_rules(changed(base, changes), rules, (0, 1, 2), "compare")
    else:
        missing = ", ".join(name for name, value in given.items() if not value)
        raise ConfigError(
            "compare: expected recipe files or all of --net, --data and --rules, got no "
            f"{missing}; see `spikeloom compare --help`."
        )
    if seeds is not None:
        plan = Plan(plan.name, plan.rows, _parse_seeds(seeds))
    folder = out or Path("runs") / plan.name
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    total, done = len(plan.rows) * len(plan.seeds), 0

    def started(row: Row, seed: int) -> Any:
        nonlocal done
        done += 1
        console.print(f"[{done}/{total}] {row.label}, seed {seed}")
        return EpochPrinter(console, "    ") if verbose else None

    results = run_comparison(plan, folder, started=started, overwrite=force)
    console.print(to_text(entry_rows(results["entries"])))
    console.print(NOTE)
    console.print(f"written: {folder / 'results.json'}")
    refused = [entry for entry in results["entries"] if entry["refusal"] is not None]
    for entry in refused:
        console.print(f"refused: {entry['label']}: {entry['refusal']}", style="red")
    if refused:
        raise typer.Exit(1)


def _parse_seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--seeds: expected whole numbers by comma, got '{text}'; write e.g. 0,1,2."
        ) from None
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds: expected different seeds of 0 or more, got '{text}'; fix it.")
    return seeds
