"""What training owes to a head: its decay, its figures and findings, its older weights."""

import pytest
import torch

from spikeloom.base.errors import DataError, Stopped
from spikeloom.heads.stochmax import ENTROPY, RHO_RIVALS, RHO_TARGET, Stochmax
from spikeloom.inference.evaluate import evaluate
from spikeloom.inference.opening import open_run
from spikeloom.program.setup import make_optimizer
from spikeloom.program.stage import Optimizer
from spikeloom.records import checkpoint, names
from spikeloom.records.progress import SILENT
from spikeloom.train.loop import train
from spikeloom.train.loop_stage import StageLoop
from spikeloom.train.runs import RunFolder
from spikeloom.train.state import State, Stored, save_state
from trainkit import bench, recipe, tiny

BRANCHES = ("head.synapses.retain.", "head.synapses.posterior.")
STOCHMAX = {"net": "c4 P f8 f3", "head": "stochmax"}
OLDER = {
    "net": {"text": "c4 P f3", "bias": False},
    "head": {"name": "stochmax", "start": "zero"},
    "stages.0.optimizer.weight_decay": 0.1,
}


def loop_of(one) -> StageLoop:
    return StageLoop(one, RunFolder(None), State(), SILENT, lambda: False)


def decays(optimizer) -> dict[int, float]:
    return {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}


class TestDecay:
    @pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "radam"])
    def test_falls_on_all_but_the_branches(self, name):
        settings = {"name": name, "lr": 0.01, "weight_decay": 0.1}
        one = bench(STOCHMAX | {"stages.0.optimizer": settings})
        decay = decays(loop_of(one).optimizer)
        for key, parameter in one.parameters():
            assert decay[id(parameter)] == (0.0 if key.startswith(BRANCHES) else 0.1), key

    def test_in_a_step(self):
        """SGD moves weights by -lr (g + wd w), branches by -lr g."""
        after = {}
        for decay in (0.0, 0.1):
            settings = {"name": "sgd", "lr": 0.5, "weight_decay": decay}
            one = bench(STOCHMAX | {"precision": "64-true", "stages.0.optimizer": settings})
            before = {key: value.detach().clone() for key, value in one.parameters()}
            batch = one.batch(one.splits.train, torch.arange(20), epoch=0, part="train")
            loop = loop_of(one)
            loop.commit.begin(batch, 20)
            objective = one.head.bind(batch.target, batch.rng)
            one.rule.learn(one.net, batch, objective, loop.commit)
            after[decay] = dict(one.parameters())
        for key, start in before.items():
            factor = 0.0 if key.startswith(BRANCHES) else 0.05
            moved = after[0.0][key] - after[0.1][key]
            assert torch.allclose(moved, factor * start, rtol=1e-12, atol=1e-15), key

    def test_groups_keep_the_order_of_the_parameters(self):
        one = bench(STOCHMAX | {"stages.0.optimizer.weight_decay": 0.1})
        optimizer = loop_of(one).optimizer
        inside = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert inside == [id(p) for _, p in one.parameters()]
        assert len(optimizer.param_groups) == 2
        plain = make_optimizer(Optimizer(weight_decay=0.1), [p for _, p in one.parameters()])
        assert len(plain.param_groups) == 1

    def test_a_resumed_run_ends_as_one_that_never_stopped(self, tmp_path):
        changes = STOCHMAX | {"stages.0.optimizer.weight_decay": 0.1}
        whole = train(recipe(changes), splits=tiny(), final=False).bench
        asked = iter([False] * 4 + [True])
        with pytest.raises(Stopped):
            train(recipe(changes), tmp_path, splits=tiny(), stop=lambda: next(asked))
        again = train(recipe(changes), tmp_path, splits=tiny(), resume=True, final=False).bench
        for (key, value), (_, other) in zip(whole.parameters(), again.parameters(), strict=True):
            assert torch.equal(value, other), key


