"""The loop: what a run leaves, what repeats, what is selected, when it stops."""

import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.cli.progress import watcher
from spikeloom.data import Splits
from spikeloom.inference.evaluate import Score, evaluate
from spikeloom.inference.over_time import score_over_time
from spikeloom.nets.spec.grammar import write
from spikeloom.program.learn import learn
from spikeloom.program.recipe import build_recipe
from spikeloom.program.setup import set_up, snapshot
from spikeloom.records import checkpoint, storage
from spikeloom.records.progress import Progress
from spikeloom.rules.sltt import Sltt
from spikeloom.train import loop_stage, record
from spikeloom.train.commit import TrainingCommit
from spikeloom.train.loop import train
from trainkit import bench, recipe, same, tiny, without_times

FILES = {
    ".lock",
    "inputs.json",
    "samples.json",
    "recipe.json",
    "environment.json",
    "metrics.jsonl",
    "weights.safetensors",
    "result.json",
}
RULES = ["ann", "bptt", "sltt", "ottt", {"name": "ottt", "update": "online"}]


def run(changes=None, out=None, splits=None, **options):
    return train(recipe(changes), out, splits=splits or tiny(), **options)


def weights(outcome):
    return outcome.bench.modules().state_dict()


def test_what_is_no_progress_is_refused_at_once():
    with pytest.raises(ConfigError, match="progress: expected a Progress, got _Generator.*with"):
        train(recipe(), progress=watcher())


