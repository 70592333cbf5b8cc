"""Costs for the terminal, from a record made by hand."""

from pathlib import Path

import pytest

from spikeloom.records.costs import CostRecord
from spikeloom.records.files import as_record
from spikeloom.report.layers import HEADINGS, layer_rows, summary_rows, training_line
from spikeloom.report.table import to_text


def layer(site, *, rate: float | None = None, unit="spiking", neurons=16, ac=0.0, mac=0.0, pairs=0):
    return {
        "site": site,
        "kind": "conv",
        "unit": unit,
        "neurons": neurons,
        "rate_per_step": rate,
        "spikes": None if rate is None else rate * neurons * 4,
        "ac": ac,
        "mac": mac,
        "pairs": pairs,
        "energy": {"paper_int32": 1e4 * ac, "strict_fp32": 1e6 * mac},
    }


COSTS = {
    "parameters": 12_345,
    "metered_samples": 30,
    "spikes": {"mean": 24.0, "error": 0.5},
    "rate_per_step": 0.125,
    "ac": {"mean": 60.0, "error": 12.3},
    "mac": {"mean": 4.0, "error": None},
    "energy": {
        "paper_int32": {"net": 2e6, "driven": 1e6, "dense_ann": 9e6},
        "paper_int32_output": {"net": 3e6, "driven": 1e6, "dense_ann": 9e6},
        "strict_fp32": {"net": 4e6, "driven": 1e6, "dense_ann": 20e6},
        "memory_aware_fp32": {"lower": 5e6, "upper": 6e6},
    },
    "training": {"batch": 8, "peak_bytes": 5_550_000, "forward_macs": 1e5, "backward_macs": 2e5},
    "layers": [
        layer("0.0.0", rate=0.25, ac=10.0, pairs=100),
        layer("1.0.0", rate=0.125, ac=20.0, pairs=300),
        layer("1.0.1", rate=0.0, ac=30.0, pairs=300),
        layer("feedback0.0.0", unit="none", pairs=7777),
        layer("readout", unit="none", mac=4.0, pairs=20),
    ],
}


def costs(**changes):
    return as_record(CostRecord, COSTS | changes, Path("test"))


def training(**changes):
    return costs(training=COSTS["training"] | changes)


def by_heading():
    head, *body = layer_rows(costs())
    assert head == HEADINGS
    return [dict(zip(head, row, strict=True)) for row in body]


def test_a_row_per_layer_and_pass():
    rows = by_heading()
    assert [(row["layer"], row["pass"]) for row in rows] == [
        ("0.0", ""),
        ("1.0", "1"),
        ("1.0", "2"),
        ("feedback0.0", ""),
        ("readout", ""),
        ("total", ""),
    ]
    assert [row["rate"] for row in rows] == ["0.250", "0.125", "0.000", "-", "-", "0.125"]
    assert [row["spikes"] for row in rows] == ["16", "8", "0", "-", "-", "24"]
    assert [row["energy by paper, uJ"] for row in rows][:3] == ["0.100", "0.200", "0.300"]
    assert rows[4]["energy, uJ"] == "4.000"


def test_totals_are_the_sums():
    total = by_heading()[-1]
    assert (total["neurons"], total["AC"], total["MAC"]) == ("48", "60", "4")
    assert (total["energy by paper, uJ"], total["energy, uJ"]) == ("2.000", "4.000")


def test_the_ann_has_no_feedback():
    assert by_heading()[3]["dense MAC"] == "0"
    assert by_heading()[-1]["dense MAC"] == "720"
    assert dict((row[0], row[3]) for row in summary_rows(costs(), spiking=True))["MAC"] == "720"


