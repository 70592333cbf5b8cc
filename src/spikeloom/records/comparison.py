"""What a comparison leaves: the content of results.json."""

from typing import Annotated, Any

from pydantic import Field

from spikeloom.records.part import Many, Number, Part, Positive, Seed
from spikeloom.records.run import RunRecord, validation
from spikeloom.tasks.metric import Metric


class TrialRecord(Part):
    """One trial of an entry's tuning: what it set and reached, or why it failed."""

    set: dict[str, Any] = {}
    val_loss: Number | None = None
    error: str | None = None

    def reached(self, metric: Metric) -> float | None:
        """Return a metric of the validation part; None of a trial that failed.

        Its key is that of a run (`records.run.validation`).
        """
        value: Any = (self.model_extra or {}).get(validation(metric.name))
        good = isinstance(value, int | float) and not isinstance(value, bool)
        return value if good and metric.allows(value) else None


class TuningRecord(Part):
    """What was tried and chosen on the validation part."""

    seed: Seed | None = None
    epochs: int | None = None
    trials: Many[TrialRecord] = ()
    chosen: dict[str, Any] | None = None
    texts: Many[str] = ()
    edge: Many[str] = ()


class FailureRecord(Part):
    """A run of an entry that failed."""

    seed: Seed
    error: str = ""


class EntryRecord(Part):
    """One entry of a comparison, with its finished runs."""

    label: Annotated[str, Field(min_length=1)]
    slug: str = ""
    control: bool = False
    block: str | None = None
    differences: Many[str] | None = None
    refusal: str | None = None
    error: str | None = None
    errors: Many[FailureRecord] = ()
    tuning: TuningRecord | None = None
    runs: Many[RunRecord]


class ComparisonRecord(Part):
    """The content of results.json."""

    format: Positive
    name: str
    command: str | None = None
    seeds: Many[Seed] = ()
    tune: dict[str, Any] | None = None
    first: str | None = None
    entries: Many[EntryRecord]
