"""``spikeloom predict``: a user's own files through a trained net, step by step."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spikeloom.base.checks import at_least
from spikeloom.base.errors import SpikeloomError
from spikeloom.cli.console import bar, beside, plain_console, to_left
from spikeloom.cli.plain import say_error
from spikeloom.cli.progress import watcher
from spikeloom.cli.runs import Device, Json, check_device, headline, run_remark, write_result
from spikeloom.records import units

if TYPE_CHECKING:
    from torch import Tensor

    from spikeloom.inference.opening import Inputs
    from spikeloom.program.setup import Workbench

MOST_ROWS = 40
"""Samples of one file that are printed; all are in the JSON."""

LEFT = ("answer", "next", "over t", "final")
"""Columns of text."""

SPARKS = "▁▂▃▄▅▆▇█"

Record = dict[str, Any]


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Images, recordings, or arrays in .npy or .npz."),
    ],
    top: Annotated[int, typer.Option(help="Number of answers to show.")] = 3,
    over_time: Annotated[bool, typer.Option(help="Print the answer after every step.")] = False,
    invert: Annotated[
        bool, typer.Option(help="Turn light into dark, e.g. black ink on white paper.")
    ] = False,
    device: Device = None,
    json: Json = None,
) -> None:
    """Predict the class, or the numbers, of files with a trained net.

    Files that cannot be read are named; the others are predicted, and the exit code is 1.
    """
    check_device(device)
    at_least(1).check("--top", top)
    from spikeloom.inference.opening import find_run, open_inputs, open_run
    from spikeloom.report.classes import class_names

    folder = find_run(run)
    console = plain_console()
    bench = open_run(folder, data=False, device=device)
    inputs = open_inputs(folder, bench.recipe)
    rows: list[Record] = []
    faults: list[SpikeloomError] = []
    with watcher() as progress:
        progress.phase("predict", len(files), "files")
        for path in files:
            try:
                rows += _predicted(bench, inputs, path, invert=invert)
            except SpikeloomError as error:
                faults.append(error)
            progress.advance(1)
    names = class_names(inputs.labels or [""] * inputs.classes) if bench.task.labels else None
    if rows:
        console.print(headline(bench, folder, run_remark(folder)) + "\n")
        console.print(_table(rows, names, top))
        if over_time:
            console.print("\n" + _course(rows, names))
    for fault in faults[:-1] if not rows else faults:
        say_error(str(fault))
    if rows:
        labels = list(inputs.labels) or None
        write_result(json, {"run": str(folder), "classes": labels, "predictions": rows}, console)
    if faults and not rows:
        raise faults[-1]
    if faults:
        raise typer.Exit(1)


def _predicted(
    bench: "Workbench", inputs: "Inputs", path: Path, *, invert: bool
) -> Iterator[Record]:
    from spikeloom.inference.files import read_file, recordings_of
    from spikeloom.inference.over_time import predict_over_time

    given = read_file(path, inputs, invert=invert, recording=recordings_of(bench.recipe))
    found, spikes = predict_over_time(bench, given.samples)
    said = _of_classes if bench.task.labels else _of_numbers
    for row, (answers, counts) in enumerate(zip(found, spikes, strict=True)):
        about = {"file": str(given.path), "row": None if given.single else row}
        yield about | {"notes": list(given.notes)} | said(answers) | {"spikes": counts.tolist()}


def _of_classes(probabilities: "Tensor") -> Record:
    from spikeloom.inference.over_time import settled

    tops = probabilities.argmax(1).tolist()
    return {
        "answer": tops[-1],
        "probability": float(probabilities[-1, tops[-1]]),
        "final_from": settled(tops) + 1,
        "answers": tops,
        "probabilities": probabilities.tolist(),
    }


def _of_numbers(answers: "Tensor") -> Record:
    return {"answer": answers[-1].tolist(), "answers": answers.tolist()}


def _table(rows: list[Record], names: list[str] | None, top: int) -> str:
    """Lay out one line per sample; without names of classes, answers are numbers."""
    from spikeloom.report.table import to_text

    timed = len(rows[0]["answers"]) > 1
    others = ["next"] if top > 1 else []
    course = ["over t", "final"] if timed else []
    beside = [] if names is None else ["%", *others, *course]
    cells = [["file", "answer", *beside, "spikes"]]
    shown: dict[str, int] = {}
    lines: dict[str, str] = {}
    for row in rows:
        shown[row["file"]] = shown.get(row["file"], 0) + 1
        if shown[row["file"]] <= MOST_ROWS:
            cells.append(_line(row, names, top, timed=timed))
        for note in row["notes"]:
            lines[f"{row['file']}: {note}"] = ""
    text = to_text(to_left(cells, [cells[0].index(one) for one in LEFT if one in cells[0]]))
    hidden = [
        f"{file}: {count - MOST_ROWS} more samples, see --json"
        for file, count in shown.items()
        if count > MOST_ROWS
    ]
    return "\n".join([text, *([""] if lines or hidden else []), *hidden, *lines])


def _course(rows: list[Record], names: list[str] | None) -> str:
    """Lay out the answer after every step, one block per sample."""
    from spikeloom.report.table import to_text

    blocks = []
    for row in rows[:MOST_ROWS]:
        share = [] if names is None else ["%"]
        cells, bars = [["t", "answer", *share, "spikes"]], [""]
        for t, answer in enumerate(row["answers"]):
            spikes = f"{row['spikes'][t]:,}"
            if names is None:
                cells.append([str(t + 1), _numbers(answer), spikes])
                bars.append("")
                continue
            share = row["probabilities"][t][answer]
            cells.append([str(t + 1), names[answer], f"{units.percent(share):.1f}", spikes])
            bars.append("  " + bar(share))
        blocks.append(f"{_label(row)}\n{beside(to_text(to_left(cells, (1,))), bars)}")
    return "\n\n".join(blocks)


def _line(row: Record, names: list[str] | None, top: int, *, timed: bool) -> list[str]:
    spikes = f"{row['spikes'][-1]:,}" if row["spikes"][-1] else "-"
    if names is None:
        return [_label(row), _numbers(row["answer"]), spikes]
    last = row["probabilities"][-1]
    order = sorted(range(len(last)), key=lambda one: -last[one])
    order.remove(row["answer"])
    line = [_label(row), names[row["answer"]], f"{units.percent(row['probability']):.1f}"]
    if top > 1:
        others = order[: top - 1]
        line.append(", ".join(f"{names[one]} {units.percent(last[one]):.1f}" for one in others))
    if timed:
        line += [_forming(row), f"from t = {row['final_from']}"]
    return [*line, spikes]


def _forming(row: Record) -> str:
    """Draw the probability of each step's answer, and name the answers as they change."""
    answers = row["answers"]
    shares = [row["probabilities"][t][answer] for t, answer in enumerate(answers)]
    sparks = "".join(SPARKS[min(7, int(share * 8))] for share in shares)
    turns = [one for t, one in enumerate(answers) if t == 0 or answers[t - 1] != one]
    path = " → ".join(map(str, turns[-3:]))
    return f"{sparks} {'… → ' if len(turns) > 3 else ''}{path}"


def _numbers(answer: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in answer)


def _label(row: Record) -> str:
    return row["file"] if row["row"] is None else f"{row['file']}[{row['row']}]"
