"""What docs/concepts/recipes.md says of rates, Adam and weight decay, held against whole runs."""

import math

import pytest
import torch

from spikeloom.program.setup import make_optimizer, set_up
from spikeloom.program.stage import Optimizer
from spikeloom.records.progress import SILENT
from spikeloom.rules.bptt import Bptt
from spikeloom.train.loop_stage import StageLoop
from spikeloom.train.runs import RunFolder
from spikeloom.train.state import State
from trainkit import bench, recipe, tiny

EPOCHS, BATCHES, LR = 4, 3, 0.5
EVERYTHING = (
    '{feedback = [{source = 1, target = 0, layers = "f6", restrict = 0.5}]} '
    'f6{norm = "batch_step", unit = {name = "lif", learn = ["v_th", "alpha"]}} f5 f3'
)


def rates(monkeypatch, changes, rule="bptt"):
    """Train, and return the rate of every optimizer step."""
    seen = []
    settings = {
        "stages.0.epochs": EPOCHS,
        "stages.0.batch": 15,
        "stages.0.optimizer": {"name": "sgd", "lr": LR},
        "stages.0.rule": rule,
    }
    one = set_up(recipe(settings | changes), tiny())
    with RunFolder(None) as folder:
        loop = StageLoop(one, folder, State(), SILENT, lambda: False)
        loop.state.predicted = 0
        step = loop.optimizer.step
        monkeypatch.setattr(
            loop.optimizer,
            "step",
            lambda: (seen.append(loop.optimizer.param_groups[0]["lr"]), step())[1],
        )
        loop.run()
    return seen


def cosine(epoch):
    return LR * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2


def test_cosine_changes_from_epoch_to_epoch_and_ends_above_zero(monkeypatch):
    seen = rates(monkeypatch, {})
    assert seen == pytest.approx([cosine(step // BATCHES) for step in range(EPOCHS * BATCHES)])
    assert seen[:BATCHES] == [LR] * BATCHES
    assert seen[-1] == pytest.approx(LR * math.sin(math.pi / (2 * EPOCHS)) ** 2) and seen[-1] > 0


def test_warm_up_multiplies_by_the_progress_at_the_end_of_the_batch(monkeypatch):
    seen = rates(monkeypatch, {"stages.0.schedule": {"name": "cosine", "warmup": 1.5}})
    for step, rate in enumerate(seen):
        progress = (step + 1) / BATCHES
        assert rate == pytest.approx(cosine(step // BATCHES) * min(1, progress / 1.5))
    assert seen[0] == pytest.approx(LR / 1.5 / BATCHES)


def test_patience_does_not_move_the_end(monkeypatch):
    seen = rates(monkeypatch, {"stages.0.patience": 1, "stages.0.optimizer.lr": 1e-12})
    epochs = len(seen) // BATCHES
    assert epochs < EPOCHS
    assert seen[-1] == pytest.approx(1e-12 / LR * cosine(epochs - 1))


def test_the_steps_of_a_batch_that_commits_often_share_its_rate(monkeypatch):
    changes = {"stages.0.schedule": {"name": "cosine", "warmup": 1.0}}
    seen = rates(monkeypatch, changes, {"name": "ottt", "update": "online"})
    assert len(seen) == EPOCHS * BATCHES * 2
    assert seen[::2] == seen[1::2]


@pytest.mark.parametrize("name", ["adam", "adamw", "radam"])
def test_the_adam_family_has_torchs_epsilon(name):
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    one = make_optimizer(Optimizer(name=name, lr=0.25), [weight])
    (group,) = one.param_groups
    assert (group["eps"], group["betas"]) == (1e-8, (0.9, 0.999))
    assert not group.get("amsgrad")
    assert group["decoupled_weight_decay"] == (name == "adamw")
    if name != "radam":
        weight.grad = torch.full_like(weight, 1e-8)
        one.step()
        assert weight.item() == pytest.approx(-0.25 / 2)  # g / (|g| + eps)


def test_sgd_is_plain():
    weight = torch.nn.Parameter(torch.zeros(1))
    (group,) = make_optimizer(Optimizer(name="sgd", lr=1.0, momentum=0.9), [weight]).param_groups
    assert (group["dampening"], group["nesterov"]) == (0, False)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_falls_on_all_that_is_trained(name):
    """Without a gradient a step shrinks each of them by lr times decay."""
    one = bench({"net": EVERYTHING, "precision": "64-true"})
    named = one.parameters()
    kinds = {full.rsplit(".", 1)[-1] for full, _ in named}
    assert kinds >= {"weight", "bias", "raw_v_th", "raw_alpha"}, kinds
    with torch.no_grad():
        for _, parameter in named:
            parameter.add_(0.5)
    before = {full: parameter.detach().clone() for full, parameter in named}
    settings = Optimizer(name=name, lr=0.5, weight_decay=0.25)
    optimizer = make_optimizer(
        settings, [parameter for _, parameter in named], undecayed=one.head.undecayed()
    )
    for _, parameter in named:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for full, parameter in named:
        assert torch.allclose(parameter, before[full] * (1 - 0.5 * 0.25), rtol=1e-14), full


def test_weight_decay_spares_the_branches_of_stochmax():
    one = bench({"net": "f6 f3", "head": "stochmax", "precision": "64-true"})
    spared = {id(parameter) for parameter in one.head.undecayed()}
    names = {full for full, parameter in one.parameters() if id(parameter) in spared}
    branches = {
        f"head.synapses.{branch}.{part}"
        for branch in ("retain", "posterior")
        for part in ("weight", "bias")
    }
    assert names == branches


def test_a_frozen_body_is_not_decayed():
    one = bench({"stages.0.freeze_body": True})
    assert all(full.startswith("head.") for full, _ in one.parameters())
    assert isinstance(one.rule, Bptt)
