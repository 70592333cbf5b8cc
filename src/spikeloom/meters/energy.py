r"""Energy of one inference from operation counts: a model, not a measurement.

Two conventions, side by side:

- "paper": eq. 8-11 of Panda et al. 2020. The type of a layer's neuron decides; padding, zero
  operands of ANNs, biases, membranes and memory are left out.
- "strict": the operand decides (see `OperationMeter`), counts are exact pairs.

Prices are those of 45 nm chips at 0.9 V in 2014: ratios carry over, joules do not. The same net
changes its efficiency by up to 6.3 from int32 to fp32, so give both, and the raw counts.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from spikeloom.base.checks import above
from spikeloom.base.errors import wrong_choice
from spikeloom.base.fields import Checked
from spikeloom.meters.record import OperationRecord

NOTE = "a model, not a measurement"


@dataclass(frozen=True)
class EnergyTable(Checked):
    """Price of an operation, in picojoules.

    Args:
        name: of the regime.
        e_mac: one multiply-accumulate.
        e_ac: one accumulate.
        bits: word width.
        technology: process and voltage.
        source: who gives the figures.

    Raises:
        ConfigError: a price that is not above 0.
    """

    name: str
    e_mac: Annotated[float, above(0, "a price")]
    e_ac: Annotated[float, above(0, "a price")]
    bits: Annotated[int, above(0)]
    technology: str = "45 nm CMOS, 0.9 V"
    source: str = "Horowitz 2014"


INT32 = EnergyTable("int32", 3.2, 0.1, 32, source="Panda et al. 2020, Tab. 1 (Horowitz 2014)")
FP32 = EnergyTable("fp32", 4.6, 0.9, 32)


@dataclass(frozen=True)
class LayerEnergy:
    """Energy of one layer of one pass per inference, in pJ.

    Args:
        name: of the site.
        ac: of accumulates.
        mac: of multiply-accumulates.
        driven: whether its operands are spikes of the net's own neurons.
    """

    name: str
    ac: float
    mac: float
    driven: bool = False


@dataclass(frozen=True)
class Energy:
    """Modelled energy of one inference beside that of an ANN.

    Args:
        ann: of the dense ANN it is compared with, in pJ: all products of the ReLU net of the same
            spec, run once, no zero skipped.
        layers: the net's parts.
    """

    ann: float
    layers: tuple[LayerEnergy, ...]

    @property
    def snn(self) -> float:
        """Energy of the net, in pJ."""
        return sum(layer.ac + layer.mac for layer in self.layers)

    @property
    def efficiency(self) -> float:
        """E_ANN / E_SNN; infinite for a dead net, so never show it without accuracy."""
        return self.ann / self.snn if self.snn else float("inf")

    @property
    def driven(self) -> float:
        """Part of `snn` that grows with the firing rates: of layers that read the net's spikes."""
        return sum(layer.ac + layer.mac for layer in self.layers if layer.driven)


def paper_energy(
    record: OperationRecord,
    table: EnergyTable = INT32,
    *,
    activity: Literal["input", "output"] = "input",
) -> Energy:
    r"""Price a net by the paper's formulas.

    .. math::
        E_{SNN} = T E_{AC} \sum_{l\ spiking} O^2 N k^2 M\, r_l
        + E_{MAC} \sum_{l\ other} O^2 N k^2 M\, runs_l, \qquad
        E_{ANN} = E_{MAC} \sum_l O^2 N k^2 M

    r_l is the mean over samples, steps and operands of the spikes entering layer l; average-pooled
    spikes count with their value. A layer without a unit (readout, linear shortcut) is charged
    accumulates where its input is made of spikes. Analog layers are charged as often as they
    ran, which is once on a constant input.

    What the paper leaves open, chosen here: a spiking layer with real-valued input (the first
    layer under constant coding, the first spiking layer of a hybrid) has r_l = 1 and is charged T
    times in accumulates, as its neurons spike; this understates its energy by up to
    e_mac / e_ac and is where "strict" differs most. Poisson input is activity like any
    other and counts.

    Args:
        record: what the meter saw, head included.
        table: prices.
        activity: "input" as above, or "output": r_l is the rate of the layer's own neurons, the
            literal reading of "firing neurons per layer"; layers without a unit keep the input's.

    Raises:
        ConfigError: an unknown choice.

    Source:
        Panda et al. 2020, sec. 7, eq. 8-11.
    """
    if activity not in ("input", "output"):
        raise wrong_choice("meters.energy.activity", activity, ("input", "output"))
    layers = []
    for site in record.sites:
        if not site.formula:
            continue
        if site.unit == "spiking" or (site.unit == "none" and site.spike_input):
            own = activity == "output" and site.unit == "spiking"
            rate = site.rate_out if own else site.rate_in
            steps = site.map_steps / site.samples
            ac = table.e_ac * steps * site.formula * rate
            layers.append(LayerEnergy(site.name, ac, 0.0, site.operands == "spikes"))
        else:
            mac = table.e_mac * site.formula * site.evaluations / site.samples
            layers.append(LayerEnergy(site.name, 0.0, mac, site.operands == "spikes"))
    return Energy(table.e_mac * record.formula, tuple(layers))


def strict_energy(
    record: OperationRecord, table: EnergyTable = INT32, *, fold_pool: bool = False
) -> Energy:
    r"""Price the operations that the operands ask for; zero operands and weights are skipped.

    .. math:: E = E_{AC} \cdot AC + E_{MAC} \cdot MAC

    A constant input is charged once. Biases and the units' own operations have counts of their own
    in the record, and are left out here.

    Args:
        record: what the meter saw, head included.
        table: prices.
        fold_pool: fold average pools into the next weights, so that each spike is an accumulate.

    Source:
        spikeloom's accounting; effective pairs as in NeuroBench.
    """
    tail = "_folded" if fold_pool else ""
    layers = tuple(
        LayerEnergy(
            site.name,
            table.e_ac * getattr(site, f"ac{tail}") / site.samples,
            table.e_mac * getattr(site, f"mac{tail}") / site.samples,
            site.operands == "spikes",
        )
        for site in record.sites
    )
    return Energy(table.e_mac * record.pairs, layers)
