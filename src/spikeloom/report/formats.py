"""What a record must hold to be shown; checked at the border, so that nothing behind it can fail.

Files come from anywhere. The models name the keys that tables and figures read; other keys are
kept as they are. Keys that older versions did not write are optional.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spikeloom.base.errors import DataError

T = TypeVar("T")

Amount = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Quartiles = Annotated[list[Number], Field(min_length=2, max_length=2)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Field(ge=1, le=10**9)]


class Part(BaseModel):
    """Base of all parts: no silent conversion, further keys allowed."""

    model_config = ConfigDict(strict=True, extra="allow")


class Mean(Part):
    """A mean over samples."""

    mean: Amount


class Energy(Part):
    """Picojoules per inference in one convention: the net's, and those of the dense ANN."""

    net: Amount
    driven: Amount | None = None
    dense_ann: Amount | None = None
    ann: Amount | None = None

    @model_validator(mode="after")
    def _has_ann(self) -> "Energy":
        known = self.dense_ann is not None or self.ann is not None
        return _held(self, known, "a dense ANN beside the net")


class Bounds(Part):
    """Picojoules per inference with memory accesses, at least and at most."""

    lower: Amount
    upper: Amount


class Energies(Part):
    """Both conventions."""

    paper_int32: Energy
    strict_fp32: Energy
    paper_int32_output: Energy | None = None
    memory_aware_fp32: Bounds | None = None


class Growth(Part):
    """What one more time step costs in training."""

    bytes_per_step: Number
    ms_per_step: Number | None = None
    ms_per_step_quartiles: Quartiles | None = None


class Nonzero(Part):
    """Products of training without those by 0, per sample."""

    forward_ac: Amount
    forward_mac: Amount
    backward_ac: Amount
    backward_mac: Amount


class Training(Part):
    """What a training step costs."""

    peak_bytes: Count
    forward_macs: Amount
    backward_macs: Amount
    predicted_bytes: Count | None = None
    batch: Count | None = None
    nonzero: Nonzero | None = None
    growth: Growth | None = None


class Inference(Part):
    """What predicting one sample takes."""

    ms_per_sample: Amount | None = None
    ms_per_sample_quartiles: Quartiles | None = None


class Settling(Part):
    """How far the rates of a net with feedback are from where they lead, after each step."""

    residuals: list[Amount] = Field(min_length=1)
    rates: list[Number] = Field(min_length=1)

    @model_validator(mode="after")
    def _alike(self) -> "Settling":
        if len(self.residuals) != len(self.rates):
            raise ValueError(f"expected {len(self.rates)} residuals, got {len(self.residuals)}")
        return self


class Layer(Part):
    """One layer in one pass."""

    site: str
    kind: str = ""
    unit: str = ""
    neurons: Count = 0
    rate_per_step: Amount | None = None


class Costs(Part):
    """What inference and training cost."""

    parameters: Count
    rate_per_step: Amount = 0.0
    spikes: Mean
    ac: Mean
    mac: Mean
    energy: Energies
    training: Training
    inference: Inference | None = None
    settling: Settling | None = None
    layers: list[Layer] = []


class Health(Part):
    """What one layer's firing looked like in a stage's first epoch."""

    site: str
    verdict: str
    rate_per_step: Amount | None = None
    silent_share: Share | None = None


class Epoch(Part):
    """One epoch of a curve."""

    epoch: Count
    loss: Number
    accuracy: Share
    val_accuracy: Share
    val_loss: Number | None = None
    seconds: Amount = 0.0
    stage: Count = 0
    rule: str = ""
    health: list[Health] | None = None
    notes: dict[str, Number] = {}


class Stage(Part):
    """One stage as it ran."""

    rule: str
    epochs: Count
    steps: Positive | None = None
    planned: Count | None = None
    stopped: str | None = None


class Source(Part):
    """One publication."""

    authors: str
    title: str
    venue: str = ""
    year: int | None = None
    where: str = ""
    link: str = ""


class Facts(Part):
    """What a rule is."""

    spiking: bool
    title: str = ""


