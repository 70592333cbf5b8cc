"""``spikeloom profile``: what one net costs, layer by layer and pass by pass."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.cli.console import Explain, plain_console, print_note, to_left
from spikeloom.cli.progress import watcher
from spikeloom.cli.runs import Device, Json, check_device, headline, run_remark, write_result

if TYPE_CHECKING:
    from rich.console import Console

    from spikeloom.program.setup import Workbench
    from spikeloom.records.costs import CostRecord
    from spikeloom.records.progress import Progress
    from spikeloom.report.layers import AnyCosts

UNTRAINED = "; untrained weights: rates are those of the initial net"


def profile(
    what: Annotated[Path, typer.Argument(metavar="RUN|RECIPE", help="Run folder, or recipe.")],
    samples: Annotated[int, typer.Option(help="Number of test samples to measure.")] = 1000,
    ann: Annotated[
        Path | None,
        typer.Option(help="Run of the ReLU net of the same layers: gives ANN / SNN energy."),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Show how each layer is computed, and why, and stop."),
    ] = False,
    explain: Explain = False,
    device: Device = None,
    json: Json = None,
) -> None:
    """Count parameters, spikes, operations and energy of a net, per layer and pass."""
    check_device(device)
    at_least(1).check("--samples", samples)
    from spikeloom.inference.opening import find_run
    from spikeloom.program.shipped import recipe_file
    from spikeloom.report.layers import (
        LAYER_NOTE,
        layer_rows,
        settling_line,
        summary_rows,
    )
    from spikeloom.report.table import in_parts, to_text

    console = plain_console()
    trained = what.is_dir() or not recipe_file(what).exists()
    folder = find_run(what) if trained else what
    bench = _open(folder, trained=trained, device=device)
    remark = run_remark(folder) if trained else UNTRAINED
    console.print(headline(bench, folder, remark))
    if plan:
        if json is not None or ann is not None:
            raise ConfigError.of(
                "--plan",
                "no --json or --ann beside it",
                "one",
                "it measures nothing, leave them out",
            )
        _print_plan(bench, console)
        return
    reference = None if ann is None else _reference(ann, bench)
    with watcher() as progress:
        costs, took = _measure(bench, samples, progress)
    spiking = bench.rule.facts.spiking
    console.print(f"means over {costs.metered_samples} test samples, ± standard error\n")
    console.print(to_text(to_left(summary_rows(costs, spiking=spiking, ann=reference), (2,))))
    console.print()
    first, *more = in_parts(layer_rows(costs), console.width if console.is_terminal else None)
    for part in (to_left(first, (1, 2)), *more):
        console.print(to_text(part))
        console.print()
    console.print(took)
    if (line := settling_line(costs)) is not None:
        console.print(line)
    print_note(console, LAYER_NOTE if explain else "--explain says what each figure means.")
    record = {
        "name": bench.recipe.name,
        "trained": trained,
        "data": bench.splits.name,
        "rule": bench.stage.rule.name,
        "steps": bench.steps,
        "costs": costs.table(),
        "ann_costs": None if reference is None else reference.table(),
    }
    write_result(json, record, console)


def _print_plan(bench: "Workbench", console: "Console") -> None:
    from spikeloom.measure.planned import settings_of
    from spikeloom.program.setup import prepare
    from spikeloom.report.planned import plan_reasons, plan_rows, plan_title
    from spikeloom.report.table import to_text

    prepare(bench)
    for word, settings in settings_of(bench).items():
        for setting in settings:
            console.print()
            print_note(console, plan_title(word, setting))
            console.print(to_text(plan_rows(bench.net.plan, setting)))
            for line in plan_reasons(bench.net.plan, setting):
                print_note(console, line)


def _open(path: Path, *, trained: bool, device: str | None) -> "Workbench":
    from spikeloom.inference.opening import open_run
    from spikeloom.program.recipe import read_recipe
    from spikeloom.program.setup import set_up

    if trained:
        return open_run(path, device=device)
    recipe = read_recipe(path)
    if device is not None:
        recipe = recipe.model_copy(update={"device": device})
    return set_up(recipe, prepared=False)


def _reference(path: Path, bench: "Workbench") -> "CostRecord":
    """Return the costs of the measured ANN that a net is compared with.

    Raises:
        ConfigError: the run is of another net or other data, or no ANN.
    """
    from spikeloom.nets.spec.grammar import write
    from spikeloom.report.records import read_entries

    runs = [run for entry in read_entries([path]) for run in entry.runs]
    wanted = write(bench.net.spec.as_ann()), bench.splits.name
    fitting = [run for run in runs if (run.net, run.data) == wanted]
    if len(runs) != 1 or not fitting or runs[0].facts.spiking:
        came = ", ".join(f"rule '{run.rule}', net {run.net}, {run.data}" for run in runs)
        raise ConfigError.of(
            f"--ann {path}",
            f"one finished run of the ReLU net {wanted[0]} on {wanted[1]}",
            came or "none",
            "train it with rule 'ann'",
        )
    if not bench.rule.facts.spiking:
        raise ConfigError.of(
            f"--ann {path}",
            "a spiking net to compare with it",
            f"rule '{bench.stage.rule.name}'",
            "leave --ann out",
        )
    return runs[0].costs


def _measure(bench: "Workbench", samples: int, progress: "Progress") -> tuple["AnyCosts", str]:
    """Return the costs, and what to say of training: what it took, or why the rule refuses."""
    from spikeloom.measure.costs import measure_costs, measure_net
    from spikeloom.program.setup import prepare
    from spikeloom.report.layers import training_line

    try:
        prepare(bench)
        costs = measure_costs(bench, samples=samples, progress=progress)
    except UnsupportedNet as error:
        costs = measure_net(bench, samples=samples, progress=progress)
        return costs, f"training refused: {error}"
    return costs, training_line(costs)
