"""The numbers behind the figures, against ones worked out by hand."""

import json

import pytest
import reportkit as kit
from pagekit import entry, epochs

from spikeloom.report.entries import Entry, Unfinished
from spikeloom.report.html.figures import (
    COSTS,
    SAMPLE_BUDGET,
    cost_of,
    figure_data,
    front,
)
from spikeloom.report.means import scores_of

STRICT, MEMORY, SECONDS, PAPER, SPIKES, LATENCY = COSTS


def point(accuracy, size, **changes):
    return entry(f"{accuracy} {size}", kit.run(accuracy, size=size), **changes)


class TestCosts:
    def test_units(self):
        one = entry("x", kit.run(size=2.0), kit.run(size=4.0))
        assert cost_of(one, STRICT) == pytest.approx(1.62)  # 0.54 uJ x 3
        assert cost_of(one, PAPER) == pytest.approx(0.09)
        assert cost_of(one, MEMORY) == pytest.approx(33.0)
        assert cost_of(one, SECONDS) == pytest.approx(12.0)
        assert cost_of(one, SPIKES) == pytest.approx(9000)
        assert cost_of(one, LATENCY) == pytest.approx(2.4)

    def test_what_is_not_there(self):
        ann = entry("ann", kit.run(spiking=False))
        assert cost_of(ann, SPIKES) is None and cost_of(ann, STRICT) is not None
        assert cost_of(entry("none"), STRICT) is None
        old = kit.run()
        del old["costs"]["inference"]
        assert cost_of(entry("old", old, kit.run()), LATENCY) is None

    def test_accuracies_are_percentages(self):
        assert scores_of(entry("x", kit.run(0.5), kit.run(0.25))) == [50, 25]


class TestFront:
    def test_by_hand(self):
        points = [point(0.90, 2), point(0.92, 3), point(0.91, 3.5), point(0.95, 9), point(0.8, 2)]
        assert front(points, STRICT) == [[0, 1, 3]]

    def test_equal_points_share_the_front(self):
        assert front([point(0.9, 2), point(0.9, 2)], STRICT) == [[0, 1]]

    def test_equally_accurate_and_dearer_is_beaten(self):
        assert front([point(0.9, 3), point(0.9, 2)], STRICT) == [[1]]

    def test_rounding_tells_nothing_apart(self):
        cheap, dear = point(0.9, 2), point(0.9 + 1e-15, 3)
        assert front([cheap, dear], STRICT) == [[0]]

    def test_controls_and_entries_with_failures_take_no_part(self):
        points = [point(0.9, 2), point(0.99, 1, control=True), entry("refused", refusal="no")]
        points.append(point(0.98, 1, error="1 of 2 runs failed"))
        assert front(points, STRICT) == [[0]]

    def test_data_sets_are_kept_apart(self):
        other = entry("m", kit.run(0.7, size=5, data="mnist"))
        assert front([point(0.9, 2), other], STRICT) == [[0], [1]]

    def test_no_spikes_no_front_of_spikes(self):
        assert front([entry("ann", kit.run(spiking=False))], SPIKES) == []


class TestCurves:
    def test_bands_over_seeds(self):
        one, other = kit.run(seed=0), kit.run(seed=1)
        for run, losses in ((one, [3.0, 1.0, 0.5]), (other, [1.0, 2.0])):
            run["curve"] = [
                epoch | {"loss": loss, "seconds": 2.0}
                for epoch, loss in zip(run["curve"], losses, strict=False)
            ]
        curve = figure_data([entry("x", one, other)])["curves"][0]
        assert curve["loss"]["mean"] == [2.0, 1.5, 0.5]
        assert curve["loss"]["low"] == [1.0, 1.0, 0.5]
        assert curve["loss"]["high"] == [3.0, 2.0, 0.5]
        assert curve["seconds"] == [2.0, 4.0, 6.0] and curve["seeds"] == 2

    def test_stages_begin_where_the_stage_changes(self):
        run = kit.run()
        second = kit.curve(epochs=3, rule="sltt", stage=1)
        run["curve"] = kit.curve(epochs=2, rule="ann") + second
        data = figure_data([entry("x", run), entry("y", kit.run())])
        assert data["curves"][0]["stages"] == [[0, "ann"], [2, "sltt"]]
        assert data["curves"][1]["stages"] == []

    def test_a_missing_column_is_left_out(self):
        run = kit.run()
        for epoch in run["curve"]:
            del epoch["val_loss"]
        curve = figure_data([entry("x", run)])["curves"][0]
        assert "val_loss" not in curve and "val_accuracy" in curve

    def test_unfinished_runs_count(self):
        partial = Unfinished("x", 0, kit.recipe(), epochs(kit.curve(epochs=3)))
        data = figure_data([Entry("x", unfinished=(partial,)), Entry("y")])
        assert len(data["curves"][0]["loss"]["mean"]) == 3 and data["curves"][0]["planned"] == 8
        assert data["curves"][1] is None and data["points"] == [None, None]
        assert [one["drawn"] for one in data["entries"]] == [True, False]