def test_summary():
    rows = {row[0]: row[1:] for row in summary_rows(costs(), spiking=True)}
    assert rows["parameters"] == ("12.3k", "", "12.3k")
    assert rows["spiking neurons"] == ("48", "", "-")
    assert rows["spikes"] == ("24", "± 0.5", "-")
    assert rows["AC"] == ("60", "± 12", "0")
    assert rows["MAC"] == ("4", "", "720")
    assert rows["energy by paper, uJ"] == ("2.000", "dense / SNN 4.50", "9.000")
    assert rows["energy by paper, own rates, uJ"] == ("3.000", "dense / SNN 3.00", "9.000")
    assert rows["energy, uJ"] == ("4.000", "dense / SNN 5.00", "20.000")
    assert rows["energy with memory access, uJ"] == ("5.000", "to 6.000", "-")
    assert rows["firing rate at break-even"] == ("any", "", "-")
    assert not any("ANN /" in cell for row in rows.values() for cell in row)
    assert summary_rows(costs(), spiking=True)[0] == ("", "net", "", "dense ANN")


def test_a_measured_ann_gives_a_ratio():
    """Of the net's 4 uJ, 3 are there at any rate; the ANN takes 3.5, so half the rate is level."""
    ann = costs(
        ac={"mean": 0.0, "error": None},
        mac={"mean": 500.0, "error": 1.0},
        energy={
            "paper_int32": {"net": 9e6, "dense_ann": 9e6},
            "strict_fp32": {"net": 3.5e6, "dense_ann": 20e6},
            "memory_aware_fp32": {"lower": 7e6, "upper": 8e6},
        },
    )
    head, *rows = summary_rows(costs(), spiking=True, ann=ann)
    rows = {row[0]: row[1:] for row in rows}
    assert head == ("", "net", "", "its ANN")
    assert rows["MAC"] == ("4", "", "500")
    assert rows["energy by paper, uJ"] == ("2.000", "ANN / SNN 4.50", "9.000")
    assert rows["energy by paper, own rates, uJ"] == ("3.000", "ANN / SNN 3.00", "9.000")
    assert rows["energy, uJ"] == ("4.000", "ANN / SNN 0.88", "3.500")
    assert rows["energy with memory access, uJ"] == ("5.000", "to 6.000", "7.000 to 8.000")
    assert rows["firing rate at break-even"] == ("0.062", "", "-")  # half of 0.125: 3 + 0.5 = 3.5


def test_an_ann_has_neither_spikes_nor_efficiency():
    layers = [row | {"rate_per_step": None, "spikes": None} for row in COSTS["layers"]]
    plain = costs(layers=layers)
    rows = {row[0]: row[1:] for row in summary_rows(plain, spiking=False)}
    assert "spikes" not in rows and rows["energy by paper, uJ"] == ("2.000", "", "9.000")
    assert layer_rows(plain)[-1][:6] == ("total", "", "", "-", "-", "-")


def test_training():
    plain = "training: 5.5 MB at the peak of a batch of 8"
    dense = "operations per sample: 100k forward, 200k backward, dense"
    assert training_line(costs()).splitlines() == [plain, dense]
    more = {
        "growth": {
            "bytes_per_step": 250_000.0,
            "ms_per_step": 1.25,
            "ms_per_step_quartiles": [1.2, 1.4],
            "rounds": 11,
        },
        "nonzero": {
            "forward_ac": 30e3,
            "forward_mac": 2000.0,
            "backward_ac": 0.0,
            "backward_mac": 90e3,
        },
    }
    assert training_line(training(**more)).splitlines() == [
        plain + ", +0.25 MB for one more step",
        "time of one more step: 1.25 ± 0.10 ms (median of 11 rounds)",
        dense,
        "without products by 0: 30.0k AC + 2000 MAC forward, 0 AC + 90.0k MAC backward",
    ]


def test_a_time_in_doubt_is_not_printed():
    growth = {
        "bytes_per_step": 250_000.0,
        "ms_per_step": None,
        "ms_per_step_quartiles": [-3.47, 1.0],
        "ms_per_step_doubt": "within the noise: the lower quartile is not above 0",
        "rounds": 11,
    }
    lines = training_line(training(growth=growth)).splitlines()
    assert lines[0].endswith("a batch of 8, +0.25 MB for one more step")
    assert lines[1:3] == [
        "time of one more step: -",
        "  within the noise: the lower quartile is not above 0",
    ]


@pytest.mark.parametrize("rows", [layer_rows(costs()), summary_rows(costs(), spiking=True)])
def test_fits_a_terminal(rows):
    assert max(map(len, to_text(rows).splitlines())) <= 100
