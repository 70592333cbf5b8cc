"""Values that stop being finite stop the run, before they reach the weights."""

import math

import pytest
import torch

from spikeloom.base.errors import NumericalError
from spikeloom.base.types import Batch
from spikeloom.inference.evaluate import evaluate
from spikeloom.program.learn import learn
from spikeloom.program.setup import make_optimizer, snapshot
from spikeloom.records import checkpoint
from spikeloom.train import loop_stage
from spikeloom.train.commit import TrainingCommit
from spikeloom.train.loop import train
from trainkit import bench, recipe, same, tiny


def first_batch(one, size=4):
    return one.batch(one.splits.train, torch.arange(size), epoch=0, part="train")


def committed(one):
    optimizer = make_optimizer(one.stage.optimizer, [weight for _, weight in one.parameters()])
    return TrainingCommit(one, optimizer)


class TestLoss:
    @pytest.mark.parametrize("rule", ["bptt", "sltt", "ottt"])
    def test_stops_before_any_update(self, rule):
        one = bench({"stages.0.rule": rule})
        with torch.no_grad():
            one.head.site.synapse.weight.fill_(math.inf)
        before = snapshot(one.modules())
        with pytest.raises(NumericalError, match="training: expected a finite loss, got nan, fir"):
            learn(one, first_batch(one), committed(one))
        assert same(before, snapshot(one.modules()))

    def test_names_the_head(self):
        one = bench()
        with torch.no_grad():
            one.head.site.synapse.weight.fill_(math.nan)
        with pytest.raises(NumericalError, match="got nan, first in the head; lower the learning"):
            learn(one, first_batch(one), committed(one))

    def test_names_the_layer(self):
        one = bench({"stages.0.rule": "ann", "net": "c4 c4 P f3"})
        with torch.no_grad():
            one.net.sites[1].synapse.weight.fill_(math.nan)
        with pytest.raises(NumericalError, match="first in the current of layer 1.0.0, step 0;"):
            learn(one, first_batch(one), committed(one))

    def test_names_the_step(self):
        one = bench({"net": 'f4{unit = "none"} f3', "stages.0.steps": 3})
        xs = torch.zeros(3, 2, 1, 4, 4)
        xs[2] = 3e38
        with torch.no_grad():
            one.net.sites[0].synapse.weight.fill_(2.0)
        batch = Batch.of(xs, torch.tensor([0, 1]))
        with pytest.raises(NumericalError, match="first in the current of layer 0.0.0, step 2;"):
            learn(one, batch, committed(one))

    def test_names_the_input(self):
        xs = torch.zeros(3, 2, 1, 4, 4)
        xs[1, 1, 0, 2] = math.nan
        with pytest.raises(NumericalError, match="got nan in sample 1, step 1; correct the data"):
            Batch.of(xs, torch.tensor([0, 1]))
        xs = torch.full((2, 1, 4, 4), math.inf).expand(5, 2, 1, 4, 4)
        with pytest.raises(NumericalError, match="got inf in sample 0, step 0"):
            Batch.of(xs, torch.tensor([0, 1]))

    def test_the_search_moves_no_statistics_and_keeps_the_mode(self):
        one = bench({"net": 'c4{norm = "batch_step"} P f3'})
        one.net.train()
        with torch.no_grad():
            one.head.site.synapse.weight.fill_(math.nan)
        batch = first_batch(one)
        with torch.no_grad():
            one.net(batch.xs)  # what learning itself moves
        norms = snapshot(one.net.plan.norms)
        one.net.eval()
        with pytest.raises(NumericalError):
            learn(one, batch, committed(one))
        assert same(norms, snapshot(one.net.plan.norms)) and not one.net.training

    def test_evaluation_stops_too(self):
        one = bench({"stages.0.rule": "ann"})
        with torch.no_grad():
            one.head.site.synapse.weight.fill_(3e38)
        with pytest.raises(NumericalError, match="validation: expected a finite loss, got"):
            evaluate(one, one.splits.validation, "validation")


