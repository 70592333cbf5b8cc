"""Answers over time: what the first 1, 2, ... T steps of one pass say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.memory import in_words, total_bytes
from spikeloom.base.types import Batch
from spikeloom.data import Samples
from spikeloom.inference.evaluate import EVALUATION_BATCH, Judged, added
from spikeloom.meters.spikes import spike_counts
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.walk.state import NetState
from spikeloom.nets.walk.walk import is_constant
from spikeloom.program.batching import batches
from spikeloom.program.faults import check_loss
from spikeloom.program.setup import Workbench
from spikeloom.records.progress import SILENT, Progress


@dataclass(frozen=True)
class Answers:
    """Answers of a batch after some numbers of steps.

    Shape:
        logits: [S, B, K]; spikes: [S, B], emitted by the net until then.
    """

    steps: tuple[int, ...]
    logits: Tensor
    spikes: Tensor


@dataclass(frozen=True)
class OverTime(Judged):
    """Scores after some numbers of steps, from one pass.

    Args:
        steps: after how many.
        metrics: of the task at each, by name.
        loss: mean loss of the answers at each, the task's.
        spikes: mean number of spikes per inference until each.
        at: the steps that `confusion` stands for: the run's T, or the last evaluated below it.
        confusion: how often a label was given an answer; None for tasks without classes.
        samples: how many.

    Shape:
        confusion: [K, K], labels first.
    """

    steps: tuple[int, ...]
    metrics: Mapping[str, tuple[float, ...]]
    loss: tuple[float, ...]
    spikes: tuple[float, ...]
    at: int
    confusion: Tensor | None
    samples: int

    @property
    def by_class(self) -> tuple[list[int], list[int]] | None:
        """Right answers after `at` steps and samples of each class; None without classes."""
        table = self.confusion
        return None if table is None else (table.diagonal().tolist(), table.sum(1).tolist())


@torch.no_grad()
def answers(bench: Workbench, batch: Batch, steps: Sequence[int], ops: Ops = PLAIN) -> Answers:
    r"""Run a batch once and read the answer after each number of steps.

    The answer after t steps is the head's of the features of the first t. A net is causal, so it
    equals that of a run of t steps wherever the encoder's code of t steps is the beginning of its
    longer one. Blocks that read the time mean run again for each t, on the mean so far.

    Args:
        bench: what to run.
        batch: encoded for max(steps) or more.
        steps: rising, from 1 to the batch's.
        ops: how synapses are computed, e.g. those of an `EventEngine`.
    """
    net, head = bench.net.eval(), bench.head.eval()
    counter = _Counter(batch)
    with bench.fabric.autocast():
        with net.observe(counter):
            hs = _features(net, batch, ops)
        parts = (hs[:t] if net.spec.tail is None else net.finish(hs[:t], ops) for t in steps)
        logits = torch.stack([head.logits(head.reduced(part), ops) for part in parts])
    return Answers(tuple(steps), logits, counter.until(steps))


def score_over_time(
    bench: Workbench,
    samples: Samples,
    part: str,
    *,
    steps: Sequence[int] | None = None,
    rows: Tensor | None = None,
    ops: Ops = PLAIN,
    progress: Progress = SILENT,
) -> OverTime:
    """Score the answers after each number of steps, all from one pass over the samples.

    Args:
        bench: what to run.
        samples: on what.
        part: name of the part; its random streams are its own, as in `evaluate`.
        steps: after how many; None for every one up to the run's T.
        rows: the samples to take; None for all.
        ops: how synapses are computed, e.g. those of an `EventEngine`.
        progress: receives the number of samples done.

    Raises:
        ConfigError: steps that the encoder or a net without time cannot give.
        NumericalError: a loss is not finite.

    Shape:
        rows: [N].
    """
    chosen = check_steps(bench, samples, part, steps)
    longer = replace(bench, steps=max(bench.steps, chosen[-1]))
    rows = torch.arange(len(samples)) if rows is None else rows
    task = bench.task
    sums: list[list[float]] = [[] for _ in chosen]
    losses = torch.zeros(len(chosen), dtype=torch.float64)
    spikes, confusion = torch.zeros_like(losses), None
    at = max(t for t in chosen if t <= bench.steps or t == chosen[0])
    progress.phase(part, len(rows))
    for places in batches(len(rows), EVALUATION_BATCH, None):
        batch = longer.batch(samples, rows[places], epoch=0, part=part)
        given = answers(bench, batch, chosen, ops)
        target = batch.target
        flat, wanted = given.logits.flatten(0, 1), torch.cat([target] * len(chosen))
        loss = task.losses(flat, wanted).view(len(chosen), -1).sum(1)
        for one in loss.tolist():
            check_loss(bench, batch, part, one)
        losses += loss.double().cpu()
        for row, one in enumerate(given.logits):
            sums[row] = added(sums[row], task.sums(one, target))
        spikes += given.spikes.sum(1).cpu()
        table = task.confusion(given.logits[chosen.index(at)], target)
        if table is not None:
            confusion = table if confusion is None else confusion + table
        progress.advance(len(places))
    progress.close()
    count, figures = len(rows), [task.figures(one) for one in sums]
    return OverTime(
        chosen,
        {one.name: tuple(row[one.name] for row in figures) for one in task.metrics},
        tuple((losses / count).tolist()),
        tuple((spikes / count).tolist()),
        at,
        confusion,
        count,
    )


def predict_over_time(
    bench: Workbench, samples: Samples, *, progress: Progress = SILENT
) -> tuple[Tensor, Tensor]:
    """Return the answers to samples without labels after 1, 2, ... T steps.

    Draws of a random code depend on a sample's row in `samples` alone.

    Returns:
        Probabilities of the classes, or the answers themselves for a task without classes, and the
        spikes of the net until each step.

    Shape:
        answers: [N, T, K]; spikes: [N, T].
    """
    steps = range(1, bench.steps + 1)
    found, spikes = [], []
    for index in batches(len(samples), EVALUATION_BATCH, None):
        given = answers(bench, bench.batch(samples, index, epoch=0, part="predict"), steps)
        values = given.logits.softmax(2) if bench.task.labels else given.logits
        found.append(values.transpose(0, 1).cpu())
        spikes.append(given.spikes.T.cpu())
        progress.advance(len(index))
    return torch.cat(found), torch.cat(spikes)


def check_steps(
    bench: Workbench, samples: Samples, part: str, steps: Sequence[int] | None
) -> tuple[int, ...]:
    """Return the numbers of steps to read, rising; those of the run where None are given.

    More steps than the run was trained with are given only where the longer code begins with the
    shorter one, so that its answers are those of a longer run.

    Raises:
        ConfigError: a number below 1, steps for a net without time, beyond a code that depends on
            T, or more than memory holds.
        ShapeError: the data have their own time axis and end before.
    """
    trained = bench.steps
    chosen = tuple(sorted(set(range(1, trained + 1) if steps is None else steps)))
    if not chosen or chosen[0] < 1:
        raise ConfigError.of("steps", "numbers of 1 or more", list(steps or ()), "fix it")
    if not bench.rule.facts.spiking and chosen != (1,):
        raise ConfigError.of(
            "steps",
            f"none for a net without time (rule '{bench.stage.rule.name}')",
            list(chosen),
            "leave them out",
        )
    if chosen[-1] > trained:
        _check_room(bench, min(EVALUATION_BATCH, len(samples)), chosen[-1])
    if chosen[-1] > trained and not begins_alike(bench, samples, part, trained, chosen[-1]):
        raise ConfigError.of(
            "steps",
            f"{trained} at most, since the code of encoder '{bench.recipe.encoder.name}' "
            "changes with T",
            chosen[-1],
            "lower them",
        )
    return chosen


def _check_room(bench: Workbench, samples: int, steps: int) -> None:
    """Refuse steps for which the train of the widest layer alone would not fit.

    Raises:
        ConfigError: a batch needs more memory than the device has, whatever else uses it.
    """
    widest = max((prod(site.out_shape) for site in bench.net.sites), default=0)
    needed, room = steps * samples * widest * bench.dtype.itemsize, total_bytes(bench.fabric.device)
    if room is not None and needed > room:
        raise ConfigError.of(
            "steps",
            f"what fits into the {in_words(room)} of {bench.fabric.device}",
            f"{in_words(needed)} for one layer of {samples} samples at T = {steps}",
            "take fewer steps or samples",
        )


def begins_alike(bench: Workbench, samples: Samples, part: str, shorter: int, longer: int) -> bool:
    """Whether the encoder's code of `longer` steps begins with that of `shorter`.

    It is tried out on the first samples: constant and Poisson code do (the latter on a CPU, whose
    random numbers come in order), latency code does not.

    Raises:
        ShapeError: the encoder cannot give as many steps.
    """
    index = torch.arange(min(8, len(samples)))
    short, long = (
        replace(bench, steps=steps).batch(samples, index, epoch=0, part=part).xs
        for steps in (shorter, longer)
    )
    return torch.equal(short, long[:shorter])


def reads_early(bench: Workbench, samples: Samples, part: str) -> bool:
    """Whether answers before T are early readings of a code made for T steps.

    They then differ from those of a run with fewer steps. Data with their own time axis are read
    early too, but a shorter recording is the same thing.
    """
    if bench.steps == 1:
        return False
    try:
        return not begins_alike(bench, samples, part, bench.steps - 1, bench.steps)
    except ShapeError:
        return False


def settled(tops: Sequence[int]) -> int:
    """Return the first row from which on all answers are the last one.

    Example:
        >>> settled([8, 3, 8, 8])
        2
    """
    row = len(tops) - 1
    while row > 0 and tops[row - 1] == tops[-1]:
        row -= 1
    return row


def _features(net: SpikingNet, batch: Batch, ops: Ops) -> Tensor:
    """Return the train of features, before the blocks that read the time mean."""
    if net.spec.tail is None:
        return net(batch.xs, rng=batch.rng, ops=ops)
    xs = batch.xs
    held = net.hold(xs[0], ops, steps=len(xs), rng=batch.rng) if is_constant(xs) else None
    state: NetState | None = None
    features = []
    for x in xs.unbind(0):
        h, state = net.step(x, state, ops, rng=batch.rng, held=held)
        features.append(h)
    return torch.stack(features)


class _Counter:
    """Observer that counts the spikes of every step and sample."""

    def __init__(self, batch: Batch) -> None:
        self._counts = torch.zeros(
            (batch.steps, batch.size), dtype=torch.int64, device=batch.xs.device
        )
        self._seen: dict[str, int] = {}

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        if site.unit is None or not site.unit.spiking:
            return
        start = self._seen.get(site.name, 0)
        self._seen[site.name] = end = start + len(s_out)
        self._counts[start:end] += spike_counts(s_out.flatten(2), 2)

    def until(self, steps: Sequence[int]) -> Tensor:
        """Return the spikes until each number of steps, [S, B]."""
        return self._counts.cumsum(0)[[t - 1 for t in steps]]
