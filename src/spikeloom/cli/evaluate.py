"""``spikeloom evaluate``: a trained net on data, judged after every number of steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeloom.base.checks import at_least, expect
from spikeloom.base.errors import ConfigError, addressed, wrong_choice
from spikeloom.cli.console import bar, beside, plain_console, print_note, to_left
from spikeloom.cli.early_exit import (
    engine_line,
    engine_record,
    exit_record,
    exit_table,
    parse_exits,
)
from spikeloom.cli.progress import watcher
from spikeloom.cli.runs import Device, Json, check_device, headline, run_remark, write_result
from spikeloom.cli.train import Set, changed
from spikeloom.records import units
from spikeloom.tasks.metric import Metric

if TYPE_CHECKING:
    from spikeloom.data import Splits
    from spikeloom.inference.over_time import OverTime

PARTS = ("test", "validation", "train")

MOST_STEPS = 10**6
"""Largest number of steps, as in a recipe."""

MOST_ROWS = 12
"""Numbers of steps shown where --steps asks for none in particular."""

MOST_CLASSES = 16
"""Classes up to which the whole confusion table is shown; beyond, the worst of them."""

Record = dict[str, Any]


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    data: Annotated[str | None, typer.Option(help="Other data than those of the run.")] = None,
    changes: Set = None,
    steps: Annotated[
        str | None, typer.Option(help="Numbers of steps, separated by commas, e.g. '1,2,4,8'.")
    ] = None,
    part: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    samples: Annotated[
        int | None, typer.Option(help="Take this many samples, spread over the part.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="dense, auto or events: sum over spikes where this is faster.")
    ] = "dense",
    exit_margin: Annotated[
        str | None,
        typer.Option(help="Margins for early exit, separated by commas, e.g. '0.5,0.9'."),
    ] = None,
    exit_by: Annotated[
        str, typer.Option(help="Measure for early exit: margin, confidence or logit.")
    ] = "margin",
    device: Device = None,
    json: Json = None,
) -> None:
    """Evaluate a run: metrics, loss and spikes after each number of steps, from one pass."""
    check_device(device)
    exits = parse_exits(exit_margin, exit_by)
    wanted = _parse_steps(steps)
    if part not in PARTS:
        raise wrong_choice("--part", part, PARTS)
    at_least(1).check("--samples", samples)
    import torch

    from spikeloom.inference import early_exit
    from spikeloom.inference.opening import find_run, open_run
    from spikeloom.inference.over_time import reads_early, score_over_time
    from spikeloom.nets.ops import PLAIN
    from spikeloom.nets.walk.events import EventEngine

    machine = EventEngine.of(engine)
    ops = PLAIN if machine is None else machine.ops
    folder = find_run(run)
    console = plain_console()
    bench = open_run(folder, splits=_other_data(folder, data, changes), device=device)
    console.print(headline(bench, folder, run_remark(folder)))
    chosen = getattr(bench.splits, part)
    count = min(samples or len(chosen), len(chosen))
    rows = torch.arange(count) * len(chosen) // count
    if exits:
        early_exit.check_exits(bench)
    early = None
    with watcher() as progress:
        asked = {"rows": rows, "ops": ops, "progress": progress}
        scores = score_over_time(bench, chosen, part, steps=wanted, **asked)
        if exits:
            left = early_exit.score_exits(bench, chosen, part, exits, **asked)
            latency = early_exit.step_latency(bench, chosen, part, rows=rows, ops=ops)
            early = exit_record(left, latency)
    record = {
        "run": str(folder),
        "data": bench.splits.name,
        "part": part,
        "trained_steps": bench.steps,
        "engine": engine_record(engine, machine),
    } | _record(scores, bench.splits)
    metrics = bench.task.metrics
    if early:
        record["early_exit"] = early
    of = "" if count == len(chosen) else f" of {len(chosen)}"
    console.print(f"{part} part of {bench.splits.name}, {count}{of} samples, one pass\n")
    console.print(_over_time(record, metrics, all_rows=wanted is not None))
    if reads_early(bench, chosen, part):
        print_note(
            console,
            f"note: encoder '{bench.recipe.encoder.name}' makes its code for T = {bench.steps}; "
            "row t above reads its first t steps, which is not the same as a run with T = t.",
        )
    if scores.by_class is not None:
        at = scores.at if bench.rule.facts.spiking else None
        console.print("\n" + _by_class(record, at))
    if early:
        console.print("\n" + exit_table(early, bench.steps, metrics[0]))
        if part == "test":
            print_note(
                console,
                "note: choose a margin with --part validation; a margin that is chosen from the "
                "rows above has no independent test.",
            )
    if machine is not None:
        console.print(engine_line(record["engine"]))
    write_result(json, record, console)


def _parse_steps(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        steps = ()
    good = bool(steps) and len(set(steps)) == len(steps)
    todo = "write e.g. 1,2,4,8"
    expect(good, "--steps", "different whole numbers, separated by commas", text, todo)
    for number in steps:
        at_least(1, "step", most=MOST_STEPS).check("--steps", number)
    return steps


def _other_data(folder: Path, name: str | None, changes: list[str] | None) -> "Splits | None":
    """Load the data that --data and --set ask for; None where they ask for nothing.

    Raises:
        ConfigError: a change of something else than the data.
    """
    from spikeloom.data import load_data
    from spikeloom.inference.opening import open_inputs, open_recipe
    from spikeloom.program.inputs import stated

    for change in changes or []:
        if not change.startswith("data."):
            raise ConfigError.of(
                "--set",
                "a change of the data, e.g. data.path=x.npz",
                f"'{change}'",
                "a trained net keeps the rest of its recipe",
            )
    if name is None and not changes:
        return None
    recipe = open_recipe(folder)
    own = recipe.data
    choice = {"name": own.name} | own.options if name in (None, own.name) else {"name": name}
    choice = changed({"data": choice}, changes)["data"]
    chosen = str(choice.pop("name"))
    options = stated(recipe, chosen, choice, open_inputs(folder, recipe))
    with addressed(f"data.{chosen}.", "data.", ConfigError):
        return load_data(chosen, **options)


def _record(scores: "OverTime", splits: "Splits") -> Record:
    from spikeloom.report.classes import shares

    record: Record = {
        "samples": scores.samples,
        "steps": list(scores.steps),
        **{name: list(values) for name, values in scores.metrics.items()},
        "loss": list(scores.loss),
        "spikes": list(scores.spikes),
        "at": scores.at,
    }
    if scores.confusion is None or scores.by_class is None:
        return record
    return record | {
        "classes": list(splits.labels) or None,
        "per_class": shares(*scores.by_class),
        "confusion": scores.confusion.tolist(),
    }


def _over_time(record: Record, metrics: Sequence[Metric], *, all_rows: bool) -> str:
    from spikeloom.report.table import to_text

    count = len(record["steps"])
    places = range(count)
    if not all_rows and count > MOST_ROWS:
        places = sorted({round(row * (count - 1) / (MOST_ROWS - 1)) for row in range(MOST_ROWS)})
    rows = [["t", *(f"{one.word} {one.unit}".strip() for one in metrics), "loss", "spikes"]]
    bars = [""]
    for row in places:
        t, loss = record["steps"][row], record["loss"][row]
        spikes = f"{record['spikes'][row]:,.0f}" if record["spikes"][-1] else "-"
        scores = [one.written(one.shown(record[one.name][row])) for one in metrics]
        rows.append([str(t), *scores, f"{loss:.4f}", spikes])
        mark = "  the run's T" if t == record["trained_steps"] and count > 1 else ""
        first = metrics[0]
        share = record[first.name][row] if first.of_samples else None
        bars.append(("" if share is None else "  " + bar(share)) + mark)
    return beside(to_text(to_left(rows, (0,))), bars)


def _by_class(record: Record, at: int | None) -> str:
    from spikeloom.report.classes import balanced_line, class_names
    from spikeloom.report.table import to_text

    confusion, shares = record["confusion"], record["per_class"]
    names = class_names(record["classes"] or [""] * len(confusion))
    whole = len(names) <= MOST_CLASSES
    when = "" if at is None else f" after {at} step{'s' if at > 1 else ''}"
    heads = [str(one) for one in range(len(names))] if whole else ["taken for"]
    rows = [["label", "samples", "right %", *heads]]
    order = range(len(names))
    if not whole:
        order = sorted(order, key=lambda one: 2.0 if shares[one] is None else shares[one])
        order = order[:MOST_CLASSES]
    for label in order:
        counts = confusion[label]
        share = shares[label]
        cells = [str(one) if one else "." for one in counts] if whole else [_wrong(counts, label)]
        rows.append(
            [
                names[label],
                str(sum(counts)),
                "-" if share is None else f"{units.percent(share):.2f}",
                *cells,
            ]
        )
    title = f"answers{when}, one row per label"
    title += ", one column per answer" if whole else f", the {MOST_CLASSES} worst of {len(names)}"
    samples = [sum(counts) for counts in confusion]
    right = [counts[label] for label, counts in enumerate(confusion)]
    below = balanced_line(right, samples)
    table = to_text(to_left(rows, () if whole else (3,)))
    return "\n".join([title, table, *([below] if below else [])])


def _wrong(counts: list[int], label: int) -> str:
    wrong = [one for one in range(len(counts)) if one != label and counts[one]]
    wrong.sort(key=lambda one: -counts[one])
    return ", ".join(f"{one} ({counts[one]})" for one in wrong[:3]) or "-"
