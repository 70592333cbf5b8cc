"""What a run leaves: its epochs, and the record of the whole."""

from typing import Any

from pydantic import AliasChoices, Field, model_validator

from spikeloom.records.costs import CostRecord
from spikeloom.records.part import Amount, Count, Many, Number, Part, Positive, Seed, Share


class HealthRecord(Part):
    """What one layer's firing looked like on validation samples, in a stage's first epoch."""

    site: str
    spiking: bool = True
    neurons: Count = 0
    samples: Count = 0
    rate_per_step: Amount | None = None
    silent_share: Share | None = None
    full_share: Share | None = None
    verdict: str

    @property
    def healthy(self) -> bool:
        """Whether the layer is neither dead nor saturated."""
        return self.verdict == "ok"


class EpochRecord(Part):
    """One epoch of a curve: a line of metrics.jsonl."""

    stage: Count = 0
    rule: str = ""
    epoch: Count
    lr: Amount | None = None
    loss: Number
    accuracy: Share
    seconds: Amount = 0.0
    notes: dict[str, Number] = {}
    val_loss: Number | None = None
    val_accuracy: Share
    health: Many[HealthRecord] | None = None


class StageRecord(Part):
    """One stage as it ran."""

    rule: str
    options: dict[str, Any] = {}
    steps: Positive | None = None
    epochs: Count
    planned: Count | None = None
    batch: Count | None = None
    seconds: Amount | None = None
    stopped: str | None = None
    kept_epoch: Count | None = None
    memory: dict[str, str] = {}
    """What the rule remembers, by path: how processes keep it, type and shape."""


class SourceRecord(Part):
    """One publication."""

    authors: str
    title: str
    venue: str = ""
    year: int | None = None
    link: str = Field(default="", validation_alias=AliasChoices("link", "where"))


class FactsRecord(Part):
    """What a rule is; see `RuleFacts`."""

    title: str = ""
    order: str = ""
    memory: str = ""
    online: bool = False
    spiking: bool
    linear_in_batch: bool = True
    gathers: bool = False
    needs_labels: bool = True


class PerClass(Part):
    """Right answers and samples of the test part, by class."""

    correct: Many[Count]
    samples: Many[Count]

    @model_validator(mode="after")
    def _alike(self) -> "PerClass":
        if len(self.correct) != len(self.samples) or any(
            good > of for good, of in zip(self.correct, self.samples, strict=True)
        ):
            raise ValueError("expected as many right answers as samples or fewer, for every class.")
        return self


class EnvironmentRecord(Part):
    """What a run ran on: versions and hardware."""

    commit: str | None = None
    processor: str | None = None
    python: str | None = None
    system: str | None = None
    cpu_cores: int | None = None
    threads: int | None = None
    device: str | None = None
    kernels: str | None = None
    gpu: str | None = None
    packages: dict[str, str | None] = {}


class TrainedRecord(Part):
    """A run up to its test: all that a trial of a tuning has."""

    format: Positive
    name: str
    seed: Seed
    net: str
    ann_net: str
    data: str
    classes: Many[str] | None = None
    skipped: Many[str] = ()
    rule: str
    rule_options: dict[str, Any] = {}
    steps: Positive
    loss_at: str | None = None
    epochs: Count
    stages: Many[StageRecord] = ()
    val_accuracy: Share | None = None
    val_loss: Number | None = None
    val_samples: Count | None = None
    train_seconds: Amount
    facts: FactsRecord
    source: str = ""
    sources: Many[SourceRecord] = ()
    curve: Many[EpochRecord]
    warnings: Many[str] | None = None
    processes: Positive = 1
    recipe: dict[str, Any] | None = None
    environment: EnvironmentRecord | None = None
    final: bool = True


class RunRecord(TrainedRecord):
    """A finished run, tested once: the content of result.json."""

    test_accuracy: Share
    test_loss: Number | None = None
    test_samples: Count | None = None
    per_class: PerClass | None = None
    accuracy_by_step: Many[Share] | None = None
    costs: CostRecord
