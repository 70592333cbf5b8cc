"""Evaluation: accuracy and loss on held-out samples."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
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


@dataclass(frozen=True)
class Score:
    """Result of one evaluation: shares, losses and the head's figures, as means over samples."""

    accuracy: float
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
    """Run the net on samples and compare its predictions with the labels.

    The loss is the cross entropy of the head's prediction, whatever the head trains with. Several
    processes share the samples.

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
    hits, total, seen = 0, 0.0, 0
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
            hits += int((logits.argmax(1) == batch.target).sum())
            loss = float(F.cross_entropy(logits, batch.target, reduction="sum"))
            try:
                check_loss(bench, batch, part, loss)
            except NumericalError as error:
                fault = error
            total += loss
            seen += len(index)
        watch.advance(len(whole), accuracy=hits / max(1, seen))
    team.agree(fault)
    sums = team.sums(hits, total)
    parts = team.gather(figures)  # a process without samples has none
    means = {
        name: sum(part.get(name, 0.0) for part in parts) / len(samples)
        for name in dict.fromkeys(name for part in parts for name in part)
    }
    return Score(sums[0] / len(samples), sums[1] / len(samples), len(samples), means)


def _figures(bench: Workbench, features: Tensor, batch: Batch, ops: Ops) -> dict[str, float]:
    head = bench.head
    if type(head).figures is Head.figures:
        return {}
    with bench.fabric.autocast():
        figures = head.figures(head.reduced(features), batch.target, ops)
    return {name: float(value) for name, value in figures.items()}
