"""What inference and training cost, as a run's record holds it.

Energies are picojoules per inference, sizes are bytes, times are milliseconds. Defaults stand for
what older versions did not write.
"""

from typing import Generic, TypeVar

from pydantic import AliasChoices, Field, model_validator

from spikeloom.records.part import Amount, Count, Many, Number, Part, Quartiles

T = TypeVar("T")


class MeanRecord(Part):
    """A mean over samples, with its standard error; None for one sample."""

    mean: Amount
    error: Amount | None = None


class EnergyRecord(Part):
    """Energy in one convention: the net's, its layers' that read own spikes, the dense ANN's."""

    net: Amount
    driven: Amount | None = None
    dense_ann: Amount = Field(validation_alias=AliasChoices("dense_ann", "ann"))
    """All products of the spec's ReLU net, run once: computed, not measured."""


class EnergyBounds(Part):
    """Energy with memory accesses, at least and at most."""

    lower: Amount
    upper: Amount


class Energies(Part):
    """The same counts in every convention."""

    paper_int32: EnergyRecord
    paper_int32_output: EnergyRecord | None = None
    strict_int32: EnergyRecord | None = None
    strict_fp32: EnergyRecord
    strict_fp32_folded: EnergyRecord | None = None
    memory_aware_int32: EnergyBounds | None = None
    memory_aware_fp32: EnergyBounds | None = None


class LayerEnergies(Part):
    """Energy of one layer in two conventions."""

    paper_int32: Amount = 0.0
    strict_fp32: Amount = 0.0


class LayerRecord(Part):
    """One layer in one pass; figures are per sample, 0 where an older record does not say."""

    site: str
    kind: str = ""
    unit: str = ""
    operands: str = ""
    neurons: Count = 0
    fan_out: Amount = 0.0
    formula_macs: Count = 0
    pairs: Count = 0
    rate_in: Amount = 0.0
    rate_per_step: Amount | None = None
    spikes: Amount | None = None
    ac: Amount = 0.0
    mac: Amount = 0.0
    mac_dense: Amount = 0.0
    ac_folded: Amount = 0.0
    mac_folded: Amount = 0.0
    energy: LayerEnergies = LayerEnergies()


class Totals(Part):
    """Further counts of operations per sample."""

    mac_dense: Amount = 0.0
    ac_folded: Amount = 0.0
    mac_folded: Amount = 0.0
    ac_recomputed: Amount = 0.0
    mac_recomputed: Amount = 0.0
    bias_ac: Amount = 0.0
    state_mac: Amount = 0.0
    state_ac: Amount = 0.0
    state_compare: Amount = 0.0


class InferenceCosts(Part):
    """What predicting one sample takes; the median is None where it is too uncertain."""

    batch: Count | None = None
    ms_per_sample: Amount | None = None
    ms_per_sample_quartiles: Quartiles | None = None
    ms_per_sample_doubt: str | None = None
    rounds: Count | None = None


class SettlingRecord(Part):
    """Residual of the rate equation of a net with feedback after each step, and its rates."""

    samples: Count | None = None
    residuals: Many[Amount] = Field(min_length=1)
    rates: Many[Number] = Field(min_length=1)

    @model_validator(mode="after")
    def _alike(self) -> "SettlingRecord":
        if len(self.residuals) != len(self.rates):
            raise ValueError(f"expected {len(self.rates)} residuals, got {len(self.residuals)}")
        return self


class NonzeroProducts(Part):
    """Products of training without those by 0, per sample."""

    forward_ac: Amount
    forward_mac: Amount
    backward_ac: Amount
    backward_mac: Amount


class Growth(Part):
    """What one more time step costs in training."""

    steps: Many[Count] = ()
    peak_bytes: Many[Count] = ()
    ms: Many[Number] = ()
    bytes_per_step: Number
    ms_per_step: Number | None = None
    ms_per_step_quartiles: Quartiles | None = None
    ms_per_step_doubt: str | None = None
    rounds: Count | None = None


class TrainingCosts(Part):
    """What a training step costs."""

    batch: Count | None = None
    peak_bytes: Count
    input_bytes: Count | None = None
    forward_macs: Amount
    backward_macs: Amount
    nonzero: NonzeroProducts | None = None
    growth: Growth | None = None
    predicted_bytes: Count | None = None


class Costs(Part, Generic[T]):
    """What inference costs, and training where the rule takes the net."""

    note: str = ""
    parameters: Count
    metered_samples: Count | None = None
    spikes: MeanRecord
    rate_per_step: Amount = 0.0
    spikes_per_neuron: Amount | None = None
    ac: MeanRecord
    mac: MeanRecord
    formula_macs: Count | None = None
    totals: Totals | None = None
    energy: Energies
    inference: InferenceCosts | None = None
    settling: SettlingRecord | None = None
    training: T
    layers: Many[LayerRecord] = ()


CostRecord = Costs[TrainingCosts]
"""What a trained net costs."""

UntrainedCosts = Costs[None]
"""What a net costs that its rule refuses."""
