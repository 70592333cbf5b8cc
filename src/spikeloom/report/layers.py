"""Costs of one net for the terminal: a summary beside its ANN, and a row per layer and pass."""

from collections import Counter
from typing import Any

from spikeloom.report.table import count, joules, ratio

Record = dict[str, Any]

HEADINGS = (
    "layer",
    "pass",
    "kind",
    "neurons",
    "rate",
    "spikes",
    "AC",
    "MAC",
    "ANN MAC",
    "uJ paper",
    "uJ strict",
)

PJ = 1e6
"""Picojoules, as the record has them, in a microjoule."""

LAYER_NOTE = (
    "Per inference. rate is spikes per neuron and step; AC and MAC are exact counts by operand; "
    "ANN MAC are all pairs of the ReLU net of the same spec, run once. Energy is a model, not a "
    "measurement (45 nm, 2014): paper is Panda et al. 2020, eq. 8-11, int32; strict prices the "
    "exact counts in fp32. EE = E_ANN / E_net, above 1 the net is cheaper."
)


def layer_rows(costs: Record) -> list[tuple[str, ...]]:
    """Turn a cost record's layers into rows of text, headings first, totals last."""
    layers = [_split(row["site"]) for row in costs["layers"]]
    passes = Counter(name for name, _ in layers)
    rows: list[tuple[str, ...]] = [HEADINGS]
    for (name, turn), row in zip(layers, costs["layers"], strict=True):
        again = str(turn + 1) if passes[name] > 1 else ""
        rate = row["rate_per_step"]
        spiking = rate is not None
        energy = row["energy"]
        rows.append(
            (
                name,
                again,
                row["kind"],
                count(row["neurons"]),
                f"{rate:.3f}" if spiking else "-",
                count(row["spikes"]) if spiking else "-",
                count(row["ac"]),
                count(row["mac"]),
                count(_ann_macs(row)),
                joules(energy["paper_int32"] / PJ),
                joules(energy["strict_fp32"] / PJ),
            )
        )
    rows.append(_total(costs))
    return rows


def summary_rows(costs: Record, *, spiking: bool) -> list[tuple[str, ...]]:
    """Return the net's totals with standard errors, beside those of its ANN, headings first."""
    energy = costs["energy"]
    rows = [("", "net", "", "its ANN")]

    def price(name: str) -> tuple[str, str, str]:
        net, ann = energy[name]["net"], energy[name]["ann"]
        return joules(net / PJ), f"EE {ratio(ann, net)}" if spiking else "", joules(ann / PJ)

    rows.append(("parameters", count(costs["parameters"]), "", count(costs["parameters"])))
    if spiking:
        neurons = sum(row["neurons"] for row in costs["layers"] if row["unit"] == "spiking")
        rows.append(("spiking neurons", count(neurons), "", "-"))
        rows.append(("spikes", *_spread(costs["spikes"]), "-"))
        rows.append(("rate per step", f"{costs['rate_per_step']:.3f}", "", "-"))
    pairs = sum(map(_ann_macs, costs["layers"]))
    rows.append(("AC", *_spread(costs["ac"]), "0"))
    rows.append(("MAC", *_spread(costs["mac"]), count(pairs)))
    rows.append(("uJ paper", *price("paper_int32")))
    rows.append(("uJ strict", *price("strict_fp32")))
    reach = energy["memory_aware_int32"]
    rows.append(
        ("uJ with memory", joules(reach["lower"] / PJ), f"to {joules(reach['upper'] / PJ)}", "-")
    )
    return rows


def training_line(costs: Record) -> str:
    """Say what training took; a line each for memory, operations, and those of no zeros."""
    one = costs["training"]
    forward, backward = count(one["forward_macs"]), count(one["backward_macs"])
    lines = [f"training: {one['peak_bytes'] / 1e6:.1f} MB at the peak of a batch of {one['batch']}"]
    if one.get("growth"):
        more, slower = one["growth"]["bytes_per_step"] / 1e6, one["growth"]["ms_per_step"]
        lines[0] += f", {more:+.2f} MB and {slower:+.3g} ms for one more step"
    lines.append(f"operations per sample: {forward} forward, {backward} backward, dense")
    if one.get("nonzero"):
        parts = [
            f"{count(one['nonzero'][f'{phase}_ac'])} AC + "
            f"{count(one['nonzero'][f'{phase}_mac'])} MAC {phase}"
            for phase in ("forward", "backward")
        ]
        lines.append(f"without products by 0: {', '.join(parts)}")
    return "\n".join(lines)


def settling_line(costs: Record) -> str | None:
    """Say how close the rates of a net with feedback come to rest; None for other nets."""
    found = costs.get("settling")
    if not found:
        return None
    gaps = [f"{found['residuals'][t - 1]:.3g} at t = {t}" for t in few_steps(len(found["rates"]))]
    return f"rates settle: mean |f(a) - a| {', '.join(gaps)}; mean rate a {found['rates'][-1]:.3g}"


def few_steps(steps: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, ... below T, and T.

    Example:
        >>> few_steps(30)
        [1, 2, 5, 10, 20, 30]
    """
    known = [figure * 10**power for power in range(7) for figure in (1, 2, 5)]
    return [*(one for one in known if one < steps), steps]


def _total(costs: Record) -> tuple[str, ...]:
    layers, energy = costs["layers"], costs["energy"]
    spiking = [row for row in layers if row["rate_per_step"] is not None]
    return (
        "total",
        "",
        "",
        count(sum(row["neurons"] for row in spiking)) if spiking else "-",
        f"{costs['rate_per_step']:.3f}" if spiking else "-",
        count(costs["spikes"]["mean"]) if spiking else "-",
        count(costs["ac"]["mean"]),
        count(costs["mac"]["mean"]),
        count(sum(map(_ann_macs, layers))),
        joules(energy["paper_int32"]["net"] / PJ),
        joules(energy["strict_fp32"]["net"] / PJ),
    )


def _ann_macs(row: Record) -> int:
    """Return the pairs that the ANN of the same spec computes; it has no feedback."""
    return 0 if row["site"].startswith("feedback") else row["pairs"]


def _spread(value: Record) -> tuple[str, str]:
    error = value["error"]
    if error is None:
        return count(value["mean"]), ""
    return count(value["mean"]), f"± {count(error) if error >= 10 else f'{error:.2g}'}"


def _split(site: str) -> tuple[str, int]:
    """Part a site's name into layer and pass: "2.0.1" is pass 1 of layer "2.0"."""
    name, dot, turn = site.rpartition(".")
    return (name, int(turn)) if dot else (site, 0)
