"""Costs of one net for the terminal: a summary beside its ANN, and a row per layer and pass."""

from collections import Counter

from spikeloom.meters.break_even import break_even_rate
from spikeloom.records.costs import (
    CostRecord,
    EnergyRecord,
    LayerRecord,
    MeanRecord,
    UntrainedCosts,
)
from spikeloom.records.units import megabytes, microjoules
from spikeloom.report.efficiency import over_net
from spikeloom.report.means import slowdown_of
from spikeloom.report.numbers import count, joules, milliseconds, times

AnyCosts = CostRecord | UntrainedCosts

HEADINGS = (
    "layer",
    "pass",
    "kind",
    "neurons",
    "rate",
    "spikes",
    "AC",
    "MAC",
    "dense MAC",
    "energy by paper, uJ",
    "energy, uJ",
)

LAYER_NOTE = (
    "All figures are per sample. Rate: spikes per neuron and time step. AC and MAC: additions "
    "and multiply-adds, counted exactly. Dense: every product of the ReLU net of the same "
    "layers, once, zeros included; nobody measured it. ANN / SNN: energy of that ReLU net, "
    "measured (--ann RUN), over this net's: above 1 this net takes less. Energy is a model (45 "
    "nm, 2014), not a measurement: counted operations, 32-bit floats; by paper: Panda et al. "
    "2020, eq. 8-11, 32-bit integers, with the rate of the spikes that enter a layer, or with "
    "the rate of its own neurons; with memory access: between the fewest and the most accesses. "
    "Firing rate at break-even: where this net would take as much energy as its ANN."
)


def layer_rows(costs: AnyCosts) -> list[tuple[str, ...]]:
    """Turn a cost record's layers into rows of text, headings first, totals last."""
    layers = [_split(row.site) for row in costs.layers]
    passes = Counter(name for name, _ in layers)
    rows: list[tuple[str, ...]] = [HEADINGS]
    for (name, turn), row in zip(layers, costs.layers, strict=True):
        again = str(turn + 1) if passes[name] > 1 else ""
        rate = row.rate_per_step
        energy = row.energy
        rows.append(
            (
                name,
                again,
                row.kind,
                count(row.neurons),
                f"{rate:.3f}" if rate is not None else "-",
                count(row.spikes) if row.spikes is not None else "-",
                count(row.ac),
                count(row.mac),
                count(_ann_macs(row)),
                _priced(energy.paper_int32),
                _priced(energy.strict_fp32),
            )
        )
    rows.append(_total(costs))
    return rows


def summary_rows(
    costs: AnyCosts, *, spiking: bool, ann: CostRecord | None = None
) -> list[tuple[str, ...]]:
    """Return the net's totals with standard errors, beside those of its ANN, headings first.

    Args:
        costs: of the net.
        spiking: whether it spikes.
        ann: costs of the measured ReLU net of the same spec; without them the dense ANN stands
            there, and no EE.
    """
    energy, other = costs.energy, None if ann is None else ann.energy
    rows = [("", "net", "", "dense ANN" if ann is None else "its ANN")]

    def price(title: str, net: float, reference: float) -> None:
        ratio = f"{'dense' if ann is None else 'ANN'} / SNN {times(over_net(reference, net))}"
        ratio = ratio if net else "dead"
        rows.append((title, _priced(net), ratio if spiking else "", _priced(reference)))

    def counted(title: str, ours: MeanRecord, reference: float) -> None:
        rows.append((title, *_spread(ours), count(reference)))

    strict = _reference(energy.strict_fp32, other and other.strict_fp32)
    paper = _reference(energy.paper_int32, other and other.paper_int32)
    rows.append(("parameters", count(costs.parameters), "", count(costs.parameters)))
    if spiking:
        neurons = sum(row.neurons for row in costs.layers if row.unit == "spiking")
        rows.append(("spiking neurons", count(neurons), "", "-"))
        rows.append(("spikes", *_spread(costs.spikes), "-"))
        rows.append(("firing rate per step", f"{costs.rate_per_step:.3f}", "", "-"))
        rows.append(("firing rate at break-even", _break_even(costs, strict), "", "-"))
    counted("AC", costs.ac, 0.0 if ann is None else ann.ac.mean)
    dense = sum(map(_ann_macs, costs.layers))
    counted("MAC", costs.mac, dense if ann is None else ann.mac.mean)
    price("energy by paper, uJ", energy.paper_int32.net, paper)
    if spiking and energy.paper_int32_output is not None:
        price("energy by paper, own rates, uJ", energy.paper_int32_output.net, paper)
    price("energy, uJ", energy.strict_fp32.net, strict)
    if (reach := energy.memory_aware_fp32) is not None:
        theirs = other and other.memory_aware_fp32
        rows.append(
            (
                "energy with memory access, uJ",
                _priced(reach.lower),
                f"to {_priced(reach.upper)}",
                f"{_priced(theirs.lower)} to {_priced(theirs.upper)}" if theirs else "-",
            )
        )
    return rows


