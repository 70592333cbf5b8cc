"""``spikeloom bench``: what a training step costs beside its limit and beside other libraries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from spikeloom.base.errors import ConfigError, Stopped
from spikeloom.cli.console import plain_console, print_note, to_left
from spikeloom.cli.progress import watcher
from spikeloom.cli.runs import Json, write_result

if TYPE_CHECKING:
    from spikeloom.bench.plan import Plan
    from spikeloom.bench.result import Result


def bench(
    workloads: Annotated[
        str | None,
        typer.Option(help="Names, separated by commas; default: conv,mlp,vgg11-ws,long."),
    ] = None,
    contenders: Annotated[
        str | None, typer.Option(help="Names, or ours, peers; default: all. Floors always run.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or both.")] = "fp32,bf16",
    rounds: Annotated[int | None, typer.Option(help="Turns of each contender; default: 7.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps per turn; default: 5.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; default: all cores.")] = None,
    growth: Annotated[
        bool, typer.Option(help="Also measure time and memory against T and B.")
    ] = True,
    python: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH: run a contender, or all peers, under another interpreter."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Small sizes, to test that everything runs.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write a dated page: a folder, or a file .md.")
    ] = None,
    json: Json = None,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Time training steps, and compare them with the ReLU net and with other libraries.

    Every contender runs in a process of its own; all take turns. Ctrl-C ends it and shows what was
    measured so far (exit code 130).
    """
    if out is not None and out.suffix not in ("", ".md"):
        raise ConfigError.of(f"--out {out}", "a folder or a file .md", "neither", "change it")
    from spikeloom.bench.machine import usable_cores
    from spikeloom.bench.page import write_page
    from spikeloom.bench.plan import (
        Plan,
        chosen_contenders,
        chosen_precisions,
        chosen_pythons,
        chosen_workloads,
    )
    from spikeloom.bench.result import run

    plan = Plan(
        workloads=chosen_workloads(workloads, quick=quick),
        contenders=chosen_contenders(contenders),
        precisions=chosen_precisions(precision),
        rounds=_number(rounds, 2 if quick else 7),
        steps=_number(steps, 2 if quick else 5),
        threads=_number(threads, usable_cores()),
        pythons=chosen_pythons(python or ()),
        growth=growth,
        quick=quick,
    )
    console = plain_console()
    with watcher(quiet=quiet) as progress:
        result = run(plan, progress)
    _show(console, plan, result)
    write_result(json, result.to_dict(), console)
    if out is not None:
        console.print(f"written: {write_page(out, plan, result)}")
    if result.stopped:
        raise Stopped("stopped: the rest was not measured.")


def _show(console: Console, plan: "Plan", result: "Result") -> None:
    from spikeloom.bench.page import NOTE, QUICK_NOTE, sections
    from spikeloom.report.table import in_parts, to_text

    width = console.width if console.is_terminal else None
    for section in sections(plan, result):
        console.print(f"\n{section.title}\n", style="bold")
        for line in section.lines:
            print_note(console, line)
        for rows in section.tables:
            parts = in_parts(to_left(rows, section.left), width)
            console.print("\n\n".join(to_text(part) for part in parts))
    console.print()
    print_note(console, QUICK_NOTE if plan.quick else NOTE)


def _number(given: int | None, default: int) -> int:
    return default if given is None else given