class PerClass(Part):
    """Right answers and samples of the test part, by class."""

    correct: list[Count]
    samples: list[Count]

    @model_validator(mode="after")
    def _alike(self) -> "PerClass":
        if len(self.correct) != len(self.samples) or any(
            good > of for good, of in zip(self.correct, self.samples, strict=True)
        ):
            raise ValueError("expected as many right answers as samples or fewer, for every class.")
        return self


class Run(Part):
    """A finished run."""

    format: Positive
    name: str
    seed: Seed
    net: str
    ann_net: str
    data: str
    rule: str
    steps: Positive
    epochs: Count
    test_accuracy: Share
    train_seconds: Amount
    facts: Facts
    costs: Costs
    curve: list[Epoch]
    test_samples: Count | None = None
    source: str = ""
    stages: list[Stage] = []
    accuracy_by_step: list[Share] | None = None
    recipe: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    sources: list[Source] = []
    warnings: list[str] = []
    processes: Positive = 1
    classes: list[str] | None = None
    skipped: list[str] = []
    per_class: PerClass | None = None


class Tuning(Part):
    """What was chosen on the validation part."""

    texts: list[str] = []
    edge: list[str] = []
    trials: list[Any] | dict[str, Any] = []


class Failure(Part):
    """A run of an entry that failed."""

    seed: Seed
    error: str = ""


class Row(Part):
    """One entry of a comparison."""

    label: Annotated[str, Field(min_length=1)]
    control: bool = False
    refusal: str | None = None
    error: str | None = None
    block: str | None = None
    differences: list[str] | None = None
    tuning: Tuning | None = None
    slug: str = ""
    errors: list[Failure] = []
    runs: list[Run]


class Comparison(Part):
    """The content of results.json."""

    format: Positive
    name: str
    entries: list[Row]
    command: str | None = None


class Image(Part):
    """A picture, [C, H, W], as whole numbers up to 255."""

    shape: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    pixels: list[Annotated[int, Field(ge=0, le=255)]]

    @model_validator(mode="after")
    def _fills_its_shape(self) -> "Image":
        return _held(self, len(self.pixels) == prod(self.shape), "as many pixels as its shape")


class Traced(Part):
    """Spikes and potentials of some neurons of a layer."""

    site: str
    neurons: Count
    shown: list[Count]
    spikes: list[list[Count]]
    unit: str = ""
    v_th: Number | None = None
    traced: list[Count] = []
    v: list[list[Number]] = []
    levels: list[Number] = []

    @model_validator(mode="after")
    def _one_row_each(self) -> "Traced":
        return _held(
            self,
            len(self.spikes) == len(self.shown) and len(self.v) == len(self.traced),
            "one row per neuron",
        )


class Sample(Part):
    """One test image on its way through a net."""

    index: Count
    label: Count
    prediction: Count
    logits: list[Annotated[list[Number], Field(min_length=1)]]
    layers: list[Traced]
    image: Image | None = None

    @model_validator(mode="after")
    def _same_classes(self) -> "Sample":
        return _held(self, len({len(row) for row in self.logits}) == 1, "as many logits per step")


class Samples(Part):
    """The content of samples.json."""

    format: Positive
    steps: Positive
    samples: list[Sample]
    classes: list[str] | None = None


def _held(part: T, good: bool, expected: str) -> T:
    if not good:
        raise ValueError(f"expected {expected}")
    return part


def check(model: type[Part], record: Mapping[str, Any], path: Path) -> None:
    """Hold a record against its model.

    Raises:
        DataError: a key is missing or of another kind.
    """
    if model is Run and record.get("final") is False:
        raise DataError(
            f"{path}: expected a run that was tested, got a trial of a tuning; name the folder of "
            "its comparison."
        )
    try:
        model.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top"
        expected = f"{_ARTICLE.get(model, 'a record')} of spikeloom"
        raise DataError(
            f"{path}: expected {expected}, got something else at {place} ({first['msg']}); name "
            "a folder that `spikeloom train` or `compare` wrote."
        ) from None
    except RecursionError:
        raise DataError(
            f"{path}: expected a record of spikeloom, got one nested without end; train again."
        ) from None


_ARTICLE: dict[type[Part], str] = {
    Run: "a run",
    Comparison: "a comparison",
    Samples: "sample traces",
    Epoch: "an epoch's metrics",
}
