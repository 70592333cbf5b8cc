"""Rows that still improve, and rows below a control."""

import pytest
from recordkit import entry, run

from spikeloom.report.blocks import below_table
from spikeloom.report.doubts import doubts, gain_at_the_end


def trained(*accuracies, samples=1000):
    epochs = [
        {"epoch": epoch, "loss": 1.0, "accuracy": 0.5, "val_accuracy": one}
        for epoch, one in enumerate(accuracies)
    ]
    return run(curve=epochs, val_samples=samples)


RISING = [0.50 + 0.02 * epoch for epoch in range(10)]
LEVEL = [0.5] * 5 + [0.7, 0.71, 0.70, 0.71, 0.70]


def test_a_rise_in_the_last_fifth_beyond_chance():
    points, last, epochs = gain_at_the_end(entry("x", trained(*RISING, samples=2000)))
    assert (round(points, 6), last, epochs) == (4.0, 2, 10)  # 0.64 before, 0.68 after
    assert gain_at_the_end(entry("x", trained(*LEVEL, samples=2000))) is None


def test_chance_is_two_standard_errors_of_the_difference():
    """sqrt(2 * 0.66 * 0.34 / n) = 0.02 at n = 1122: 4 points are no more than two of them."""
    assert gain_at_the_end(entry("x", trained(*RISING, samples=1130))) is not None
    assert gain_at_the_end(entry("x", trained(*RISING, samples=1115))) is None
    two = entry("x", trained(*RISING, samples=600), trained(*RISING, samples=600))
    assert gain_at_the_end(two) is not None


def test_few_epochs_and_older_records_say_nothing():
    assert gain_at_the_end(entry("x", trained(*RISING[:9]))) is None
    assert gain_at_the_end(entry("x", run())) is None
    assert gain_at_the_end(entry("x", trained(*RISING, samples=None))) is None


@pytest.mark.parametrize(
    ("accuracy", "said"), [(0.90, True), (0.949, False), (0.96, False)]
)  # one of 1,000 test images is no difference
def test_below_a_control(accuracy, said):
    rows = [
        entry("x", run(accuracy, test_samples=1000)),
        entry("linear", run(0.95, test_samples=1000), control=True),
        entry("frozen", run(0.5, test_samples=1000), control=True),
    ]
    marks = [(one.label, one.mark) for one in doubts(rows)]
    assert marks == [("x", "below a control")] * said
    line = "below a control: x is 5.0 points below the control 'linear'."
    assert (line in below_table(rows)) is said


def test_controls_of_other_data_and_failed_rows_count_for_nothing():
    rows = [
        entry("x", run(0.5)),
        entry("failed", error="no"),
        entry("linear", run(0.95, data="mnist"), control=True),
    ]
    assert not doubts(rows)
