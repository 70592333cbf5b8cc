"""A few test samples on their way through a net: the content of samples.json."""

from math import prod
from typing import Annotated

from pydantic import Field, model_validator

from spikeloom.records.part import Count, Many, Number, Part, Positive


class ImageRecord(Part):
    """A picture, [C, H, W], as whole numbers up to 255."""

    shape: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]
    pixels: Many[Annotated[int, Field(ge=0, le=255)]]

    @model_validator(mode="after")
    def _fills_its_shape(self) -> "ImageRecord":
        if len(self.pixels) != prod(self.shape):
            raise ValueError("expected as many pixels as its shape")
        return self


class TraceRecord(Part):
    """Spikes and potentials of some neurons of a layer."""

    site: str
    unit: str = ""
    neurons: Count
    v_th: Number | None = None
    shown: Many[Count]
    spikes: Many[Many[Count]]
    traced: Many[Count] = ()
    v: Many[Many[Number]] = ()
    levels: Many[Number] = ()

    @model_validator(mode="after")
    def _one_row_each(self) -> "TraceRecord":
        if len(self.spikes) != len(self.shown) or len(self.v) != len(self.traced):
            raise ValueError("expected one row per neuron")
        return self


class SampleRecord(Part):
    """One test sample on its way through a net.

    Of classes it has label and prediction; of real targets the numbers that should be answered.
    """

    index: Count
    label: Count | None = None
    prediction: Count | None = None
    target: Many[Number] | None = None
    image: ImageRecord | None = None
    logits: Many[Annotated[tuple[Number, ...], Field(strict=False, min_length=1)]]
    layers: Many[TraceRecord]

    @model_validator(mode="after")
    def _same_classes(self) -> "SampleRecord":
        if (self.target is None) == (None in (self.label, self.prediction)):
            raise ValueError("expected label and prediction, or a target")
        if len({len(row) for row in self.logits}) != 1:
            raise ValueError("expected as many logits per step")
        return self


class SamplesRecord(Part):
    """The content of samples.json."""

    format: Positive
    steps: Positive
    classes: Many[str] | None = None
    samples: Many[SampleRecord]
