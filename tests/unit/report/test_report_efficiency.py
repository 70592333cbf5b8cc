"""EE: one quantity, beside a measured ANN alone, and the rate at which it would be 1."""

import pytest
import reportkit as kit
from pagekit import Reader, entry

from spikeloom.meters.break_even import break_even_rate
from spikeloom.meters.energy import FP32
from spikeloom.report.columns import COLUMNS
from spikeloom.report.efficiency import efficiency, measured_anns
from spikeloom.report.entries import Entry
from spikeloom.report.html.energy import energy
from spikeloom.report.table import entry_rows


def pair(*, ann=True):
    ours = entry("BPTT", kit.run(), kit.run(seed=1, size=3.0)).record()
    reference = entry("ANN", kit.run(spiking=False, rule="ann")).record()
    return [reference, ours] if ann else [ours]


def test_every_reading_by_hand():
    entries = pair()
    found = efficiency(entries[1], measured_anns(entries))
    assert found is not None
    assert found.paper == pytest.approx(1 / 2)  # the nets have sizes 1 and 3, the ANN 1
    assert found.paper_own_rate == pytest.approx(30 / 80)
    assert found.strict == pytest.approx(1 / 2)
    assert found.with_memory == pytest.approx((1 / 2, 1 / 2))
    # of 1080 nJ 680 are there at any rate, more than the ANN's 540
    assert found.break_even == pytest.approx(0.2 * (540 - 680) / 400)


def test_no_measured_ann_no_figure():
    entries = pair(ann=False)
    assert efficiency(entries[0], measured_anns(entries)) is None
    ann, ours = pair()
    assert efficiency(ann, measured_anns([ann, ours])) is None  # an ANN has none itself


def test_the_table_and_the_page_show_the_same_figure():
    entries = pair()
    texts = entry_rows(entries, COLUMNS)[2][1:]
    row = dict(zip((column.key for column in COLUMNS), texts, strict=True))
    page = Reader(energy([Entry(one.label, one.runs) for one in entries])).text
    assert (row["paper_ann_energy"], row["ann_energy"]) == ("0.50", "0.50")
    assert "BPTT 1.080 0.50 1.800 to 18.000 0.50 to 0.50 0.060 0.50 0.080 0.38 0.200 none" in page
    alone = Reader(energy([entry("BPTT", kit.run())])).text
    assert "BPTT 0.540 – 0.900 to 9.000 – 0.030 – 0.040 – 0.200 –" in alone


def test_older_records_have_what_they_hold():
    old = kit.run()
    old["costs"]["energy"] = {
        "paper_int32": {"net": 1.0, "ann": 2.0},
        "strict_fp32": {"net": 1.0, "ann": 2.0},
    }
    ann, _ = pair()
    entries = [ann, entry("old", old).record()]
    found = efficiency(entries[1], measured_anns(entries))
    assert found is not None and found.strict == 540_000
    assert found.paper_own_rate is found.with_memory is found.break_even is None
    assert "old" in energy([entry("old", old)])


@pytest.mark.parametrize(("rate", "steps"), [(0.1, 4), (0.3, 10)])
def test_a_uniform_net_breaks_even_at_the_ratio_of_prices(rate, steps):
    """One rate everywhere, no input layer: r* = (E_MAC / E_AC) / T."""
    macs = 5000
    net = FP32.e_ac * macs * rate * steps
    even = break_even_rate(rate, net, net, FP32.e_mac * macs)
    assert even == pytest.approx(FP32.e_mac / FP32.e_ac / steps)


def test_a_costly_input_leaves_no_rate_and_silence_leaves_any():
    assert break_even_rate(0.2, 10.0, 1.0, 5.0) < 0
    assert break_even_rate(0.2, 10.0, 0.0, 50.0) == float("inf")
    assert break_even_rate(0.2, 10.0, 4.0, 10.0) == pytest.approx(0.2)
