"""Stages: what one hands to the next, when it ends early, how its gradients are bounded."""

import pytest
import torch

from spikeloom.base.errors import SpikeloomError
from spikeloom.inference.evaluate import Score
from spikeloom.program.learn import learn
from spikeloom.program.setup import snapshot
from spikeloom.train import loop, loop_stage
from spikeloom.train.loop import train
from trainkit import recipe, same, tiny


def run(changes=None, out=None, **options):
    return train(recipe(changes), out, splits=tiny(), **options)


def weights(outcome):
    return outcome.bench.modules().state_dict()


class TestStages:
    def test_weights_are_handed_on_by_name(self, monkeypatch):
        """A second stage that cannot move ends with the first one's weights."""
        first = {"rule": "ann", "epochs": 2, "batch": 20}
        still = {"rule": "bptt", "steps": 3, "epochs": 1, "optimizer": {"name": "sgd", "lr": 1e-30}}
        one = weights(run({"stages": [first]}))
        both = run({"stages": [first, still]})
        after = weights(both)
        for name in ("net.plan.synapses.0_0.weight", "head.maps.readout.weight"):
            if name in one:
                assert torch.equal(one[name], after[name])
        shared = one.keys() & after.keys()
        assert len(shared) >= 4 and all(torch.equal(one[name], after[name]) for name in shared)
        assert both.bench.rule.facts.spiking
        assert [stage.rule for stage in both.record.stages] == ["ann", "bptt"]
        assert [entry.stage for entry in both.record.curve] == [0, 0, 1]
        assert [entry.epoch for entry in both.record.curve] == [0, 1, 0]
        assert both.record.rule == "bptt" and both.record.steps == 3

    def test_every_epoch_of_every_stage_draws_its_own_order(self, monkeypatch):
        orders = []

        def noted(one, batch, commit, **options):
            orders.append(tuple(batch.rng.index.tolist()))
            return learn(one, batch, commit, **options)

        monkeypatch.setattr(loop_stage, "learn", noted)
        stage = {"rule": "bptt", "steps": 2, "epochs": 2, "batch": 45}
        run({"stages": [stage, stage]})
        assert len(set(orders)) == 4

    def test_each_stage_hands_on_its_best(self, monkeypatch):
        kept = []
        hand_on = loop.hand_on

        def noted(before, after):
            kept.append(snapshot(before.modules()))
            hand_on(before, after)

        def scripted(bench, samples, part, **_):
            seen.append(snapshot(bench.modules()))
            return Score({"accuracy": [0.2, 0.9, 0.5, 0.5, 0.5][len(seen) - 1]}, 1.0, 15)

        seen = []
        monkeypatch.setattr(loop, "hand_on", noted)
        monkeypatch.setattr(loop_stage, "evaluate", scripted)
        stage = {"rule": "bptt", "steps": 2, "epochs": 3, "batch": 45, "select": "best"}
        run({"stages": [stage, stage | {"epochs": 1}]})
        assert same(kept[0], seen[1]) and not same(kept[0], seen[2])

    def test_patience(self, monkeypatch):
        scores = iter([0.5, 0.4, 0.6, 0.6, 0.1, 0.9])

        def scripted(bench, samples, part, **_):
            return Score({"accuracy": next(scores)}, 1.0, 15)

        monkeypatch.setattr(loop_stage, "evaluate", scripted)
        changes = {"stages.0.epochs": 6, "stages.0.patience": 2, "stages.0.select": "best"}
        (stage,) = run(changes).record.stages
        assert stage.epochs == 5 and stage.planned == 6
        assert stage.stopped == "patience" and stage.kept_epoch == 2

    def test_a_stage_that_does_not_fit_shows_before_anything_is_trained(self, tmp_path):
        stages = [{"rule": "bptt", "epochs": 1}, {"rule": {"name": "sltt", "given": [9]}}]
        with pytest.raises(SpikeloomError):
            run({"stages": stages}, tmp_path / "run")
        assert not (tmp_path / "run" / "recipe.json").exists()


def test_clipping_bounds_the_whole_gradient(monkeypatch):
    norms = []
    step = torch.optim.SGD.step

    def noted(self, closure=None):
        grads = [one.grad for one in self.param_groups[0]["params"] if one.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(grads)))
        return step(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    run({"stages.0.optimizer": "sgd"})
    free, norms[:] = list(norms), []
    bound = sorted(free)[len(free) // 2]
    run({"stages.0.optimizer": "sgd", "stages.0.clip": bound})
    assert norms[0] == pytest.approx(min(bound, free[0]), rel=1e-4)
    assert max(norms) <= bound * 1.0001 and max(free) > bound * 1.0001


def test_nothing_draws_from_the_global_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run({"head": "stochmax", "encoder": "poisson", "net": "c4{dropout = 0.2} P f3"})
    assert torch.equal(before, torch.get_rng_state())
