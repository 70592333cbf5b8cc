"""A whole training, recipe to weights, ends where a loop written by hand in plain torch ends."""

import math

import pytest
import torch
from plain_torch import PlainNet, PlainOptimizer

from spikeloom.data import splits_from_tensors
from spikeloom.program.recipe import build_recipe
from spikeloom.program.setup import set_up, snapshot
from spikeloom.records.progress import SILENT
from spikeloom.train import loop_stage
from spikeloom.train.loop_stage import StageLoop
from spikeloom.train.runs import RunFolder
from spikeloom.train.state import State

UNIT = {"name": "lif", "alpha": 0.5, "surrogate": {"name": "sigmoid", "k": 4.0}}
CONV, DENSE = "c3 c4 P f6 f3", "f8 f6 f3"
RULES = {
    "bptt": {"name": "bptt"},
    "bptt step": {"name": "bptt", "loss": "step"},
    "sltt": {"name": "sltt"},
    "ottt-a": {"name": "ottt"},
    "ottt-o": {"name": "ottt", "update": "online"},
}
LAST = {"kernels": "compiled", "layout": "channels_last"}
ROWS = {"kernels": "reference", "layout": "rows"}
CASES = [
    # rule, net, norm, optimizer, schedule, clip, execution
    ("bptt", CONV, "none", "adamw", "cosine", None, LAST),
    ("bptt", CONV, "batch_all", "sgd", "constant", None, LAST),
    ("bptt", DENSE, "batch_all", "sgd", "cosine", None, ROWS),
    ("bptt", DENSE, "none", "radam", "step", 0.1, {}),
    ("bptt step", CONV, "none", "adam", "step", None, {}),
    ("bptt step", CONV, "batch_step", "sgd", "cosine", None, LAST),
    ("sltt", CONV, "none", "adamw", "cosine", None, LAST),
    ("sltt", CONV, "none", "adam", "constant", 0.1, {}),
    ("sltt", CONV, "none", "radam", "cosine", None, ROWS),
    ("sltt", CONV, "batch_step", "sgd", "step", None, LAST),
    ("sltt", DENSE, "none", "adamw", "step", None, ROWS),
    ("ottt-a", CONV, "none", "adamw", "constant", None, LAST),
    ("ottt-a", CONV, "none", "sgd", "cosine", 0.1, {}),
    ("ottt-o", CONV, "none", "adamw", "cosine", None, LAST),
    ("ottt-o", CONV, "none", "adam", "step", None, {}),
    ("ottt-o", DENSE, "none", "sgd", "step", 0.1, ROWS),
]
EPOCHS, RATE, DECAY = 3, 0.02, 0.05


def factor(schedule, epoch):
    """As documented: cosine over the stage, or a tenth from each second epoch on."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))
    return 0.1 ** (epoch // 2) if schedule == "step" else 1.0


@pytest.mark.parametrize(
    ("rule", "text", "norm", "optimizer", "schedule", "clip", "execution"),
    CASES,
    ids=[" ".join(map(str, case[:6])) for case in CASES],
)
def test_equals_the_loop_by_hand(
    rule, text, norm, optimizer, schedule, clip, execution, monkeypatch
):
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    stage = {
        "rule": RULES[rule],
        "steps": 4,
        "epochs": EPOCHS,
        "batch": 8,
        "optimizer": {"name": optimizer, "lr": RATE, "weight_decay": DECAY} | momentum,
        "schedule": {"name": schedule} | ({"every": 2} if schedule == "step" else {}),
    } | ({"clip": clip} if clip else {})
    table = {
        "name": "by_hand",
        "net": {"text": text, "unit": UNIT, "norm": norm},
        "data": "digits",  # stands in the record; the run gets its own
        "precision": "64-true",
        "execution": execution,
        "stages": [stage],
        "device": "cpu",
    }
    draw = torch.Generator().manual_seed(1)
    x, y = torch.rand(36, 2, 4, 4, generator=draw), torch.arange(36) % 3
    one = set_up(build_recipe(table, "test"), splits_from_tensors(x, y, test=6, validation=6))
    net = PlainNet(text, snapshot(one.modules()), norm)
    batches, learn = [], loop_stage.learn

    def recorded(bench, batch, commit, **options):
        batches.append((batch.xs.clone(), batch.target.clone()))
        return learn(bench, batch, commit, **options)

    monkeypatch.setattr(loop_stage, "learn", recorded)
    StageLoop(one, RunFolder(None), State(), SILENT, lambda: False).run()
    by_hand = PlainOptimizer(net, optimizer, DECAY, clip=clip, **momentum)
    assert len(batches) == EPOCHS * 3
    for number, (xs, target) in enumerate(batches):
        by_hand.lr = RATE * factor(schedule, number // 3)
        net.learn(RULES[rule], xs, target, by_hand.step)
    found = snapshot(one.modules())
    assert found.keys() == net.state.keys()
    for name, value in net.state.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-9, atol=1e-10, msg=name)
