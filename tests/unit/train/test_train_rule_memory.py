"""What a rule remembers in a run: saved, resumed, handed on; its updates are one event."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rulekit import Hebb, small_rules
from spikeloom.base.errors import ConfigError, NumericalError, ShapeError, Stopped
from spikeloom.inference.evaluate import Score
from spikeloom.program.learn import learn
from spikeloom.program.setup import make_optimizer, snapshot
from spikeloom.records import checkpoint, names, storage
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.commit import NewValue
from spikeloom.rules.memory import Memory
from spikeloom.train import loop_stage
from spikeloom.train.commit import TrainingCommit
from spikeloom.train.loop import train
from spikeloom.train.state import Stored, copied
from trainkit import bench, recipe, same, tiny, without_times

HEBB = {"net": "f8 f3", "stages.0.rule": "hebb", "precision": "64-true"}
RULES = {"hebb": HEBB, "gained": {"stages.0.rule": "gained"}}
RULES["through hebb"] = HEBB | {"stages.0.rule": {"name": "through", "inner": "hebb"}}
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def rules():
    with small_rules():
        yield


def stopping(after: int):
    """Ask for a stop at the n-th question."""
    left = iter(range(after))
    return lambda: next(left, None) is None


def ready(changes):
    """A bench, its commit, and a batch that has begun."""
    one = bench(changes)
    optimizer = make_optimizer(one.stage.optimizer, [p for _, p in one.parameters()])
    commit = TrainingCommit(one, optimizer)
    batch = one.batch(one.splits.train, torch.arange(10), epoch=0, part="train")
    commit.begin(batch, 10)
    return one, commit, batch


class TestAnUpdate:
    def test_is_the_change_alone_where_weights_are_changed_directly(self):
        """No decay, no moment, no clip: the weight moves by rate times the correlation."""
        decay = {"stages.0.optimizer": {"name": "adamw", "lr": 0.5, "weight_decay": 0.5}}
        one, commit, batch = ready(HEBB | decay | {"stages.0.clip": 1e-6})
        weight, bias = one.net.sites[0].synapse.weight, one.net.sites[0].synapse.bias
        before, other = weight.detach().clone(), bias.detach().clone()
        spikes = one.net(batch.xs).detach()
        learn(one, batch, commit)
        expected = torch.zeros_like(before)
        for t in range(2):
            for b in range(10):
                expected += 0.1 / 20 * torch.outer(spikes[t, b], batch.xs[t, b].flatten())
        assert torch.allclose(weight - before, expected, rtol=1e-13, atol=1e-15)
        assert expected.abs().max() > 1e-3 and torch.equal(bias, other)
        assert torch.allclose(one.memory["mean"], spikes.mean((0, 1)) / 2, rtol=1e-14, atol=0)
        assert one.memory["seen"] == 10 and one.memory["last"].tolist() == [*range(10)]

    def test_replaces_a_weight_by_a_new_value(self):
        one, commit, batch = ready(HEBB | {"stages.0.rule": {"name": "hebb", "signs": True}})
        learn(one, batch, commit)
        assert set(one.net.sites[0].synapse.weight.unique().tolist()) == {-1.0, 1.0}

    def test_leaves_frozen_weights(self):
        one, commit, batch = ready(HEBB | {"stages.0.freeze_body": True})
        before = snapshot(one.net)
        learn(one, batch, commit)
        assert same(before, snapshot(one.net)) and one.memory["seen"] == 10

    @pytest.mark.parametrize("bad", ["update", "gradient", "memory", "loss"])
    def test_is_nothing_where_a_part_is_not_finite(self, bad):
        one, commit, batch = ready(HEBB)
        weight = one.net.sites[0].synapse.weight
        before, memory = snapshot(one.modules()), one.memory
        change, new = torch.ones_like(weight), memory.replace(seen=1, mean=memory["mean"] + 1)
        for _, parameter in one.parameters():
            if parameter is not weight:
                parameter.grad = torch.ones_like(parameter)
        if bad == "update":
            change[0, 0] = torch.nan
        elif bad == "gradient":
            one.head.site.synapse.weight.grad[0, 0] = torch.inf
        elif bad == "memory":
            new = new.replace(mean=new["mean"] / 0)
        else:
            commit._fault = NumericalError("loss: not finite")
        with pytest.raises(NumericalError):
            commit(updates={weight: change}, memory=new)
        assert same(before, snapshot(one.modules())) and one.memory is memory

    def test_refuses_what_does_not_exist(self):
        one, commit, _ = ready(HEBB)
        weight = one.net.sites[0].synapse.weight
        good, name = torch.ones_like(weight), "net.plan.synapses.0_0_0.weight"
        name = next(key for key, p in one.parameters() if p is weight)
        bad = [
            ({"net.nothing": good}, "rules.hebb: updates: expected parameters of net and head"),
            ({torch.nn.Parameter(good): good}, r"got one of shape \[8, 16\]"),
            (
                {weight: good.T},
                r"updates of .*: expected torch.float64 \[8, 16\], got .* \[16, 8\]",
            ),
            ({weight: NewValue(good.float())}, "expected torch.float64 .*, got torch.float32"),
        ]
        for updates, words in bad:
            with pytest.raises((ConfigError, ShapeError), match=words):
                commit(updates=updates)
        weight.grad = torch.ones_like(weight)
        with pytest.raises(ConfigError, match="expected a parameter without gradient, got one w"):
            commit(updates={name: good})
        weight.grad = None
        before = weight.detach().clone()
        commit(updates={name: good})
        assert torch.equal(weight, before + 1)

    def test_takes_memory_of_the_form_of_before_alone(self):
        one, commit, _ = ready(HEBB)
        memory = one.memory
        bad = [
            (Memory(), "expected as many 'last' as before, got none; make every leaf in prepare"),
            (memory.replace(seen=1.0), "memory 'seen': expected same, int, got same, float"),
            (memory.replace(mean=torch.zeros(8)), "expected averaged, float64 .* got averaged, fl"),
        ]
        for new, words in bad:
            with pytest.raises(ConfigError, match=words):
                commit(memory=new)
        assert one.memory is memory

    def test_trains_and_bounds_the_rules_own_parameters(self):
        one, commit, batch = ready(RULES["gained"] | {"stages.0.optimizer": {"name": "sgd"}})
        assert [name for name, _ in one.parameters()][-1] == "rule.gain"
        gain = one.memory["gain"]
        report = learn(one, batch, commit)
        assert gain.item() == pytest.approx(1 - 0.003 * report.loss.item(), abs=1e-6)
        with torch.no_grad():
            gain.fill_(5.0)
        learn(one, batch, commit)  # the bound is that of the new memory: 1 + 0.25 / 2 / 2
        assert gain.item() == 1.0625 and one.memory["gain"] is gain

    def test_a_rehearsal_refuses_a_wrong_update_before_training(self, monkeypatch, tmp_path):
        def wrong(self, net, batch, objective, commit):
            commit(updates={"net.nothing": batch.xs})

        monkeypatch.setattr(Hebb, "learn", wrong)
        with pytest.raises(ConfigError, match="got 'net.nothing'"):
            train(recipe(HEBB), tmp_path, splits=tiny())


class TestResume:
    @pytest.mark.parametrize("name", RULES)
    def test_is_bit_identical_wherever_the_run_was_stopped(self, name, tmp_path):
        changes = RULES[name] | {"stages.0.epochs": 2}
        whole = train(recipe(changes), tmp_path / "whole", splits=tiny())
        for after in range(1, 8, 2):
            folder = tmp_path / str(after)
            with pytest.raises(Stopped):
                train(recipe(changes), folder, splits=tiny(), stop=stopping(after))
            again = train(recipe(changes), folder, splits=tiny(), resume=True)
            assert again.bench.memory == whole.bench.memory
            assert same(snapshot(again.bench.modules()), snapshot(whole.bench.modules()))
            assert without_times(again.record) == without_times(whole.record)

    def test_opens_states_from_before_memory_was_a_value(self, tmp_path):
        """What a rule kept lay under rule.<name>, its parameters by number."""
        changes = RULES["gained"] | {"stages.0.epochs": 2}
        whole = train(recipe(changes), splits=tiny())
        with pytest.raises(Stopped):
            train(recipe(changes), tmp_path, splits=tiny(), stop=stopping(3))
        path = tmp_path / names.STATE
        tensors, extra = checkpoint.read_tensors(path)
        older = {"memory.gain": "owned.0", "memory.step": "rule.step"}
        assert older.keys() <= tensors.keys()
        renamed = {older.get(name, name): one for name, one in tensors.items()}
        kept = {key: text for key, text in extra.items() if key in ("recipe", "state", "optimizer")}
        checkpoint.write_weights(path, renamed, kept)
        again = train(recipe(changes), tmp_path, splits=tiny(), resume=True)
        assert again.bench.memory == whole.bench.memory

    def test_opens_states_from_before_the_best_memory_was_kept(self, tmp_path):
        """Of these, the memory goes on that was there: the last epoch's."""
        changes = HEBB | {"stages.0.epochs": 3, "stages.0.select": "best"}
        with pytest.raises(Stopped):
            train(recipe(changes), tmp_path, splits=tiny(), stop=stopping(5))
        path = tmp_path / names.STATE
        tensors, extra = checkpoint.read_tensors(path)
        older = {name: one for name, one in tensors.items() if not name.startswith("best_")}
        assert {name.partition(".")[0] for name in tensors.keys() - older.keys()} == {
            "best_memory",
            "best_local",
        }
        kept = {key: text for key, text in extra.items() if key in ("recipe", "state", "optimizer")}
        checkpoint.write_weights(path, older, kept)
        assert Stored(path, recipe(changes)).state.best
        train(recipe(changes), tmp_path, splits=tiny(), resume=True)

    def test_the_record_says_what_is_remembered(self, tmp_path):
        train(recipe(RULES["through hebb"]), tmp_path, splits=tiny())
        record = storage.read_json(tmp_path / names.RESULT)
        assert record["rule"] == "through(hebb)"
        assert record["stages"][0]["memory"] == {
            "inner/mean": "averaged, float64 [8]",
            "inner/loss": "averaged, float",
            "inner/seen": "same, int",
            "inner/last": "local, int64 [15]",
        }


