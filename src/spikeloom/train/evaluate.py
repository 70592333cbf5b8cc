"""Evaluation: accuracy and loss on samples that chose nothing."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.types import Batch
from spikeloom.data import Samples
from spikeloom.train.faults import check_loss
from spikeloom.train.setup import Workbench, batches

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Score:
    """Result of one evaluation: shares and losses per sample."""

    accuracy: float
    loss: float
    samples: int


def predict(bench: Workbench, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return features and logits of a batch, at the run's precision.

    Shape:
        features: [T, B, D]; logits: [B, K].
    """
    with bench.fabric.autocast():
        features = bench.net(batch.xs, rng=batch.rng)
        return features, bench.head.logits(bench.head.reduced(features)).float()


@torch.no_grad()
def evaluate(bench: Workbench, samples: Samples, part: str) -> Score:
    """Run the net on samples and compare its predictions with the labels.

    The loss is the cross entropy of the head's prediction, whatever the head trains with.

    Args:
        bench: what to run.
        samples: on what.
        part: name of the part; its random streams are its own, and the same at every call.

    Raises:
        NumericalError: the loss is not finite.
    """
    bench.net.eval()
    bench.head.eval()
    hits, total = 0, 0.0
    for index in batches(len(samples), EVALUATION_BATCH, None):
        batch = bench.batch(samples, index, epoch=0, part=part)
        _, logits = predict(bench, batch)
        hits += int((logits.argmax(1) == batch.target).sum())
        loss = float(F.cross_entropy(logits, batch.target, reduction="sum"))
        check_loss(bench, batch, part, loss)
        total += loss
    return Score(hits / len(samples), total / len(samples), len(samples))
