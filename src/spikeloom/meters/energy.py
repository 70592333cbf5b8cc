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
from spikeloom.meters.break_even import break_even_rate as break_even_rate
from spikeloom.meters.record import OperationRecord, SiteOperations

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

    @property
    def break_even(self) -> float:
        """Spikes per operand and inference (T times the rate) at which AC and MAC nets tie."""
        return self.e_mac / self.e_ac


INT32 = EnergyTable("int32", 3.2, 0.1, 32, source="Panda et al. 2020, Tab. 1 (Horowitz 2014)")
FP32 = EnergyTable("fp32", 4.6, 0.9, 32)
FP16 = EnergyTable("fp16", 1.5, 0.4, 16, source="Horowitz 2014, as in SpikingJelly")
INT8 = EnergyTable("int8", 0.23, 0.03, 8, source="Horowitz 2014, as in SpikingJelly")
TABLES = {table.name: table for table in (INT32, FP32, FP16, INT8)}


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
        convention: "paper" or "strict".
        table: name of the price table.
        snn: of the net, in pJ.
        ann: of the ANN it is compared with, in pJ: a measured one, or the dense ANN, which is all
            products of the ReLU net of the same spec, run once, no zero skipped.
        layers: the net's parts.
        note: to stand beside every figure printed.
    """

    convention: Literal["paper", "strict"]
    table: str
    snn: float
    ann: float
    layers: tuple[LayerEnergy, ...]
    note: str = NOTE

    @property
    def efficiency(self) -> float:
        """E_ANN / E_SNN; infinite for a dead net, so never show it without accuracy.

        It is called EE where the ANN was measured; else it is the ratio to the dense ANN.
        """
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
    ann: int | None = None,
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
    ``table.break_even`` and is where "strict" differs most. Poisson input is activity like any
    other and counts.

    Args:
        record: what the meter saw, head included.
        table: prices.
        activity: "input" as above, or "output": r_l is the rate of the layer's own neurons, the
            literal reading of "firing neurons per layer"; layers without a unit keep the input's.
        ann: MACs of another ANN to compare with, e.g. one fixed reference for a whole table.

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
    macs = record.formula if ann is None else ann
    return _energy("paper", table, layers, table.e_mac * macs)


def strict_energy(
    record: OperationRecord,
    table: EnergyTable = INT32,
    *,
    ann: OperationRecord | int | None = None,
    operands: Literal["effective", "dense"] = "effective",
    fold_pool: bool = False,
    recomputed: bool = False,
    bias: bool = False,
    state: bool = False,
) -> Energy:
    r"""Price the operations that the operands ask for.

    .. math:: E = E_{AC} \cdot AC + E_{MAC} \cdot MAC

    Args:
        record: what the meter saw, head included.
        table: prices.
        ann: the ANN to compare with: its measured record, priced by the same rules; a number of
            MACs; or None for all pairs of the net's own topology, run once.
        operands: whether MACs skip zero operands and weights. Both sides are treated alike.
        fold_pool: fold average pools into the next weights, so that each spike is an accumulate.
        recomputed: charge a constant input at every step.
        bias: add biases, one accumulate each.
        state: add the units' own operations, a comparison priced as an accumulate.

    Raises:
        ConfigError: an unknown choice.

    Source:
        spikeloom's accounting; effective and dense pairs as in NeuroBench.
    """
    if operands not in ("effective", "dense"):
        raise wrong_choice("meters.energy.operands", operands, ("effective", "dense"))

    def layer(site: SiteOperations) -> LayerEnergy:
        tail = "_folded" if fold_pool else ""
        dense = "_dense" if operands == "dense" else ""
        again = site.map_steps / site.evaluations if recomputed and site.evaluations else 1
        ac = getattr(site, f"ac{tail}") * again + (site.bias_ac * again if bias else 0)
        mac = getattr(site, f"mac{dense}{tail}") * again
        if state:
            ac += site.state_ac + site.state_compare
            mac += site.state_mac
        return LayerEnergy(
            site.name,
            table.e_ac * ac / site.samples,
            table.e_mac * mac / site.samples,
            site.operands == "spikes",
        )

    if isinstance(ann, OperationRecord):
        other = sum(part.ac + part.mac for part in map(layer, ann.sites))
    else:
        other = table.e_mac * (record.pairs if ann is None else ann)
    return _energy("strict", table, [layer(site) for site in record.sites], other)


def _energy(
    convention: Literal["paper", "strict"],
    table: EnergyTable,
    layers: list[LayerEnergy],
    ann: float,
) -> Energy:
    snn = sum(layer.ac + layer.mac for layer in layers)
    return Energy(convention, table.name, snn, ann, tuple(layers))
