"""What the net sees of its training data: range, mean, share of zeros; what looks wrong."""

from dataclasses import dataclass

import torch

from spikeloom.data import DATA, Splits
from spikeloom.data.units import is_whole
from spikeloom.program.batching import batches
from spikeloom.program.setup import Workbench
from spikeloom.records import units

SAMPLES = 256
"""Training samples that are examined, evenly spaced over the part."""

TINY = 0.1
"""Inputs that all lie below are tiny beside a threshold of 1."""


@dataclass(frozen=True)
class InputFacts:
    """Values that the encoder is given, after scaling.

    Args:
        low: the smallest.
        high: the largest.
        mean: of all.
        zeros: share of values that are 0.
        samples: number of samples examined.
        caution: what the encoder cannot tell apart in them.
    """

    low: float
    high: float
    mean: float
    zeros: float
    samples: int
    caution: str | None = None

    @property
    def tiny(self) -> bool:
        """Whether no value comes near a threshold of 1."""
        return max(abs(self.low), abs(self.high)) < TINY


def input_facts(bench: Workbench, samples: int = SAMPLES) -> InputFacts:
    """Examine training samples, evenly spaced over the part; nothing random is drawn."""
    part = bench.splits.train
    count = min(samples, len(part))
    chosen = torch.linspace(0, len(part) - 1, count).long()
    low, high, total, zeros, values = float("inf"), float("-inf"), 0.0, 0, 0
    caution = None
    for rows in batches(count, 32, None):
        x, _ = part.take(chosen[rows], bench.dtype)
        low, high = min(low, float(x.min())), max(high, float(x.max()))
        total += float(x.sum(dtype=torch.float64))
        zeros += int((x == 0).sum())
        values += x.numel()
        if bench.rule.facts.spiking:
            caution = caution or bench.encoder.caution(x)
    return InputFacts(low, high, total / values, zeros / values, count, caution)


def input_line(facts: InputFacts, splits: Splits) -> str:
    """Describe the input of the net in one line, e.g. before the first epoch."""
    axes = {1: "D", 2: "T, D", 3: "C, H, W", 4: "T, C, H, W"}.get(len(splits.shape), "...")
    pictures = "" if splits.reading is None else f"; pictures {splits.reading}"
    return (
        f"input: [{axes}] = {list(splits.shape)}, {_units(splits)}; {facts.low:.3g} to "
        f"{facts.high:.3g}, mean {facts.mean:.3g}, {units.percent(facts.zeros):.0f} % zeros in "
        f"{facts.samples} training samples{pictures}"
    )


def tiny_input(facts: InputFacts, splits: Splits) -> str | None:
    """Say that the inputs are tiny, and which option of the data decides it; None where not."""
    if not facts.tiny:
        return None
    options = DATA.find(splits.name).options if splits.name in DATA.names() else ()
    todo = next((f"check data.{name}" for name in ("scale", "range") if name in options), None)
    return (
        f"the input's largest value is {max(abs(facts.low), abs(facts.high)):.3g} and its mean "
        f"{facts.mean:.2g} ({_units(splits)}); {todo or 'check how the data are scaled'}"
    )


def _units(splits: Splits) -> str:
    """Name the stored values and what became of them."""
    scaling = splits.scaling
    stored = str(splits.train.store.dtype).removeprefix("torch.")
    if scaling.peak != 1:
        taken = f"divided by {scaling.peak:g}"
    else:
        whole = "as counts" if is_whole(splits.train.store) else "as they are"
        taken = "as events" if stored == "bool" else whole
    return f"{stored} {taken}" + (", normalised" if scaling.mean else "")
