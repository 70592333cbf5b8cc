"""Early exit: a sample leaves as soon as its answer is clear."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from spikeloom.base.checks import at_least
from spikeloom.base.errors import ConfigError
from spikeloom.base.fields import Checked
from spikeloom.base.types import Batch
from spikeloom.data import Samples
from spikeloom.heads.stream import Stream
from spikeloom.inference.evaluate import EVALUATION_BATCH, Judged, added
from spikeloom.meters.clock import Timing, rounds_for, stopwatch, time_interleaved
from spikeloom.meters.spikes import spike_counts
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.walk.walk import is_constant
from spikeloom.program.batching import batches
from spikeloom.program.setup import Workbench
from spikeloom.records.progress import SILENT, Progress

ExitBy = Literal["margin", "confidence", "logit"]

LATENCY_SAMPLES = 8
"""Samples whose steps are timed, one sample at a time."""

EXIT_ROUNDS = 9
"""Timed runs of one batch for each way to leave, where they are short."""

EXIT_SECONDS = 4.0
"""Seconds for measuring the times of early exit, beyond their fewest rounds."""


@dataclass(frozen=True)
class Exit(Checked):
    """When a sample leaves: at the first step at which its answer is at least so clear.

    Args:
        level: least clearness; None keeps all samples until the last step.
        by: the measure, see `clearness`.

    Raises:
        ConfigError: a level below 0 or not finite, or no such measure.
    """

    level: Annotated[float, at_least(0)] | None
    by: ExitBy = "margin"

    called: ClassVar[str] = "exit"


@dataclass(frozen=True)
class Exits:
    """Answers of a batch, each given when it was clear.

    Shape:
        logits: [B, K]; steps, spikes: [B], until the sample left.
    """

    logits: Tensor
    steps: Tensor
    spikes: Tensor


@dataclass(frozen=True)
class ExitScore(Judged):
    """What leaving early costs and saves.

    Args:
        exit: when samples left.
        metrics: of the task, by name.
        steps: mean number of steps.
        spikes: mean number of spikes per inference.
        seconds: per sample of one batch, of net and head, by rounds.
    """

    exit: Exit
    metrics: Mapping[str, float]
    steps: float
    spikes: float
    seconds: Timing


def clearness(logits: Tensor, by: ExitBy = "margin") -> Tensor:
    r"""Return how clear answers are.

    - "margin": probability of the best class minus that of the second
    - "confidence": probability of the best class (SEENN-I)
    - "logit": logit of the best class minus that of the second

    Shape:
        logits: [B, K]; result: [B].

    Source:
        Li et al. 2023 (SEENN, NeurIPS) for the confidence; the margin is the usual difference of
        the two best.

    Example:
        >>> clearness(torch.tensor([[2.0, 2.0, -50.0]])).item()
        0.0
    """
    values = logits if by == "logit" else logits.softmax(1)
    best, second = values.topk(2, dim=1).values.unbind(1)
    return best if by == "confidence" else best - second


@torch.no_grad()
def run_until(bench: Workbench, batch: Batch, leave: Exit, *, ops: Ops = PLAIN) -> Exits:
    """Run a batch in time order; samples leave it once their answer is clear.

    The batch gets smaller with them, so a step costs what its samples cost.

    Args:
        bench: net and head.
        batch: encoded for the most steps that are allowed.
        leave: when a sample leaves.
        ops: how synapses are computed.
    """
    net, head = bench.net.eval(), bench.head.eval()
    counter = _Counter(batch)
    stream = Stream(net, head, ops)
    xs = batch.xs
    inside = torch.arange(batch.size, device=xs.device)
    logits = torch.empty(batch.size, head.classes, dtype=bench.dtype, device=xs.device)
    steps = torch.full((batch.size,), batch.steps, device=xs.device)
    spikes = torch.zeros(batch.size, dtype=torch.int64, device=xs.device)
    with bench.fabric.autocast(), net.observe(counter):
        constant = is_constant(xs) and batch.steps > 1
        state = stream.start(xs[0] if constant else None)
        for t in range(1, batch.steps + 1):
            frame = xs[t - 1] if len(inside) == batch.size else xs[t - 1][inside]
            here, state = stream.step(frame, state)
            here = here.to(logits.dtype)
            spikes[inside] += counter.take()
            logits[inside] = here
            if leave.level is None or t == batch.steps:
                continue
            clear = clearness(here, leave.by) >= leave.level
            if not clear.any():
                continue
            steps[inside[clear]] = t
            rest = (~clear).nonzero().flatten()
            if not len(rest):
                break
            inside, state = inside[rest], state.pick(rest)
            counter.pick(rest)
    return Exits(logits, steps, spikes)


def score_exits(
    bench: Workbench,
    samples: Samples,
    part: str,
    exits: Sequence[Exit],
    *,
    rows: Tensor | None = None,
    ops: Ops = PLAIN,
    progress: Progress = SILENT,
) -> tuple[ExitScore, ...]:
    """Score several ways to leave early, each in a run of its own.

    A level that is to be used must be chosen on the validation part: chosen on the test part, its
    score there is no estimate any more.

    Args:
        bench: what to run.
        samples: on what.
        part: name of the part; its random streams are its own, as in `evaluate`.
        exits: when samples leave.
        rows: the samples to take; None for all.
        ops: how synapses are computed.
        progress: receives the number of samples done.

    Raises:
        ConfigError: a net without time.

    Shape:
        rows: [N].
    """
    check_exits(bench)
    rows = torch.arange(len(samples)) if rows is None else rows
    sums = torch.zeros(len(exits), 2, dtype=torch.float64)
    judged: list[list[float]] = [[] for _ in exits]
    timed: list[Timing] = []
    progress.phase(f"{part}, early exit", len(rows))
    for places in batches(len(rows), EVALUATION_BATCH, None):
        batch = bench.batch(samples, rows[places], epoch=0, part=part)
        for number, leave in enumerate(exits):
            done = run_until(bench, batch, leave, ops=ops)
            judged[number] = added(judged[number], bench.task.sums(done.logits, batch.target))
            row = [float(done.steps.sum()), float(done.spikes.sum())]
            sums[number] += torch.tensor(row, dtype=torch.float64)
        if not timed:
            timed = _time_exits(bench, batch, exits, ops)
        progress.advance(len(places))
    progress.close()
    means = (sums / len(rows)).tolist()
    return tuple(
        ExitScore(leave, bench.task.figures(row), steps, spikes, seconds)
        for leave, row, (steps, spikes), seconds in zip(exits, judged, means, timed, strict=True)
    )


def _time_exits(bench: Workbench, batch: Batch, exits: Sequence[Exit], ops: Ops) -> list[Timing]:
    """Time the ways to leave on one batch, in turn; every one has run on it before."""
    calls = {
        str(number): partial(run_until, bench, batch, leave, ops=ops)
        for number, leave in enumerate(exits)
    }
    longest = stopwatch(next(iter(calls.values())))
    rounds = rounds_for(len(exits) * longest, most=EXIT_ROUNDS, budget=EXIT_SECONDS)
    times = time_interleaved(calls, rounds).values()
    return [timing.map(lambda seconds: seconds / batch.size) for timing in times]


def check_exits(bench: Workbench) -> None:
    """Refuse a net without time, and answers that are no scores of classes.

    Raises:
        ConfigError: the rule trains a net without time steps, or the task has no classes.
    """
    if not bench.task.labels:
        raise ConfigError.of(
            "exit",
            "a task with classes, whose answers are more or less clear",
            f"task '{bench.recipe.task.name}'",
            "leave early exit out",
        )
    if not bench.rule.facts.spiking:
        raise ConfigError.of(
            "exit",
            "a net with time",
            f"rule '{bench.stage.rule.name}' without",
            "leave early exit out",
        )


@torch.no_grad()
def step_latency(
    bench: Workbench, samples: Samples, part: str, *, rows: Tensor, ops: Ops = PLAIN
) -> Timing:
    """Time each step from one frame of one sample to its logits.

    The first sample warms up and is not counted, where there are more.

    Shape:
        rows: [N], from which a few are taken.
    """
    stream = Stream(bench.net.eval(), bench.head.eval(), ops)
    spent: list[float] = []
    for number, row in enumerate(rows[: LATENCY_SAMPLES + 1]):
        if number == 1:
            spent.clear()
        batch = bench.batch(samples, row.unsqueeze(0), epoch=0, part=part)
        with bench.fabric.autocast():
            state = stream.start()
            for frame in batch.xs.unbind(0):
                start = time.perf_counter()
                logits, state = stream.step(frame, state)
                logits.argmax(1).item()  # waits for the device
                spent.append(time.perf_counter() - start)
    return Timing(tuple(spent))


class _Counter:
    """Observer that counts the spikes of each sample that is still inside."""

    def __init__(self, batch: Batch) -> None:
        self._counts = torch.zeros(batch.size, dtype=torch.int64, device=batch.xs.device)

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        if site.unit is not None and site.unit.spiking:
            self._counts += spike_counts(s_out[0].flatten(1), 1)

    def take(self) -> Tensor:
        """Return the counts since the last call."""
        counts, self._counts = self._counts, torch.zeros_like(self._counts)
        return counts

    def pick(self, rows: Tensor) -> None:
        """Go on with some samples only."""
        self._counts = self._counts[rows]