def _priced(picojoules: float) -> str:
    return joules(microjoules(picojoules))


def _reference(ours: EnergyRecord, ann: EnergyRecord | None) -> float:
    """Return the energy of the measured ANN, else that of the dense one."""
    return ours.dense_ann if ann is None else ann.net


def _break_even(costs: AnyCosts, ann: float) -> str:
    strict = costs.energy.strict_fp32
    if strict.driven is None:
        return "-"
    return rate_text(break_even_rate(costs.rate_per_step, strict.net, strict.driven, ann))


def rate_text(rate: float) -> str:
    """Write a rate at break-even, which may lie outside of what neurons can do.

    Example:
        >>> rate_text(0.1234), rate_text(-0.1), rate_text(1.5)
        ('0.123', 'none', 'any')
    """
    return "none" if rate <= 0 else "any" if rate >= 1 else f"{rate:.3f}"


def training_line(costs: CostRecord) -> str:
    """Say what training took; a line each for memory, operations, and those of no zeros."""
    one = costs.training
    forward, backward = count(one.forward_macs), count(one.backward_macs)
    lines = [f"training: {megabytes(one.peak_bytes):.1f} MB at the peak of a batch of {one.batch}"]
    if growth := one.growth:
        lines[0] += f", {megabytes(growth.bytes_per_step):+.2f} MB for one more step"
        found = slowdown_of(costs)
        if found is not None:
            rounds = f"median of {growth.rounds} rounds"
            lines.append(f"time of one more step: {milliseconds(*found)} ms ({rounds})")
        elif growth.ms_per_step_doubt:
            lines += ["time of one more step: -", f"  {growth.ms_per_step_doubt}"]
    lines.append(f"operations per sample: {forward} forward, {backward} backward, dense")
    if (some := one.nonzero) is not None:
        forward = f"{count(some.forward_ac)} AC + {count(some.forward_mac)} MAC forward"
        backward = f"{count(some.backward_ac)} AC + {count(some.backward_mac)} MAC backward"
        lines.append(f"without products by 0: {forward}, {backward}")
    return "\n".join(lines)


def settling_line(costs: AnyCosts) -> str | None:
    """Say how close the rates of a net with feedback come to rest; None for other nets."""
    found = costs.settling
    if not found:
        return None
    gaps = [f"{found.residuals[t - 1]:.3g} at t = {t}" for t in few_steps(len(found.rates))]
    return f"rates settle: mean |f(a) - a| {', '.join(gaps)}; mean rate a {found.rates[-1]:.3g}"


def few_steps(steps: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, ... below T, and T.

    Example:
        >>> few_steps(30)
        [1, 2, 5, 10, 20, 30]
    """
    known = [figure * 10**power for power in range(7) for figure in (1, 2, 5)]
    return [*(one for one in known if one < steps), steps]


def _total(costs: AnyCosts) -> tuple[str, ...]:
    layers, energy = costs.layers, costs.energy
    spiking = [row for row in layers if row.rate_per_step is not None]
    return (
        "total",
        "",
        "",
        count(sum(row.neurons for row in spiking)) if spiking else "-",
        f"{costs.rate_per_step:.3f}" if spiking else "-",
        count(costs.spikes.mean) if spiking else "-",
        count(costs.ac.mean),
        count(costs.mac.mean),
        count(sum(map(_ann_macs, layers))),
        _priced(energy.paper_int32.net),
        _priced(energy.strict_fp32.net),
    )


def _ann_macs(row: LayerRecord) -> int:
    """Return the pairs that the ANN of the same spec computes; it has no feedback."""
    return 0 if row.site.startswith("feedback") else row.pairs


def _spread(value: MeanRecord) -> tuple[str, str]:
    error = value.error
    if error is None:
        return count(value.mean), ""
    return count(value.mean), f"± {count(error) if error >= 10 else f'{error:.2g}'}"


def _split(site: str) -> tuple[str, int]:
    """Part a site's name into layer and pass: "2.0.1" is pass 1 of layer "2.0"."""
    name, dot, turn = site.rpartition(".")
    return (name, int(turn)) if dot else (site, 0)
