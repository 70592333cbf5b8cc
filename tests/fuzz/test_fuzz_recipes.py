"""Recipes with something wrong in them: built, or refused in one line."""

import copy
from typing import Any

import pytest
from fuzzing import cases, mutants, refusal, sweep
from hypothesis import strategies as st

from spikeloom.measure.unchanged import one_call
from spikeloom.program.recipe import build_recipe
from spikeloom.program.setup import set_up

UNIT = {"name": "lif", "alpha": 0.5, "surrogate": {"name": "sigmoid", "k": 4.0}}
TABLE = {
    "blocks": [
        {
            "layers": [
                {"kind": "conv", "out": 4, "norm": "weight"},
                {"kind": "avg_pool", "kernel": 2},
            ]
        },
        {"layers": [{"kind": "conv", "out": 4, "unit": UNIT}], "repeat": 2, "fit": "drop"},
    ],
    "readout": {"kind": "linear", "out": 10, "unit": "none"},
    "feedback": [],
}
BASES: list[dict[str, Any]] = [
    {
        "name": "tiny",
        "net": "c4 P f10",
        "data": {"name": "digits", "train_size": 40, "normalise": False},
        "head": {"name": "stochmax"},
        "encoder": {"name": "poisson", "max_rate": 0.5},
        "stages": [
            {
                "rule": {"name": "sltt", "k_steps": 2},
                "steps": 2,
                "epochs": 1,
                "batch": 20,
                "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.0},
                "schedule": {"name": "step", "every": 2, "factor": 0.5},
                "freeze_body": False,
                "select": "best",
            }
        ],
        "seed": 1,
        "precision": "32-true",
        "device": "cpu",
        "paper": {"title": "t", "doi": "d", "table": "1", "row": "2"},
        "published": {"accuracy": 0.9, "tolerance": 0.1, "steps": 6, "open": ""},
    },
    {
        "name": "tables",
        "net": {"table": TABLE},
        "data": "digits",
        "encoder": {"name": "latency", "curve": "log", "tau": 1.0},
        "stages": [{"rule": {"name": "ottt", "update": "online", "trace_decay": 0.5}, "steps": 3}],
    },
    {
        "name": "texts",
        "net": {"text": "c4 P [c4]x2 f8 f10", "unit": UNIT, "norm": "batch_step", "dropout": 0.1},
        "data": {"name": "digits"},
        "stages": [
            {"rule": "ann", "epochs": 2, "optimizer": {"name": "sgd", "momentum": 0.9}},
            {"rule": {"name": "bptt", "loss": "step"}, "steps": 2, "batch": 8},
        ],
    },
]


def check(table: Any) -> None:
    """Build and set up; let the rule learn from two samples where that is small work."""

    def run() -> None:
        recipe = build_recipe(table, "fuzz.toml")
        bench = set_up(recipe)
        size = sum(one.numel() for one in bench.modules().parameters())
        if size < 100_000 and bench.steps < 20:
            one_call(bench, 2)

    before = copy.copy(table)
    refusal(run)
    assert table.keys() == before.keys()


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))


@pytest.mark.parametrize("base", BASES, ids=lambda base: base["name"])
def test_what_is_mutated_is_whole(base):
    assert refusal(lambda: one_call(set_up(build_recipe(base, "fuzz.toml")), 2)) is None


@cases(few=40, many=4000)
def test_recipes(examples):
    sweep(st.sampled_from(BASES).flatmap(mutants), check, examples)
