"""Evaluation: the metrics of a task and its loss on held-out samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikeloom.base.errors import NumericalError
from spikeloom.base.types import Batch
from spikeloom.data import Samples
from spikeloom.heads.base import Head
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.program.batching import batches
from spikeloom.program.faults import check_loss
from spikeloom.program.setup import Workbench
from spikeloom.records.progress import SILENT, Progress

EVALUATION_BATCH = 256


class Judged:
    """What was judged by the metrics of a task: each of them is an attribute, too."""

    metrics: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        """Return a metric by its name, e.g. ``score.accuracy``.

        Raises:
            AttributeError: the task has none of that name.
        """
        if name != "metrics" and name in self.metrics:  # a copy in the making has no metrics yet
            return self.metrics[name]
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'", name=name)


@dataclass(frozen=True)
class Score(Judged):
    """Result of one evaluation.

    Args:
        metrics: of the task, by name.
        loss: of the answers, the mean over samples.
        samples: how many.
        figures: of the head, by name; means over samples.
    """

    metrics: Mapping[str, float]
    loss: float
    samples: int
    figures: dict[str, float] = field(default_factory=dict)


def predict(bench: Workbench, batch: Batch, ops: Ops = PLAIN) -> tuple[Tensor, Tensor]:
    """Return features and logits of a batch, at the run's precision.

    Args:
        bench: what to run.
        batch: on what.
        ops: how synapses are computed, e.g. those of an `EventEngine`.

    Shape:
        features: [T, B, D]; logits: [B, K].
    """
    with bench.fabric.autocast():
        features = bench.net(batch.xs, rng=batch.rng, ops=ops)
        return features, bench.head.logits(bench.head.reduced(features), ops)


@torch.no_grad()
def evaluate(
    bench: Workbench,
    samples: Samples,
    part: str,
    *,
    watch: Progress = SILENT,
    poll: Callable[[], None] = lambda: None,
    ops: Ops = PLAIN,
) -> Score:
    """Run the net on samples and judge its answers as the task says.

    The loss is that of the task, whatever the head trains with. Several processes share the
    samples.

    Args:
        bench: what to run.
        samples: on what.
        part: name of the part; its random streams are its own, and the same at every call.
        watch: receives the number of samples done.
        poll: called between batches; may raise to stop.
        ops: how synapses are computed, e.g. those of an `EventEngine`.

    Raises:
        NumericalError: the loss is not finite.
    """
    bench.net.eval()
    bench.head.eval()
    team, fault = bench.team, None
    task, total = bench.task, 0.0
    sums: list[float] = []
    figures: dict[str, float] = {}
    watch.phase(part, len(samples))
    for whole in batches(len(samples), EVALUATION_BATCH, None):
        poll()
        index = team.share(whole)
        if len(index) and fault is None:  # the others are waited for at every poll
            batch = bench.batch(samples, index, epoch=0, part=part)
            features, logits = predict(bench, batch, ops)
            for name, value in _figures(bench, features, batch, ops).items():
                figures[name] = figures.get(name, 0.0) + value * batch.size
            sums = added(sums, task.sums(logits, batch.target))
            loss = task.loss(logits, batch.target)
            try:
                check_loss(bench, batch, part, loss)
            except NumericalError as error:
                fault = error
            total += loss
        watch.advance(len(whole), **(task.figures(sums) if sums else {}))
    team.agree(fault)
    total, sums = team.total(total), added(*team.gather(sums))
    parts = team.gather(figures)  # a process without samples has none
    means = {
        name: sum(part.get(name, 0.0) for part in parts) / len(samples)
        for name in dict.fromkeys(name for part in parts for name in part)
    }
    return Score(task.figures(sums), total / len(samples), len(samples), means)


def added(*sums: Sequence[float]) -> list[float]:
    """Return the sums of all samples from those of some each; [] are the sums of none."""
    return [sum(parts) for parts in zip(*(one for one in sums if one), strict=True)]


def _figures(bench: Workbench, features: Tensor, batch: Batch, ops: Ops) -> dict[str, float]:
    head = bench.head
    if type(head).figures is Head.figures:
        return {}
    with bench.fabric.autocast():
        figures = head.figures(head.reduced(features), batch.target, ops)
    return {name: float(value) for name, value in figures.items()}