class TestStages:
    def test_hand_memory_on_to_the_same_rule(self):
        stage = {"steps": 2, "epochs": 2, "batch": 20, "optimizer": {"lr": 0.01}}
        hebb, other = stage | {"rule": "hebb"}, stage | {"rule": {"name": "hebb", "rate": 0.2}}
        base = {"net": "f8 f3", "precision": "64-true"}
        for first, second, seen in ((hebb, other, 180), (stage | {"rule": "bptt"}, hebb, 90)):
            end = train(recipe(base | {"stages": [first, second]}), splits=tiny())
            assert end.bench.memory["seen"] == seen

    @pytest.mark.parametrize("name", ["hebb", "gained"])
    def test_hand_on_weights_and_memory_of_the_best_epoch_together(
        self, name, monkeypatch, tmp_path
    ):
        """The second of three epochs is the best; a stop at any batch changes nothing."""
        second = {"hebb": ("seen", 90), "gained": ("step", 0.25 / 2**6)}[name]

        def scripted(bench, samples, part, **_):
            if bench.memory[second[0]] == second[1]:
                at_best.update(copied(bench.memory), weight=snapshot(bench.net))
            best = bench.memory[second[0]] == second[1]
            return Score({"accuracy": 0.9 if best else 0.2}, 1.0, 15)

        at_best: dict = {}
        monkeypatch.setattr(loop_stage, "evaluate", scripted)
        stage = {"rule": name, "steps": 2, "epochs": 3, "batch": 20, "select": "best"}
        base = {"net": "f8 f3", "precision": "64-true"}
        one = train(recipe(base | {"stages": [stage]}), splits=tiny(), final=False)
        assert one.bench.memory[second[0]] == second[1]
        leaves = {path: leaf.tensor for path, leaf in one.bench.memory.leaves()}
        assert same(leaves, {path: at_best[path].tensor for path in leaves})
        assert same(snapshot(one.bench.net), at_best["weight"])
        still = stage | {"epochs": 1, "select": "last", "freeze_body": True}
        both = recipe(base | {"stages": [stage, still]})
        whole = train(both, splits=tiny(), final=False)
        after = {"hebb": 90 + 45, "gained": 0.25 / 2**9}[name]
        assert whole.bench.memory[second[0]] == after
        for stop in (5, 7, 9, 11):
            folder = tmp_path / str(stop)
            with pytest.raises(Stopped):
                train(both, folder, splits=tiny(), stop=stopping(stop), final=False)
            again = train(both, folder, splits=tiny(), resume=True, final=False)
            assert again.bench.memory == whole.bench.memory, stop
            assert same(snapshot(again.bench.modules()), snapshot(whole.bench.modules()))

    def test_hand_an_inner_rules_memory_on_where_both_accept_it(self):
        stage = {"steps": 2, "epochs": 1, "batch": 20}
        through = {"name": "through", "inner": {"name": "hebb"}}
        stages = [stage | {"rule": through}, stage | {"rule": through | {"share": 0.5}}]
        changes = {"net": "f8 f3", "precision": "64-true", "stages": stages}
        end = train(recipe(changes), splits=tiny())
        assert end.bench.memory["inner"]["seen"] == 90

    def test_refuse_a_rule_that_says_so(self, monkeypatch):
        monkeypatch.setattr(Hebb, "accepts", lambda self, before: False)
        stage = {"rule": "hebb", "steps": 2, "epochs": 1, "batch": 20}
        changes = {"net": "f8 f3", "precision": "64-true", "stages": [stage, stage]}
        assert train(recipe(changes), splits=tiny()).bench.memory["seen"] == 45


