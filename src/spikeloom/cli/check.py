"""``spikeloom check``: check a part of your own against what the library requires."""

from collections import Counter
from typing import Annotated

import typer
from rich.text import Text

from spikeloom.cli.console import plain_console

check = typer.Typer(no_args_is_help=True, help="Check your own parts against the common battery.")

STYLES = {"ok": "green", "failed": "bold red", "skipped": "dim"}


@check.command("rule")
def check_rule(
    what: Annotated[
        str, typer.Argument(help="Name of a rule, or a Python file, e.g. ./my_rule.py.")
    ],
) -> None:
    """Run the common battery on a learning rule; one line per check, then one per cause.

    A file is imported, so its code runs: check only files you trust.

    Exit code 1 if a check fails.
    """
    from spikeloom.check.battery import run_battery
    from spikeloom.check.causes import Finding, causes
    from spikeloom.check.find import find_cases
    from spikeloom.check.gradients import describe

    console = plain_console()
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    for case in find_cases(what):
        console.print(f"{case.name}: {case}", style="bold")
        for result in run_battery(case):
            counts[result.outcome] += 1
            findings += result.findings
            word = result.outcome.upper() if result.outcome == "failed" else result.outcome
            reason = f": {result.skipped}" if result.skipped else ""
            line = Text(f"  {word:8}", STYLES[result.outcome]).append(result.check + reason, "")
            console.print(line)
        console.print(f"  cosine of its gradient with BPTT's, by layer: {describe(case)}")
    for number, cause in enumerate(causes(findings), start=1):
        lines = str(cause).replace("\n", "\n   ")
        console.print(Text(f"\n{number}. {lines}"))
    console.print(", ".join(f"{counts[outcome]} {outcome}" for outcome in STYLES))
    if counts["failed"]:
        raise typer.Exit(1)
