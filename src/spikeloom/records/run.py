"""What a run leaves: its epochs, and the record of the whole."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from spikeloom.records.costs import CostRecord
from spikeloom.records.part import LARGEST, Amount, Count, Many, Number, Part, Positive, Seed, Share
from spikeloom.tasks.metric import ACCURACY, Metric, named


def validation(name: str) -> str:
    """Return the key of a metric of the validation part."""
    return f"val_{name}"


def tested(name: str) -> str:
    """Return the key of a metric of the test part."""
    return f"test_{name}"


def by_step(name: str) -> str:
    """Return the key of a metric of the test part after 1, 2, ... T steps."""
    return f"{name}_by_step"


class MetricRecord(Part):
    """A figure that a run was judged by; see `Metric`."""

    name: Annotated[str, Field(min_length=1)]
    title: str = ""
    unit: str = ""
    best: Literal["high", "low"] = "high"
    least: Number | None = None
    most: Number | None = None
    decimals: Annotated[int, Field(ge=0, le=9)] | None = None
    of_samples: bool = False
    about: str = ""

    @property
    def metric(self) -> Metric:
        """The metric itself."""
        return Metric(**{key: getattr(self, key) for key in MetricRecord.model_fields})


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
    """One epoch of a curve: a line of metrics.jsonl.

    Beside these fields it has the metrics of the run's task, by name of the training part
    (``accuracy``) and with ``val_`` before it of the validation part.
    """

    stage: Count = 0
    rule: str = ""
    epoch: Count
    lr: Amount | None = None
    loss: Number
    seconds: Amount = 0.0
    notes: dict[str, Number] = {}
    val_loss: Number | None = None
    health: Many[HealthRecord] | None = None

    @model_validator(mode="after")
    def _numbers(self) -> "EpochRecord":
        if not self.judged:
            raise ValueError("expected metrics, each by its name and with val_ before it")
        for name in self.judged:
            for key in (name, validation(name)):
                _check(named(name), key, self[key])
        return self

    @property
    def judged(self) -> list[str]:
        """Names of the metrics, the one that decides first."""
        more = self.model_extra or {}
        return [name for name in more if validation(name) in more]


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
    """A run up to its test: all that a trial of a tuning has.

    `judged` says by which figures, the first decides. Their values on the validation part are
    further keys (`validation`).
    """

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
    task: str = "classify"
    judged: Annotated[Many[MetricRecord], Field(min_length=1)] = (MetricRecord.of(ACCURACY),)
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

    @model_validator(mode="after")
    def _judged(self) -> "TrainedRecord":
        for metric in self.metrics:
            for epoch in self.curve:
                for key in (metric.name, validation(metric.name)):
                    _check(metric, key, (epoch.model_extra or {}).get(key))
            key = validation(metric.name)
            if key in self:
                _check(metric, key, self[key])
        return self

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The figures it was judged by."""
        return tuple(one.metric for one in self.judged)

    @property
    def first(self) -> Metric:
        """The one that decides."""
        return self.judged[0].metric

    def held(self, metric: Metric) -> float | None:
        """Return a metric of the validation part; None where it is not known."""
        key = validation(metric.name)
        return self[key] if key in self else None  # noqa: SIM401 - a record is no mapping


class RunRecord(TrainedRecord):
    """A finished run, tested once: the content of result.json.

    The metrics' values of the test part are further keys: `tested`, and of the first `by_step`.
    """

    @model_validator(mode="before")
    @classmethod
    def _unchanging(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        lists = {key: tuple(part) for key, part in table.items() if _is_by_step(key, part)}
        return table | lists

    test_loss: Number | None = None
    test_samples: Count | None = None
    per_class: PerClass | None = None
    costs: CostRecord

    @model_validator(mode="after")
    def _tested(self) -> "RunRecord":
        for metric in self.metrics:
            _check(metric, tested(metric.name), (self.model_extra or {}).get(tested(metric.name)))
        for value in self.over_steps() or ():
            _check(self.first, by_step(self.first.name), value)
        return self

    def test(self, metric: Metric) -> float:
        """Return a metric of the test part."""
        return self[tested(metric.name)]

    def over_steps(self) -> Sequence[float] | None:
        """Return the first metric after 1, 2, ... T steps; None where it is not known."""
        return (self.model_extra or {}).get(by_step(self.first.name))


def _is_by_step(key: str, part: object) -> bool:
    return key.endswith(by_step("")) and isinstance(part, list)


def _check(metric: Metric, key: str, value: Any) -> None:
    """Refuse what a metric cannot be.

    Raises:
        ValueError: no number, or one out of range.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) <= LARGEST or not metric.allows(value):
        bounds = [f"at least {metric.least:g}"] if metric.least is not None else []
        bounds += [f"at most {metric.most:g}"] if metric.most is not None else []
        raise ValueError(f"expected {key} as {' and '.join(['a number', *bounds])}, got {value!r}.")