@pytest.mark.long
def test_two_processes_give_what_one_does(tmp_path):
    """Weights and averaged leaves to 1e-12, new values to the bit; local leaves survive."""
    words = [sys.executable, str(HERE / "two_memories.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for signs in (False, True):
        rule = {"name": "hebb", "signs": signs}
        changes = {"stages.0.rule": rule, "stages.0.batch": 15, "stages.0.select": "best"}
        one = train(recipe(HEBB | changes), splits=tiny())
        expected = snapshot(one.bench.modules())
        for rank in (0, 1):
            found = checkpoint.read_tensors(tmp_path / f"{signs}.{rank}")[0]
            for name, value in expected.items():
                assert torch.allclose(found[name], value, rtol=1e-12, atol=1e-14), name
            mean = found["memory.mean"]
            assert torch.allclose(mean, one.bench.memory["mean"], rtol=1e-12, atol=0)
            assert found["memory.loss"].item() == pytest.approx(one.bench.memory["loss"], rel=1e-12)
            assert found["memory.seen"].item() == one.bench.memory["seen"] == 90


def test_facts_are_those_of_an_instance():
    facts = replace(Bptt.facts, title="what another rule does", source=Hebb.facts.source)
    one = bench(RULES["through hebb"] | {"stages.0.rule.inner": "sltt"})
    assert one.rule.facts.order == "time" and one.rule.facts.memory == "constant"
    assert one.rule.facts.title == facts.title
    assert [str(source) for source in one.rule.sources()][1].startswith("Meng")
