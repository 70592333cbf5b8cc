"""Counts and numbers of recipes, whatever is written: right, or named by their path."""

from typing import Any

import pytest
from fuzzing import FLOATS, NUMBERS, OTHERS, TEXTS, cases, refusal, sweep
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError
from spikeloom.program.recipe import build_recipe
from spikeloom.program.tables import override

BASE = {"name": "t", "net": "c4 P f10", "data": "digits", "stages": [{"rule": "bptt"}]}
COUNTS = {
    "stages.0.steps": (1, 10**6),
    "stages.0.epochs": (1, 10**9),
    "stages.0.batch": (1, 10**9),
    "stages.0.patience": (1, 10**9),
    "stages.0.schedule.every": (1, 10**9),
    "data.train_size": (1, 2**63 - 1),
    "data.validation": (1, 2**63 - 1),
    "augment.crop": (0, 2**63 - 1),
    "execution.worth": (0, 2**63 - 1),
    "devices": (1, 1024),
    "seed": (0, 2**63 - 1),
}
"""Whole numbers that are right, both ends included."""

RATES = {
    "stages.0.optimizer.lr": (5e-324, 1e6),
    "stages.0.optimizer.weight_decay": (0.0, 1e6),
    "stages.0.clip": (5e-324, 1e6),
    "stages.0.schedule.warmup": (0.0, 1e6),
}

values = st.one_of(
    st.sampled_from([*NUMBERS, *FLOATS, *TEXTS, *OTHERS, [], [1], {}]),
    st.integers(-(2**70), 2**70),
    st.floats(),
)


OPTIONAL = ("stages.0.patience", "stages.0.clip", "data.train_size", "data.validation")
"""May be none as well."""


def right(path: str, value: Any) -> bool:
    """Whether a value is right, by hand."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None and path in OPTIONAL
    low, high = (COUNTS | RATES)[path]
    whole = path in RATES or isinstance(value, int)
    return whole and value == value and low <= value <= high  # a NaN equals nothing


def check(case: tuple[str, Any]) -> None:
    path, value = case
    table = override(BASE, path, value, "--set")
    line = refusal(lambda: build_recipe(table, "r.toml"))
    if right(path, value):
        assert line is None, line
        return
    assert line is not None and line.startswith(f"r.toml: {path}: expected "), (value, line)
    with pytest.raises(ConfigError) as caught:
        build_recipe(table, "r.toml")
    assert caught.value.path == path and caught.value.expected and caught.value.came


@cases(few=400, many=20_000)
def test_counts_and_rates(examples):
    sweep(st.tuples(st.sampled_from([*COUNTS, *RATES]), values), check, examples)