class TestFolder:
    def test_holds_the_whole_run(self, tmp_path):
        outcome = run({"encoder": "poisson"}, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == FILES
        assert storage.read_json(tmp_path / "result.json") == outcome.record.table()
        lines = storage.read_lines(tmp_path / "metrics.jsonl")
        assert lines == [epoch.table() for epoch in outcome.record.curve] and len(lines) == 2
        assert storage.read_json(tmp_path / "environment.json")["packages"]["torch"]

    def test_recipe_and_weights_reproduce_the_accuracy(self, tmp_path):
        record = run({"encoder": "poisson", "stages.0.steps": 4}, tmp_path).record
        again = build_recipe(storage.read_json(tmp_path / "recipe.json"), "x")
        fresh = set_up(again, tiny())
        assert evaluate(fresh, fresh.splits.test, "test").loss != record.test_loss
        fresh.modules().load_state_dict(
            checkpoint.read_tensors(tmp_path / "weights.safetensors")[0]
        )
        score = evaluate(fresh, fresh.splits.test, "test")
        assert score.accuracy == record.test_accuracy == record.accuracy_by_step[-1]
        assert score.loss == pytest.approx(record.test_loss, rel=1e-6)

    def test_is_not_replaced_unasked(self, tmp_path):
        run(out=tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(
            ConfigError, match="expected a new run folder, found a finished run.*--force"
        ):
            run({"seed": 1}, tmp_path)
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        run({"seed": 1}, tmp_path, overwrite=True)
        assert storage.read_json(tmp_path / "result.json")["seed"] == 1

    def test_a_recipe_that_does_not_fit_writes_nothing(self, tmp_path):
        with pytest.raises(ConfigError):
            run({"net": "c4 P f10"}, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_file_in_its_place(self, tmp_path):
        (tmp_path / "file").touch()
        for place in (tmp_path / "file", tmp_path / "file" / "run"):
            with pytest.raises(ConfigError, match="expected a folder that can be written"):
                run(out=place)

    def test_an_old_result_does_not_survive_a_new_run_that_fails(self, tmp_path, monkeypatch):
        run(out=tmp_path)
        monkeypatch.setattr(loop_stage.StageLoop, "epoch", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run({"seed": 1}, tmp_path, overwrite=True)
        assert {path.name for path in tmp_path.iterdir()} == {
            ".lock",
            "recipe.json",
            "environment.json",
            "inputs.json",
        }


class TestSeeds:
    @pytest.mark.parametrize("rule", RULES)
    def test_the_same_seed_repeats_to_the_bit(self, rule):
        changes = {
            "stages.0.rule": rule,
            "encoder": "poisson",
            "head": "stochmax",
            "net": "c4{dropout = 0.2} P f3",
            "stages.0.steps": 3,
        }
        torch.manual_seed(1)
        one = run(changes)
        torch.manual_seed(2)  # the process's own generator plays no part
        other = run(changes)
        assert same(weights(one), weights(other))
        assert without_times(one.record) == without_times(other.record)

    def test_another_seed_differs(self):
        one, other = run({"seed": 1}), run({"seed": 2})
        assert not same(weights(one), weights(other))
        assert without_times(one.record) != without_times(other.record)


class TestParts:
    def test_the_test_part_is_used_once_and_last(self, monkeypatch):
        parts = []

        def counted(bench, samples, part, **options):
            assert samples is getattr(bench.splits, part)
            parts.append(part)
            return evaluate(bench, samples, part, **options)

        def tested(bench, samples, part, **options):
            assert samples is bench.splits.test
            parts.append(part)
            return score_over_time(bench, samples, part, **options)

        monkeypatch.setattr(loop_stage, "evaluate", counted)
        monkeypatch.setattr(record, "score_over_time", tested)
        run({"stages.0.epochs": 3, "stages.0.select": "best"})
        assert parts == ["validation"] * 3 + ["test"]

    def test_test_labels_choose_nothing(self):
        right = tiny()
        y = (right.test.y + 1) % 3
        test = type(right.test)(right.test.x, y, right.test.scaling)
        wrong = Splits(right.name, 3, right.train, right.validation, test)
        one, other = run(splits=right), run(splits=wrong)
        assert same(weights(one), weights(other))
        assert one.record.test_loss != other.record.test_loss
        tables = [without_times(outcome.record) for outcome in (one, other)]
        for table in tables:
            del table["test_accuracy"], table["test_loss"]
        assert tables[0] == tables[1]

    @pytest.mark.parametrize(("select", "kept"), [("best", 1), ("last", 3)])
    def test_validation_chooses_the_weights(self, tmp_path, monkeypatch, select, kept):
        seen = []

        def scripted(bench, samples, part, **_):
            seen.append(snapshot(bench.modules()))
            return Score({"accuracy": [0.2, 0.9, 0.9, 0.5][len(seen) - 1]}, 1.0, 15)

        def tested(bench, samples, part, **options):
            seen.append(snapshot(bench.modules()))
            return score_over_time(bench, samples, part, **options)

        monkeypatch.setattr(loop_stage, "evaluate", scripted)
        monkeypatch.setattr(record, "score_over_time", tested)
        outcome = run({"stages.0.select": select, "stages.0.epochs": 4}, tmp_path)
        assert len(seen) == 5 and same(seen[4], seen[kept])
        assert not same(seen[0], seen[1]) and not same(seen[1], seen[3])
        assert same(weights(outcome), seen[kept])
        assert same(checkpoint.read_tensors(tmp_path / "weights.safetensors")[0], seen[kept])
        assert outcome.record.val_accuracy == [0.2, 0.9, 0.9, 0.5][kept]
        assert len(outcome.record.curve) == 4


class TestRules:
    @pytest.mark.parametrize("rule", RULES)
    def test_every_rule_learns_the_toy(self, rule):
        changes = {"stages.0.rule": rule, "stages.0.epochs": 30, "stages.0.steps": 4}
        outcome = run(changes | {"stages.0.optimizer.lr": 0.02})
        assert outcome.record.test_accuracy > 0.9

    def test_frozen_bodies_stay(self):
        changes = {"stages.0.freeze_body": True}
        before = snapshot(bench(changes).modules())
        after = weights(run(changes))
        for name, tensor in after.items():
            assert torch.equal(tensor, before[name]) == name.startswith("net."), name

    def test_the_ann_is_the_relu_net_of_the_spec_run_once(self):
        changes = {"net": "c4{gain = 2.0} [c4]x2 P f3", "stages.0.steps": 5}
        spec = recipe(changes).net.spec()
        outcome = run(changes | {"stages.0.rule": "ann"})
        assert outcome.bench.net.spec == spec.as_ann()
        record = outcome.record
        assert record.steps == 1 and not record.facts.spiking
        assert record.net == record.ann_net == write(spec.as_ann())
        assert run(changes).record.ann_net == record.net

    @pytest.mark.parametrize(
        ("rule", "updates"), [("bptt", 1), ("sltt", 1), (RULES[-1], 4), ("ann", 1)]
    )
    def test_updates_are_the_rules_commits(self, monkeypatch, rule, updates):
        calls = []
        make = loop_stage.make_optimizer

        def counting(*args, **options):
            optimizer = make(*args, **options)
            optimizer.register_step_post_hook(lambda *_: calls.append(1))
            return optimizer

        monkeypatch.setattr(loop_stage, "make_optimizer", counting)
        run({"stages.0.rule": rule, "stages.0.steps": 4, "stages.0.batch": 16})
        assert len(calls) == 2 * 3 * updates  # epochs, batches

    def test_gradients_are_gone_after_a_commit(self):
        outcome = run()
        assert all(one.grad is None for one in outcome.bench.modules().parameters())

    def test_thresholds_are_kept_in_bounds(self):
        unit = {"name": "lif", "learn": ["v_th"], "v_th_min": 0.99}
        outcome = run({"net": {"text": "c4 P f3", "unit": unit}, "stages.0.optimizer.lr": 0.2})
        raw = [one for name, one in outcome.bench.net.named_parameters() if "v_th" in name]
        assert raw and all(bool((one >= 0.99).all()) for one in raw)


class TestPrecision:
    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
    def test_runs(self, precision, rule, tmp_path):
        outcome = run({"precision": precision, "stages.0.rule": rule}, tmp_path)
        kind = torch.float64 if precision == "64-true" else torch.float32
        assert {one.dtype for one in outcome.bench.modules().parameters()} == {kind}
        stored = checkpoint.read_tensors(tmp_path / "weights.safetensors")[0]
        assert same(stored, weights(outcome))

    def test_bf16_computes_in_bf16(self):
        one = bench({"precision": "bf16-mixed"})
        seen = []
        one.head.site.synapse.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
        evaluate(one, one.splits.validation, "validation")
        assert set(seen) == {torch.bfloat16}


def test_the_curve_tells_every_epoch():
    told = []

    class Watcher(Progress):
        def epoch(self, entry):
            told.append(entry)

    outcome = run({"stages.0.epochs": 4, "stages.0.optimizer.lr": 0.5}, progress=Watcher())
    assert tuple(told) == outcome.record.curve
    assert [entry.epoch for entry in told] == [0, 1, 2, 3]
    rates = [0.5, 0.4267766952966369, 0.25, 0.07322330470336319]
    assert [entry.lr for entry in told] == pytest.approx(rates)
    names = "stage rule epoch lr loss accuracy seconds val_loss val_accuracy"
    assert set(told[0].table()) == {*names.split(), "health"}
    assert all(set(entry.table()) == set(names.split()) for entry in told[1:])
    assert outcome.record.train_seconds == sum(entry.seconds for entry in told)


def test_training_accuracy_and_loss_are_means_over_samples(monkeypatch):
    """45 samples in batches of 15 at lr next to 0: the metrics are those of the first weights."""
    changes = {"stages.0.optimizer.lr": 1e-12, "stages.0.epochs": 1}
    outcome = run(changes)
    one = bench(changes)
    score = evaluate(one, one.splits.train, "train")
    entry = outcome.record.curve[0]
    assert entry.accuracy == pytest.approx(score.accuracy)
    assert entry.loss == pytest.approx(score.loss, rel=1e-5)


def test_evaluation_changes_nothing():
    one = bench({"net": 'c4{norm = "batch_step", dropout = 0.5} P f3', "head": "stochmax"})
    before = snapshot(one.modules())
    scores = [evaluate(one, one.splits.validation, "validation") for _ in range(2)]
    assert scores[0] == scores[1]
    assert same(before, one.modules().state_dict())
    assert not any(part.training for part in (*one.net.modules(), *one.head.modules()))


def test_sltt_k_draws_anew_for_every_batch(monkeypatch):
    drawn = []

    def noted(rule, batch):
        drawn.append((batch.rng.epoch, batch.number, chosen(rule, batch)))
        return drawn[-1][2]

    chosen = Sltt._chosen
    monkeypatch.setattr(Sltt, "_chosen", noted)
    run({"stages.0.rule": {"name": "sltt", "k_steps": 2}, "stages.0.steps": 8})
    trained = [steps for _, _, steps in drawn if len(steps) == 2][1:]  # the first is prepare's
    assert len(set(trained)) > 2
    seen = {(epoch, number) for epoch, number, _ in drawn}
    assert seen == {(epoch, number) for epoch in (0, 1) for number in range(3)}


def test_online_updates_reach_the_next_step_under_autocast():
    currents = []

    class Watcher:
        def see(self, site, x_in, current, s_out):
            currents.append(current.float())

    one = set_up(
        recipe(
            {
                "stages.0.rule": {"name": "ottt", "update": "online"},
                "stages.0.steps": 3,
                "precision": "bf16-mixed",
                "net": "f8 f3",
            }
        ),
        tiny(),
    )
    optimizer = torch.optim.SGD([p for _, p in one.parameters()], lr=50.0)
    batch = one.batch(one.splits.train, torch.arange(20), epoch=0, part="train")
    with one.net.observe(Watcher()):
        learn(one, batch, TrainingCommit(one, optimizer))
    assert not torch.equal(currents[0], currents[1])
    assert not torch.equal(currents[1], currents[2])


def test_a_frozen_body_keeps_its_statistics():
    net = 'c4{norm = "batch_step"} P f3'
    before = set_up(recipe({"net": net, "stages.0.freeze_body": True}), tiny())
    after = run({"net": net, "stages.0.freeze_body": True}).bench
    for name, tensor in before.net.state_dict().items():
        assert torch.equal(tensor, after.net.state_dict()[name]), name
