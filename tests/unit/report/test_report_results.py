"""Results to take along: numbers by hand, CSV, data frames, notebooks."""

import csv
import io

import pytest
import reportkit as kit

import spikeloom
from spikeloom.base.errors import ConfigError
from spikeloom.report.columns import COLUMNS


@pytest.fixture
def demo(tmp_path):
    entries = [
        kit.entry("ANN", kit.run(0.96, spiking=False, rule="ann"), block="common"),
        kit.entry("a, b", *(kit.run(0.01 * x, seed=x) for x in (94, 96, 98)), block="common"),
        kit.entry("no", refusal="rules.ide: needs a feedback edge; add one."),
    ]
    return kit.write_comparison(tmp_path / "demo", entries)


def test_numbers_and_spreads(demo):
    ann, ours, refused = spikeloom.results(demo).rows()
    assert (ours["entry"], ours["state"], ours["block"], ours["seeds"]) == (
        "a, b",
        "done",
        "common",
        3,
    )
    assert ours["accuracy"] == pytest.approx(96) and ours["accuracy_spread"] == pytest.approx(2)
    assert ann["accuracy_spread"] is None and ann["spikes"] is None
    assert ours["energy"] == pytest.approx(0.54) and "energy_spread" not in ours
    assert refused["state"] == "refused" and refused["accuracy"] is None


def test_csv_holds_the_same_numbers(demo):
    found = spikeloom.results(str(demo))
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    for row, numbers in zip(rows, found.rows(), strict=True):
        assert row == {key: "" if one is None else str(one) for key, one in numbers.items()}
    assert rows[1]["entry"] == "a, b"


def test_a_data_frame(demo):
    pytest.importorskip("pandas")
    frame = spikeloom.results(demo).frame()
    assert frame.set_index("entry").accuracy["a, b"] == pytest.approx(96)
    assert list(frame.columns[:3]) == ["entry", "state", "block"] and len(frame) == 3


def test_without_pandas_one_line(demo, monkeypatch):
    monkeypatch.setattr("spikeloom.base.extras.installed", lambda library: False)
    with pytest.raises(ConfigError, match=r"results: .* pip install 'spikeloom\[frame\]'"):
        spikeloom.results(demo).frame()


def test_texts_and_a_notebook(demo):
    found = spikeloom.results(demo)
    assert "96.00 ± 2.00" in str(found) and "refused" in str(found)
    assert found.markdown("accuracy").splitlines()[0] == "| entry | test accuracy, % |"
    assert "<th>a, b</th><td>96.00 ± 2.00" in found._repr_html_()
    with pytest.raises(ConfigError, match="unknown column 'x'"):
        found.markdown("x")


def test_every_figure_is_there(demo):
    (row, *_) = spikeloom.results(demo).rows()
    assert {column.key for column in COLUMNS} <= set(row)
