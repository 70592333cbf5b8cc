"""Operation counts as values: per site and pass, additive over samples, steps and batches."""

from dataclasses import dataclass, fields, replace
from typing import Literal

from spikeloom.meters._signal import Operands
from spikeloom.meters.base import Spread
from spikeloom.nets.module.site import Role


@dataclass(frozen=True)
class SiteOperations:
    r"""Operations of one layer of one pass, in the forward pass.

    All counts of the second group are sums over all samples seen.

    Args:
        name: of the site.
        kind: of its map.
        role: where the site lies.
        unit: "spiking", "analog" or "none".
        inputs: operands of one evaluation.
        neurons: outputs.
        weights: distinct weights and biases.
        formula: eq. 8's MACs of one evaluation, :math:`O^2 N k^2 M`.
        pairs: pairs of one evaluation, padding excluded.
        operands: "spikes" of neurons, pooled or joined at most, the net's "input" (perhaps beside
            spikes), or "real" values: of analog units, layers without a unit, means over time.
        samples: number of samples.
        evaluations: how often the map ran, summed over samples; a constant input counts once.
        map_steps: the same, had a constant input been computed anew at each step.
        unit_steps: steps of the unit, summed over samples.
        effective: pairs of a non-zero operand and a non-zero weight.
        ac: accumulates where the operand is made of events (value v counts \|v\|).
        mac: multiply-accumulates elsewhere, on non-zero operands and weights.
        mac_dense: the same on all pairs.
        ac_folded: as `ac`, the factor of average pools folded into the weights.
        mac_folded: as `mac`, likewise.
        ac_recomputed: as `ac`, had a constant input been computed anew at each step.
        mac_recomputed: as `mac`, likewise.
        activity: sum of the operands in units of a spike; a real-valued input counts 1 each.
        spike_input: whether every operand was an event or a sum of events, pools folded.
        bias_ac: one accumulate per output and evaluation where there is a bias or a norm.
        state_mac: multiplications of the units (leak, synaptic current, low-pass, spike number).
        state_ac: additions of the units.
        state_compare: comparisons with a threshold or bound.
        spikes_out: spikes the unit gave; several in a step count as many.
    """

    name: str
    kind: str
    role: Role
    unit: Literal["spiking", "analog", "none"]
    inputs: int
    neurons: int
    weights: int
    formula: int
    pairs: int
    operands: Operands = "spikes"

    samples: int = 0
    evaluations: int = 0
    map_steps: int = 0
    unit_steps: int = 0
    effective: int = 0
    ac: int = 0
    mac: int = 0
    mac_dense: int = 0
    ac_folded: int = 0
    mac_folded: int = 0
    ac_recomputed: int = 0
    mac_recomputed: int = 0
    activity: float = 0.0
    spike_input: bool = True
    bias_ac: int = 0
    state_mac: int = 0
    state_ac: int = 0
    state_compare: int = 0
    spikes_out: int = 0

    @property
    def dense(self) -> int:
        """Pairs of all evaluations, padding excluded."""
        return self.pairs * self.evaluations

    @property
    def fan_out(self) -> float:
        """Mean number of outputs an input position reaches."""
        return self.pairs / self.inputs if self.inputs else 0.0

    @property
    def rate_in(self) -> float:
        """Mean activity of an operand per evaluation: r_l of the paper's convention."""
        seen = self.inputs * self.evaluations
        return self.activity / seen if seen else 0.0

    @property
    def rate_out(self) -> float:
        """Spikes per neuron and step, 0 for units that do not spike."""
        seen = self.neurons * self.unit_steps
        return self.spikes_out / seen if seen else 0.0

    def __add__(self, other: "SiteOperations") -> "SiteOperations":
        """Add the counts of the same site over further samples: whatever is 0 by default."""
        assert self.name == other.name
        sums = {
            one.name: getattr(self, one.name) + getattr(other, one.name)
            for one in fields(self)
            if one.default == 0
        }
        return replace(self, **sums, spike_input=self.spike_input and other.spike_input)


@dataclass(frozen=True)
class OperationRecord:
    """What an `OperationMeter` saw; energies are computed from this.

    Args:
        samples: number of samples.
        sites: one entry per site, passes apart, the head's last.
        ac: strict accumulates per inference, mean and standard error over samples.
        mac: strict multiply-accumulates per inference, likewise.
    """

    samples: int
    sites: tuple[SiteOperations, ...]
    ac: Spread
    mac: Spread

    @property
    def formula(self) -> int:
        """Eq. 8's MACs of the net run once: the ANN of the same spec, so without feedback."""
        return sum(site.formula for site in self.sites if site.role != "feedback")

    @property
    def pairs(self) -> int:
        """As `formula`, padding excluded."""
        return sum(site.pairs for site in self.sites if site.role != "feedback")

    def per_sample(self, name: str) -> float:
        """Return the total over sites of a field that is counted, per inference."""
        return sum(getattr(site, name) for site in self.sites) / self.samples
