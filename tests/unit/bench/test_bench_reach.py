"""The figures to reach, from rows made by hand."""

import pytest

from spikeloom.bench.growth import GROWING, Curve, Flatness
from spikeloom.bench.measure import Measured, Row
from spikeloom.bench.neuron import bytes_moved, measure_neuron
from spikeloom.bench.page import page_text, sections
from spikeloom.bench.plan import Plan, chosen_contenders
from spikeloom.bench.plot import COLOURS, draw_growth
from spikeloom.bench.reach import best_floor, fastest_peer, memory_floor, reach
from spikeloom.bench.result import Result
from spikeloom.bench.spread import Spread
from spikeloom.bench.tables import contender_rows, growth_rows, reach_rows
from spikeloom.bench.workloads import WORKLOADS


def row(name, kind, seconds, peak, *, workload="conv", low=False, rounds=5, **kept):
    return Row(
        workload,
        "bf16" if low else "fp32",
        name,
        kind,
        kept.get("online", False),
        kept.get("saving", False),
        rounds=((seconds,),) * rounds,
        peak=peak,
        process=peak,
        first=1.0,
        loss=2.3,
        layout="contiguous",
        backend="torch",
    )


ROWS = [
    row("ann-fold", "floor", 1.0, 100),
    row("ann-fold-cl", "floor", 0.8, 110),
    row("ann-loop", "floor", 1.2, 50),
    row("ann-single", "floor", 0.1, 20, online=True),
    row("bptt", "ours", 0.9, 120),
    row("sltt", "ours", 1.0, 24, online=True),
    row("sltt-k2", "ours", 0.7, 30, online=True),
    row("snntorch", "peer", 1.8, 400),
    row("norse", "peer", 1.5, 400),
]
FOUND = Measured(ROWS)


def figures(found=FOUND, **other):
    rest = {"neuron": None, "flatness": [], "curves": []} | other
    return {(one.what, one.where): one for one in reach(found, **rest)}


def test_the_best_ann_is_the_fastest_on_all_images():
    best = best_floor(FOUND, "conv", "fp32")
    assert best is not None and best.contender == "ann-fold-cl"  # not ann-single
    assert best_floor(FOUND, "conv", "bf16") is None
    peer = fastest_peer(FOUND, "conv", "fp32")
    assert peer is not None and peer.contender == "norse"


def test_memory_is_compared_with_its_own_kind():
    floors = {one.contender: memory_floor(FOUND, one) for one in ROWS[4:6]}
    assert {name: one.contender for name, one in floors.items() if one} == {
        "bptt": "ann-fold",  # the leanest on all images at once; the loop keeps less
        "sltt": "ann-single",
    }


def test_figures_by_hand():
    got = figures()
    time = got["BPTT: time", "conv fp32"]
    assert time.value.median == pytest.approx(0.9 / 0.8) and time.target == "<= 1.15" and time.met
    memory = got["BPTT: peak memory", "conv fp32"]
    assert memory.value.median == 1.2 and memory.met
    peer = got["BPTT: times faster", "conv fp32"]
    assert peer.value.median == pytest.approx(1.5 / 0.9) and peer.target == ">= 1.3" and peer.met
    assert got["sltt: peak memory", "conv fp32"].met
    fewer = got["sltt-k2: time", "conv fp32"]
    assert fewer.value.median == pytest.approx(0.7) and fewer.met is False
    assert got["sltt-k2: peak memory", "conv fp32"].met is False


def test_what_did_not_run_is_not_met():
    saving = figures()["BPTT saving memory: memory", "conv fp32"]
    assert saving.value is None and saving.met is None
    assert "not measured" in reach_rows([saving])[1]
    with_it = Measured([*ROWS, row("bptt-saving", "ours", 1.08, 60, saving=True)])
    got = figures(with_it)
    assert got["bptt-saving, saving memory: peak memory", "conv fp32"].value.median == 0.6
    time = got["bptt-saving, saving memory: time", "conv fp32"]
    assert time.value.median == pytest.approx(1.2) and time.met and time.limit == 1.25


def test_workloads_without_targets_are_shown_without_a_verdict():
    rows = [row(one.contender, one.kind, 1.0, 10, workload="long") for one in ROWS]
    assert {one.met for one in reach(Measured(rows), None, [], [])} == {None}


