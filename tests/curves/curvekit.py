"""Short seeded trainings of every rule, whose figures are kept in `curves.json`.

A run goes through the library's own loop: recipe, batches, rule, optimizer, validation. Kept are
the training loss and validation loss of every epoch, every digit of them, and a digest of the
weights at the end. `python tests/curves/restate.py` writes the file anew.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from spikeloom.rules.base import RULES  # noqa: E402
from spikeloom.train.loop import train  # noqa: E402
from trainkit import recipe, tiny  # noqa: E402

KEPT = Path(__file__).parent / "curves.json"

FORMS: dict[str, dict[str, Any]] = {
    "reference": {"execution": {"kernels": "reference", "layout": "rows"}, "precision": "64-true"},
    "compiled": {"execution": {"kernels": "compiled"}, "precision": "32-true"},
}
"""The reference in float64, and what users run: compiled kernels in float32, channels last."""

LATERAL = '{feedback = [{source = 1, target = 1, layers = "f8", restrict = 0.5}]} '
HALF = {"name": "if", "fire_fraction": 0.5}
TRAINED = {"name": "if", "v_th": 1.5, "learn": ["v_th"], "fire_fraction": 0.5}
REST = {"name": "lif", "refractory": 1, "beta": 0.25}

SGD = {"stages.0.optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}
"""For nets with batch norm: a bias before it has a gradient of rounding, which Adam makes large."""

NETS: dict[str, Mapping[str, Any]] = {
    "flat": {"net": "f12 f8 f3"},
    "conv": {"net": "c4 c4 P f8 f3"},
    "frames": {"net": "c4 P [c4]x2 f8 f3", "encoder": "poisson"},
    "norm": {"net": 'c4{norm = "batch_step", dropout = 0.2} P f8{norm = "weight"} f3', **SGD},
    "hybrid": {"net": 'c4{unit = "relu"} P [c4{psp = {decay = 0.5, scale = 0.5}}]x2 f3'},
    "units": {"net": {"text": "c4 P f8 f3", "unit": REST}},
    "all norm": {"net": 'c4{norm = "batch_all"} P c4{norm = "batch_all"} f3', **SGD},
    "late": {"net": 'c4 P f8{unit = "relu"} f3'},
    "feedback": {"net": LATERAL + "f12 f8 f3"},
    "halved": {"net": {"text": "c4 P f8 f3", "unit": HALF}},
    "thresholds": {"net": {"text": 'c4{amplitude = "v_th"} P f8 f3', "unit": TRAINED}},
    "settles": {"net": {"text": LATERAL + "f12 f8 f3", "unit": {"name": "if", "v_th": 1.5}}},
    "settles, norm": {
        "net": {"text": LATERAL + 'f12{norm = "batch_step"} f8 f3', "unit": HALF},
        **SGD,
    },
}

TIMED = ("flat", "conv", "frames", "norm", "hybrid", "feedback")
RUNS: dict[str, tuple[tuple[Mapping[str, Any], ...], tuple[str, ...]]] = {
    "ann": (({},), ("conv", "norm")),
    "bptt": (({}, {"loss": "step"}), (*TIMED, "units", "all norm", "late", "thresholds")),
    "sltt": (({}, {"k_steps": 2}), (*TIMED, "units", "thresholds")),
    "ottt": (({}, {"update": "online"}), TIMED),
    "dsr": (
        ({}, {"slope": "exact", "threshold": "formula"}),
        ("halved", "conv", "all norm", "thresholds"),
    ),
    "ide": (({}, {"linearise": "map"}), ("settles", "settles, norm")),
    "spide": (({"back_steps": 10},), ("settles", "halved")),
}
"""Options and nets of each rule."""

SKIPPED = {("bptt", "loss = 'step'", "late")}
"""What the rule refuses."""


def cases() -> dict[str, dict[str, Any]]:
    """Return the changes to the tiny recipe of each run, by its name."""
    assert set(RUNS) == set(RULES.names()), "a rule without a learning curve"
    found = {}
    for rule, (variants, nets) in RUNS.items():
        for options in variants:
            said = ", ".join(f"{key} = {value!r}" for key, value in options.items())
            for net in nets:
                if (rule, said, net) in SKIPPED:
                    continue
                for form, how in FORMS.items():
                    name = f"{rule}({said}), {net}, {form}"
                    found[name] = {
                        **NETS[net],
                        **how,
                        "stages.0.rule": {"name": rule, **options},
                        "stages.0.steps": 4,
                        "stages.0.epochs": 3,
                    }
    return found


def curve(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Train and return the figures of a run."""
    outcome = train(recipe(changes), splits=tiny(), final=False)
    rows = outcome.record.curve
    digest = hashlib.sha256()
    assert outcome.bench is not None
    for name, value in sorted(outcome.bench.modules().state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return {
        "loss": [row.loss for row in rows],
        "validation": [row.val_loss for row in rows],
        "weights": digest.hexdigest()[:16],
    }


def place() -> str:
    """Name what decides the last bits: torch and the instructions it uses here."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def kept() -> dict[str, Any]:
    """Return what the file holds."""
    return json.loads(KEPT.read_text())
