"""Limits and the front, from records made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordkit import entry, run, timed

from spikeloom.report.pick import front, pareto, pick


class TestPareto:
    @pytest.mark.parametrize(
        ("points", "rows"),
        [
            ([], set()),
            ([(90, 1)], {0}),
            ([(90, 1), (91, 2)], {0, 1}),
            ([(90, 1), (90, 2)], {0}),
            ([(90, 1), (91, 1)], {1}),
            ([(90, 1), (90, 1)], {0, 1}),  # equal ones do not beat each other
            ([(90, 2), (91, 1), (92, 3)], {1, 2}),
        ],
    )
    def test_by_hand(self, points, rows):
        assert pareto(points) == rows

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
    def test_every_row_is_kept_or_beaten_by_a_kept_one(self, points):
        kept = pareto(points)
        for row, (accuracy, cost) in enumerate(points):
            beaten = any(
                points[one][0] >= accuracy
                and points[one][1] <= cost
                and points[one] != (accuracy, cost)
                for one in kept
            )
            assert (row in kept) != beaten


def costing(accuracy, *, spikes=250.0, peak=5_000_000, ms=1.0, strict=4e6, **others):
    return run(
        accuracy,
        costs__spikes={"mean": spikes},
        costs__training__peak_bytes=peak,
        costs__inference=timed(ms),
        costs__energy__strict_fp32={"net": strict, "dense_ann": 20e6},
        **others,
    )


class TestFront:
    def test_controls_and_failures_are_left_out(self):
        entries = [
            entry("control", costing(0.99, strict=1e6), control=True),
            entry("failed", costing(0.98, strict=1e6), error="1 of 2 runs failed: nan"),
            entry("good", costing(0.90, strict=2e6)),
            entry("beaten", costing(0.89, strict=3e6)),
            entry("refused", refusal="no"),
        ]
        assert front(entries) == {"good"}

    def test_means_decide(self):
        entries = [entry("a", costing(0.9), costing(0.7)), entry("b", costing(0.81))]
        assert front(entries) == {"b"}


class TestPick:
    ENTRIES = (
        entry("big", costing(0.95, peak=9_000_000, spikes=900.0)),
        entry("small", costing(0.92, peak=2_000_000, ms=0.5)),
        entry("slow", costing(0.93, peak=2_000_000, ms=8.0)),
        entry("ANN", costing(0.97, spiking=False, peak=1_000_000)),
        entry("control", costing(0.99, peak=1), control=True),
    )

    @pytest.mark.parametrize(
        ("limits", "best"),
        [
            ({"max_spikes": 1000}, "big (95.00 %"),
            ({"max_spikes": 900}, "big"),  # a limit may be reached
            ({"max_spikes": 899}, "slow (93.00 %"),
            ({"max_spikes": 899, "max_ms": 1}, "small"),
            ({"max_mb": 3}, "ANN (97.00 %, 1 MB of training memory, 1 ms per inference)"),
        ],
    )
    def test_the_most_accurate_that_fits(self, limits, best):
        text = pick([*self.ENTRIES], limits)
        assert text.startswith("best within ") and f": {best}" in text

    def test_ties_go_to_the_cheaper(self):
        entries = [entry("dear", costing(0.9)), entry("cheap", costing(0.9, strict=1e6))]
        assert ": cheap (" in pick(entries, {"max_mb": 9})

    def test_what_is_level_with_the_pick_is_named(self):
        entries = [
            entry("a", costing(0.95, test_samples=100)),
            entry("b", costing(0.94, test_samples=100)),
            entry("c", costing(0.90, test_samples=100)),
        ]
        assert pick(entries, {"max_mb": 9}).endswith("; too close to rank: b")
        assert "level" not in pick(entries[1:], {"max_mb": 9})

    def test_none_fits(self):
        text = pick([*self.ENTRIES], {"max_ms": 0.4, "max_spikes": 500})
        assert text.startswith(
            "none within 0.4 ms per inference and 500 spikes per inference; nearest: small (92.00 %"
        )
        assert text.endswith("at 1.25 times a limit")

    def test_what_was_not_measured_does_not_fit(self):
        old = [entry("old", run())]
        assert pick(old, {"max_ms": 9}).endswith("no entry has these figures.")
        assert pick(old, {"max_mb": 9}).startswith("best within 9 MB of training memory: old (")
        assert pick([], {"max_mb": 9}).startswith("none within")