def test_flatness_growth_and_the_neuron():
    flat = Flatness("mlp", "sltt", (8, 256), (100, 104))
    steep = Flatness("mlp", "ottt-a", (8, 256), (100, 200))
    seconds, peaks = (1.0, 1.9, 4.75), (1, 2, 4)
    spreads = tuple(Spread(one, one, one, 15) for one in seconds)
    curve = Curve("mlp", "bptt", "T", 16, (1, 2, 4), seconds, peaks, spreads)
    neuron = {"neuron": [6.0, 5.0, 5.0, 5.0, 4.0], "stream": [2.0] * 5, "bytes": 4e8}
    got = figures(flatness=[flat, steep], curves=[curve], neuron=neuron)
    assert got["sltt: memory at T = 256", "mlp fp32"].met
    assert got["ottt-a: memory at T = 256", "mlp fp32"].met is False
    assert got["bptt: largest factor where T doubles", "mlp"].met is False  # 2.5
    alone = got["neuron alone, forward + backward: time", "fp32"]
    assert alone.value.median == 2.5 and alone.met


def test_times_of_few_rounds_or_in_noise_are_no_figures():
    few = [row(one.contender, one.kind, 1.0, 10, rounds=4) for one in ROWS]
    time = figures(Measured(few))["BPTT: time", "conv fp32"]
    assert time.value is not None and time.met is None and time.doubt == "4 rounds, fewer than 5"
    cells = dict(zip(*reach_rows([time]), strict=True))
    assert (cells["measured"], cells["quartiles"], cells["met"]) == ("-", "-", "-")
    head, *rows = contender_rows(Measured(few), "conv", "fp32")
    for one in rows:
        cells = dict(zip(head, one, strict=True))
        assert cells["ms"] == cells["quartiles"] == cells["fastest"] == cells["x best ANN"] == "-"
        assert cells["peak MB"] != "-"


def test_growth_stands_with_its_quartiles():
    spreads = (Spread(1e-3, 0.9e-3, 1.1e-3, 15), Spread(2e-3, 1e-3, 3e-3, 15))
    curve = Curve("mlp", "bptt", "T", 16, (1, 2), (1e-3, 2e-3), (1, 2), spreads)
    assert [line[1] for line in growth_rows([curve])[1:]] == ["1.00 (0.90..1.10)", "-"]


def test_bytes_that_must_move():
    assert bytes_moved((8, 16, 128, 32, 32)) == 5 * 4 * 8 * 16 * 128 * 32 * 32
    reply = measure_neuron((2, 2, 2, 2, 2), rounds=3)
    assert len(reply["neuron"]) == len(reply["stream"]) == 3 and reply["bytes"] == 5 * 4 * 32
    assert min(reply["neuron"] + reply["stream"] + reply["forward"]) > 0


def test_rows_of_the_table():
    head, *rows = contender_rows(FOUND, "conv", "fp32")
    assert [one[0] for one in rows] == [
        *("ann-single", "ann-fold-cl (best ANN)", "ann-fold", "ann-loop"),
        *("sltt-k2", "bptt", "sltt", "norse", "snntorch"),
    ]
    bptt = dict(zip(head, rows[5], strict=True))
    assert bptt["ms"] == "900" and bptt["x best ANN"] == "1.12" and bptt["x ANN"] == "1.20"


def result(**changes):
    fixed = {"found": FOUND, "day": "2026-01-02", "machine": {"cores": "2"}}
    return Result(**{**fixed, **changes})


def test_the_page():
    plan = Plan((WORKLOADS["conv"],), chosen_contenders("ours"), ("fp32",), rounds=2)
    FOUND.skipped["sinabs"] = "sinabs is not installed"
    text = page_text(plan, result(), "growth.svg")
    FOUND.skipped.clear()
    assert text.startswith("# Speed and memory, 2-core CPU, 2026-01-02")
    assert "--workloads conv" in text and "--precision fp32 --rounds 2" in text
    assert "| BPTT: time | conv fp32 | best ANN (ann-fold-cl) | <= 1.15 | 1.12 |" in text
    assert "sinabs: sinabs is not installed" in text and "](growth.svg)" in text


def test_small_sizes_are_not_judged():
    plan = Plan((WORKLOADS["conv"],), ("bptt",), quick=True)
    assert {one.met for one in result(quick=True).figures()} == {None}
    assert "figures have no meaning" in page_text(plan, result(quick=True))
    assert [one.title for one in sections(plan, result())][0] == "Figures to reach"


def test_every_curve_that_is_measured_has_a_colour_of_its_own():
    assert len(set(COLOURS)) == len(COLOURS) >= len(GROWING)


def test_the_plot_holds_every_curve():
    curves = [
        Curve(work, name, axis, 16, (1, 2, 4), (0.001, 0.002, 0.004), (1, 2, 4))
        for work in ("mlp", "small conv")
        for axis in ("T", "B")
        for name in ("bptt", "ann-fold")
    ]
    svg = draw_growth(curves)
    assert svg.count("<polyline") == 8 and svg.count("<g ") == 4 and svg.count("<circle") == 24
    assert "mlp, B = 16" in svg and "small conv, T = 16" in svg
    flat = draw_growth([Curve("mlp", "bptt", "T", 1, (1,), (0.002,), (1,))])
    assert "nan" not in flat and "<polyline" in flat
