"""The README's comparison keeps what it says: two minutes, so with the slow tests."""

from pathlib import Path
from statistics import mean

import pytest

from spikeloom.compare.plan import read_comparison
from spikeloom.compare.run import run_comparison

DEMO = Path(__file__).parents[2] / "recipes" / "demo.toml"


@pytest.mark.slow
def test_every_rule_reaches_97_percent_and_the_controls_do_not(tmp_path):
    results = run_comparison(read_comparison(DEMO), tmp_path)
    means = {
        entry.label: mean(run.test_accuracy for run in entry.runs) for entry in results.entries
    }
    controls = {entry.label for entry in results.entries if entry.control}
    assert controls == {"logistic regression", "hidden layers frozen"}
    assert all(value >= 0.97 for label, value in means.items() if label not in controls), means
    assert means["hidden layers frozen"] < 0.9
