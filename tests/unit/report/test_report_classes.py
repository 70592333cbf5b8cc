"""Accuracy per class: when it is shown, and its numbers by hand."""

import pytest
from recordkit import comparison, entry, run

from spikeloom.base.errors import SpikeloomError
from spikeloom.records.run import PerClass
from spikeloom.report.blocks import comparison_lines, plain_table
from spikeloom.report.classes import (
    NOTE,
    balanced_accuracy,
    balanced_line,
    class_lines,
    class_names,
    shares,
    unbalanced,
)


def counted(correct, samples, **others):
    return run(per_class={"correct": correct, "samples": samples}, **others)


@pytest.mark.parametrize(
    ("samples", "is_so"),
    [([10, 10, 10], False), ([10, 15], False), ([10, 16], True), ([10, 0], True), ([], False)],
)
def test_what_is_unbalanced(samples, is_so):
    assert unbalanced(samples) == is_so


def test_by_hand():
    """90 of 90 and 5 of 10: plain 95 %, balanced (1 + 0.5) / 2 = 75 %."""
    assert shares([90, 5, 0], [90, 10, 0]) == [1.0, 0.5, None]
    assert balanced_accuracy([90, 5, 0], [90, 10, 0]) == 0.75
    line = balanced_line([90, 5], [90, 10])
    assert line.startswith("balanced accuracy 75.00 % (10 to 90 test samples a class)")
    assert balanced_line([9, 9], [10, 10]) is None


def test_names():
    assert class_names(["", "1", "cat"]) == ["0", "1", "2 cat"]


class TestLines:
    def test_a_line_per_entry_over_seeds(self):
        runs = [counted([90, good], [90, 10], classes=["dog", "cat"]) for good in (4, 5, 6)]
        lines = class_lines([entry("BPTT", *runs), entry("SLTT", counted([45, 9], [90, 10]))])
        assert lines[1] == "accuracy per class, in %: 10 to 90 test samples a class"
        assert lines[2].split("  ")[0] == "entry"
        bptt, sltt = (line.split() for line in lines[4:6])
        assert bptt == [
            "BPTT",
            "75.00",
            "±",
            "5.00",
            "1",
            "cat:",
            "50.0",
            "of",
            "10",
            "100.0",
            "50.0",
        ]
        assert sltt == ["SLTT", "70.00", "0", "dog:", "50.0", "of", "90", "50.0", "90.0"]
        assert lines[-1] == NOTE

    def test_of_many_classes_the_least(self):
        correct = [9] * 12
        correct[3], correct[7], correct[5] = 0, 2, 4
        lines = class_lines([entry("x", counted(correct, [10] * 11 + [40]))])
        assert lines[4].endswith("3: 0.0 of 10, 7: 20.0 of 10, 11: 22.5 of 40")

    def test_nothing_for_balanced_data_or_older_records(self):
        assert class_lines([entry("x", counted([9, 9], [10, 10]))]) == []
        assert (
            class_lines([entry("x", run())]) == [] and class_lines([entry("x", refusal="no")]) == []
        )

    def test_below_every_table(self):
        row = entry("x", counted([90, 5], [90, 10]), block="common", differences=[])
        results = comparison(row, first="x")
        title = "accuracy per class, in %: 10 to 90 test samples a class"
        assert title in [line.text for line in comparison_lines(results)]
        assert title in plain_table(results).splitlines()
        assert f"```text\n{title}" in plain_table(results, markdown=True)


@pytest.mark.parametrize("counts", [([1, 2], [3]), ([4], [3])])
def test_counts_that_cannot_be(counts):
    correct, samples = counts
    with pytest.raises((SpikeloomError, ValueError)):
        PerClass(correct=correct, samples=samples)