class TestFloor:
    def test_one_bad_entry_does_not_flatten_the_rest(self):
        points = [point(value, 1) for value in (0.98, 0.985, 0.99, 0.10)]
        assert 97 < figure_data(points)["floor"] < 98

    def test_entries_that_spread_are_all_shown(self):
        points = [point(value, 1) for value in (0.9, 0.7, 0.5)]
        assert figure_data(points)["floor"] < 50

    def test_controls_do_not_set_it(self):
        points = [point(0.98, 1), point(0.99, 1), point(0.96, 1, control=True)]
        assert figure_data(points)["floor"] > 97

    def test_nothing_ran(self):
        assert figure_data([Entry("x", refusal="no")])["floor"] == 0


class TestRates:
    def rates(self, run, *more):
        return figure_data([entry("x", run, *more)])["rates"]

    def test_mean_and_range(self):
        one, other = kit.run(), kit.run()
        one["costs"]["layers"][0]["rate_per_step"] = 0.1
        other["costs"]["layers"][0]["rate_per_step"] = 0.3
        rates = self.rates(one, other)
        cell = rates["rows"][0]["cells"]["0.0.0"]
        assert (cell["rate"], cell["low"], cell["high"]) == (0.2, 0.1, 0.3)
        assert [site["name"] for site in rates["sites"]] == ["0.0.0", "1.0.0", "3.0.0"]

    def test_sites_by_number_and_pass(self):
        run = kit.run()
        names = ("10.0.0", "2.0.1", "2.0.0", "readout", "0.0.0")
        run["costs"]["layers"] = [{"site": name, "rate_per_step": 0.1} for name in names]
        sites = [site["name"] for site in self.rates(run)["sites"]]
        assert sites == ["0.0.0", "2.0.0", "2.0.1", "10.0.0", "readout"]

    def test_health_is_marked(self):
        run = kit.run()
        run["curve"][0]["health"] = [
            {"site": "0.0.0", "verdict": "ok"},
            {"site": "1.0.0", "verdict": "saturated"},
        ]
        run["costs"]["layers"][3]["rate_per_step"] = 0.0
        cells = self.rates(run)["rows"][0]["cells"]
        verdicts = {name: cell["verdict"] for name, cell in cells.items()}
        assert verdicts == {"0.0.0": "", "1.0.0": "saturated", "3.0.0": "dead"}

    def test_a_later_stage_may_heal(self):
        run = kit.run()
        run["curve"][0]["health"] = [{"site": "0.0.0", "verdict": "dead"}]
        run["curve"][5]["health"] = [{"site": "0.0.0", "verdict": "ok"}]
        assert self.rates(run)["rows"][0]["cells"]["0.0.0"]["verdict"] == ""

    def test_nets_without_spikes_have_no_row(self):
        assert self.rates(kit.run(spiking=False)) == {"sites": [], "rows": []}


class TestStepsAndSamples:
    def test_accuracy_by_step_in_percent(self):
        one = kit.run(accuracy_by_step=[0.5, 0.9])
        other = kit.run(accuracy_by_step=[0.7, 0.9])
        data = figure_data([entry("x", one, other), entry("ann", kit.run(spiking=False))])
        assert data["steps"][0] == {"mean": [60, 90], "low": [50, 90], "high": [70, 90]}
        assert data["steps"][1] is None

    def test_samples_fit_their_budget(self):
        few = figure_data([entry("x", kit.run(), samples=kit.samples(count=8))])
        assert len(few["samples"][0]["samples"]) == 8
        big = kit.samples(count=8, steps=64, neurons=96)
        data = figure_data([entry(str(n), kit.run(), samples=big) for n in range(60)])
        counts = {len(one["samples"]) for one in data["samples"]}
        assert len(counts) == 1 and 1 <= counts.pop() < 8
        assert len(json.dumps(data["samples"])) < 1.2 * SAMPLE_BUDGET

    def test_numbers_are_short(self):
        text = json.dumps(figure_data([entry("x", kit.run(1 / 3), samples=kit.samples())]))
        assert "0.3333333" not in text and "33.333" in text

    def test_entries_without_samples(self):
        record = kit.samples() | {"samples": []}
        data = figure_data([entry("x", kit.run(), samples=record), entry("y", kit.run())])
        assert data["samples"] == [{"steps": 4, "classes": None, "samples": []}, None]