class TestFigures:
    def test_stand_in_every_epoch(self):
        outcome = train(recipe(STOCHMAX), splits=tiny(), final=False)
        for entry in outcome.record.curve:
            assert list(entry.notes) == [RHO_TARGET, RHO_RIVALS, ENTROPY]
        one, part = outcome.bench, outcome.bench.splits.validation
        batch = one.batch(part, torch.arange(len(part)), epoch=0, part="validation")
        with torch.no_grad():
            h = one.head.reduced(one.net(batch.xs, rng=batch.rng))
            rho = torch.sigmoid(one.head.sites[1].synapse(h))
        expected = rho.gather(1, batch.target[:, None]).mean().item()
        assert outcome.record.curve[-1].notes[RHO_TARGET] == pytest.approx(expected, rel=1e-6)

    def test_are_means_over_samples_not_batches(self, monkeypatch):
        one = bench(STOCHMAX | {"precision": "64-true"})
        whole = evaluate(one, one.splits.validation, "validation").figures
        monkeypatch.setattr("spikeloom.inference.evaluate.EVALUATION_BATCH", 4)  # of 15
        assert evaluate(one, one.splits.validation, "validation").figures == pytest.approx(whole)

    def test_a_head_without_has_no_notes(self):
        assert all("notes" not in entry for entry in train(recipe(), splits=tiny()).record.curve)

    def test_what_they_show_is_said_once_after_the_stage(self):
        changes = {"head": {"name": "stochmax", "variant": "panda"}}
        first, last = train(recipe(changes), splits=tiny(), final=False).record.warnings[-2:]
        assert first.startswith("head.stochmax: variant 'panda' is not adaptive")
        assert last.startswith("head.stochmax: the mask does not tell classes apart: rho 0.")


class TestOlderRuns:
    """There, branches had no bias where the net had none, and were decayed."""

    @pytest.fixture
    def older(self, tmp_path, monkeypatch):
        """A run stopped in its second epoch, as an older version left it."""
        with monkeypatch.context() as patch:
            patch.setattr(Stochmax, "branches", ())
            asked = iter([False] * 5 + [True])
            with pytest.raises(Stopped):
                train(recipe(OLDER), tmp_path, splits=tiny(), stop=lambda: next(asked))
        return tmp_path

    def test_weights_open(self, older):
        stored = checkpoint.read_tensors(older / names.WEIGHTS)[0]
        assert "head.synapses.retain.bias" not in stored
        opened = open_run(older, splits=tiny())
        for name, value in opened.modules().state_dict().items():
            if name in stored:
                assert torch.equal(value, stored[name]), name
            else:
                assert name.startswith(BRANCHES) and not value.any()

    def test_moments_go_to_their_parameters_and_training_goes_on(self, older):
        stored = Stored(older / names.STATE, recipe(OLDER))
        one = bench(OLDER)
        loop = loop_of(one)
        stored.restore(one, loop.optimizer)
        biases = [key for key, _ in one.parameters() if f"weights.{key}" not in stored.tensors]
        assert biases == [f"{branch}bias" for branch in BRANCHES]
        row = 0
        for key, parameter in one.parameters():
            if key in biases:
                assert not loop.optimizer.state[parameter]
                continue
            expected = stored.tensors[f"optimizer.{row}.exp_avg"]
            assert torch.equal(loop.optimizer.state[parameter]["exp_avg"], expected), key
            row += 1
        record = train(recipe(OLDER), older, splits=tiny(), resume=True, final=False).record
        assert len(record.curve) == 2

    def test_other_missing_weights_are_refused(self, older):
        stored = checkpoint.read_tensors(older / names.WEIGHTS)[0]
        stored.pop("head.synapses.retain.weight")
        checkpoint.write_weights(older / names.WEIGHTS, stored)
        with pytest.raises(DataError, match="expected a weight 'head.synapses.retain.weight'"):
            open_run(older, splits=tiny())

    def test_a_missing_parameter_of_the_state_is_no_older_run(self, tmp_path):
        one = bench(STOCHMAX)
        loop = loop_of(one)
        save_state(tmp_path / names.STATE, State(), one, loop.optimizer, {})
        stored = Stored(tmp_path / names.STATE, one.recipe)
        stored.tensors.pop("weights.head.synapses.retain.bias")
        with pytest.raises(DataError, match="expected the state of a run"):
            stored.restore(one, loop.optimizer)