class TestCommit:
    def test_a_gradient_that_is_not_finite_changes_nothing(self):
        one = bench()
        commit = committed(one)
        for _, weight in one.parameters():
            weight.grad = torch.ones_like(weight)
        commit()
        before = snapshot(one.modules())
        for _, weight in one.parameters():
            weight.grad = torch.ones_like(weight)
        bad = one.net.sites[0].synapse.weight
        assert bad.grad is not None
        bad.grad.view(-1)[3] = math.nan
        name = next(name for name, weight in one.parameters() if weight is bad)
        with pytest.raises(NumericalError, match=f"expected finite gradients, .* for '{name}'"):
            commit()
        assert same(before, snapshot(one.modules()))

    def test_a_norm_that_overflows_is_no_fault(self):
        one = bench({"stages.0.optimizer.lr": 1e-30, "stages.0.optimizer.name": "sgd"})
        commit = committed(one)
        for _, weight in one.parameters():
            weight.grad = torch.full_like(weight, 1e25)
        before = snapshot(one.modules())
        commit()
        assert not same(before, snapshot(one.modules()))

    def test_nothing_to_commit(self):
        committed(bench())()


class TestRun:
    def poisoned(self, monkeypatch, value, at=1):
        """Put a value into the first layer before the first batch of an epoch."""

        def poison(one, batch, commit, **options):
            if batch.rng.epoch == at:
                with torch.no_grad():
                    one.net.sites[0].synapse.weight.fill_(value)
            return learn(one, batch, commit, **options)

        monkeypatch.setattr(loop_stage, "learn", poison)

    def test_the_last_whole_epoch_stays_on_disk(self, tmp_path, monkeypatch):
        good = train(recipe({"stages.0.rule": "ann"}), tmp_path / "good", splits=tiny())
        self.poisoned(monkeypatch, math.nan)
        with pytest.raises(NumericalError) as caught:
            train(recipe({"stages.0.rule": "ann"}), tmp_path / "bad", splits=tiny())
        assert str(caught.value) == (
            "epoch 2: training: expected a finite loss, got nan, first in the current of layer "
            "0.0.0, step 0; lower the learning rate or check the input. The run folder keeps "
            "epoch 1."
        )
        stored = checkpoint.read_tensors(tmp_path / "bad" / "weights.safetensors")[0]
        assert all(bool(torch.isfinite(tensor).all()) for tensor in stored.values())
        assert len((tmp_path / "bad" / "metrics.jsonl").read_text().splitlines()) == 1
        assert not (tmp_path / "bad" / "result.json").exists()
        curve = good.record.curve[0]
        monkeypatch.undo()
        fresh = bench({"stages.0.rule": "ann"})
        fresh.modules().load_state_dict(stored)
        score = evaluate(fresh, fresh.splits.validation, "validation")
        assert (score.loss, score.accuracy) == (curve.val_loss, curve.val_accuracy)

    def test_in_the_first_epoch_there_is_nothing_to_keep(self, tmp_path, monkeypatch):
        self.poisoned(monkeypatch, math.nan, at=0)
        with pytest.raises(NumericalError, match="^epoch 1: .*check the input.$"):
            train(recipe({"stages.0.rule": "ann"}), tmp_path, splits=tiny())
        assert not (tmp_path / "weights.safetensors").exists()

    def test_weights_that_spikes_hide_from_the_loss_stop_it_too(self, tmp_path, monkeypatch):
        """NaN currents make no spikes, and a box-shaped slope no gradient: the loss is finite."""
        self.poisoned(monkeypatch, math.nan)
        unit = {"name": "lif", "surrogate": "rectangle"}
        with pytest.raises(NumericalError, match="expected finite (weights|gradients).*synapses"):
            train(recipe({"net": {"text": "c4 P f3", "unit": unit}}), tmp_path, splits=tiny())
        stored = checkpoint.read_tensors(tmp_path / "weights.safetensors")[0]
        assert all(bool(torch.isfinite(tensor).all()) for tensor in stored.values())

    def test_a_huge_rate_ends_in_one_line(self, tmp_path):
        layer = 'c8{unit = "none"}'  # nothing that could die before it overflows
        changes = {
            "stages.0.optimizer": {"name": "sgd", "lr": 1e6},
            "stages.0.epochs": 9,
            "net": f"{layer} {layer} {layer} P f3",
        }
        with pytest.raises(NumericalError, match="^epoch .* lower the learning rate"):
            train(recipe(changes), tmp_path, splits=tiny())
