"""Comparisons: planning, running, and members registered elsewhere."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from trainkit import TABLE, recipe, registered, same, tiny, without_times

from spikeloom.base.errors import ConfigError, NumericalError, ShapeError
from spikeloom.data import DATA, DataInfo
from spikeloom.heads.base import HEADS
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.readout import Loss
from spikeloom.report.table import HEADINGS, entry_rows
from spikeloom.rules.base import RULES, LearningRule, RuleReport
from spikeloom.rules.bptt import Bptt
from spikeloom.train import checkpoint, loop
from spikeloom.train.compare import Plan, Row, plan_rules, read_comparison, run_comparison
from spikeloom.train.loop import train

BASE = {key: part for key, part in TABLE.items() if key != "name"} | {"data": "tiny"}

HEAD = """
name = "two"
seeds = [3, 1]
[base]
net = "c4 P f3"
data = "tiny"
[[base.stages]]
rule = "bptt"
epochs = 1
batch = 20
steps = 2
"""
ENTRIES = """
[[entries]]
label = "ANN"
set = { "stages.0.rule" = "ann" }
[[entries]]
label = "SLTT-K (K = 1)"
control = true
set = { "stages.0.rule" = { name = "sltt", k_steps = 1 }, "net.gain" = 2.0 }
"""


@pytest.fixture(autouse=True)
def loads():
    """A registered data set, and how often it was read."""
    count = []

    def load(root=None, *, train_size: int | None = None):
        count.append(train_size)
        return tiny()

    with registered(DATA, "tiny", DataInfo("three stripes", (1, 4, 4), 3, load)):
        yield count


def written(folder, text):
    (folder / "c.toml").write_text(text)
    return folder / "c.toml"


class TestReading:
    def test_entries_change_the_base(self, tmp_path):
        plan = read_comparison(written(tmp_path, HEAD + ENTRIES))
        assert (plan.name, plan.seeds) == ("two", (3, 1))
        ann, sltt = plan.rows
        assert (ann.slug, sltt.slug, ann.control, sltt.control) == (
            "ann",
            "sltt-k-k-1",
            False,
            True,
        )
        assert ann.recipe.last.rule.name == "ann" and ann.recipe.net.gain is None
        assert sltt.recipe.last.rule.options == {"k_steps": 1} and sltt.recipe.net.gain == 2.0
        assert ann.recipe.last.epochs == sltt.recipe.last.epochs == 1

    def test_a_recipe_is_a_comparison_of_one(self, tmp_path):
        text = "name = 'r'\nseed = 4\nnet = 'c4 P f3'\ndata = 'tiny'\n[[stages]]\nrule = 'bptt'"
        plan = read_comparison(written(tmp_path, text))
        assert (plan.name, plan.seeds, len(plan.rows)) == ("r", (4,), 1)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (HEAD, "entries: expected a value, got none; add the key."),
            (HEAD + "[[entries]]", "entries.0.label: expected a value, got none"),
            (HEAD + "[[entries]]\nlabel = ''", "expected a text that is not empty"),
            (HEAD + "[[entries]]\nlabl = 'a'", "entries.0.labl: unknown key 'labl'; did you mean"),
            (HEAD + "[[entries]]\nlabel = 'a'\nset = 3", "entries.0.set: expected a table, got 3"),
            (
                HEAD + "[[entries]]\nlabel = 'a'\n[[entries]]\nlabel = 'A!'",
                "expected labels that differ in letters or digits, got 'a' and 'A!'; rename one.",
            ),
            (
                HEAD + "[[entries]]\nlabel = 'x'\nset = { 'stages.1.rule' = 'ann' }",
                "entries.0 ('x'): expected an index from 0 to 0 in 'stages.1.rule', got '1'",
            ),
            (
                HEAD + "[[entries]]\nlabel = 'x'\nset = { 'stages.0.rul' = 'ann' }",
                "entries.0 ('x'): stages.0.rul: unknown key 'rul'; did you mean 'rule'?",
            ),
            (
                HEAD + "[[entries]]\nlabel = 'x'\nset = { 'name' = '../x' }",
                "entries.0 ('x'): name: expected letters",
            ),
            (
                (HEAD + ENTRIES).replace("[3, 1]", "[3, 3]"),
                "expected seeds that differ, got [3, 3]",
            ),
            ((HEAD + ENTRIES).replace("[3, 1]", "[]"), "seeds: expected a list of 1 or more"),
            ((HEAD + ENTRIES).replace("[3, 1]", "[-1]"), "seeds.0: expected 0 or more, got -1"),
            ((HEAD + ENTRIES).replace("[3, 1]", "['a']"), "seeds.0: expected a whole number"),
            ((HEAD + ENTRIES).replace("[3, 1]", "3"), "seeds: expected a list, got 3"),
            ("x = 1\n" + HEAD + ENTRIES, "c.toml: x: unknown key 'x'; known: base, entries"),
            ("entries = 3", "name: expected a value"),
        ],
    )
    def test_refused_with_the_place(self, tmp_path, text, message):
        path = written(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            read_comparison(path)
        assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


class TestPlanning:
    def test_rules_with_options(self):
        plan = plan_rules(
            BASE, "ann, sltt:k_steps=1,sltt:given=[0, 1],ottt:update=online", (0,), "x"
        )
        assert [row.label for row in plan.rows] == [
            "ann",
            "sltt:k_steps=1",
            "sltt:given=[0, 1]",
            "ottt:update=online",
        ]
        assert [row.recipe.last.rule.options for row in plan.rows] == [
            {},
            {"k_steps": 1},
            {"given": [0, 1]},
            {"update": "online"},
        ]

    @pytest.mark.parametrize(
        ("rules", "message"),
        [
            ("ann,", "--rules: expected names by comma, got 'ann,' with an empty one"),
            ("", "--rules: expected names by comma"),
            ("slt", "--rules slt: stages.0.rule: unknown learning rule 'slt'; did you mean 'sltt'"),
            ("sltt:k=1", "unknown key 'k'; known: given, k_steps."),
            ("sltt:k_steps", "expected options as name:key=value, got 'k_steps'"),
            ("sltt:=1", "expected options as name:key=value, got '=1'"),
            ("sltt:k_steps=x", "k_steps: expected int, got 'x'"),
            ("ann,ann", "expected labels that differ in letters or digits, got 'ann' and 'ann'"),
        ],
    )
    def test_refused(self, rules, message):
        with pytest.raises(ConfigError) as caught:
            plan_rules(BASE, rules, (0,), "x")
        assert message in str(caught.value)


class TestRunning:
    def test_every_row_with_every_seed(self, tmp_path, loads):
        plan = read_comparison(written(tmp_path, HEAD + ENTRIES))
        told = []
        results = run_comparison(
            plan, tmp_path / "out", started=lambda row, seed: told.append((row.label, seed))
        )
        assert told == [("ANN", 3), ("SLTT-K (K = 1)", 3), ("ANN", 1), ("SLTT-K (K = 1)", 1)]
        assert checkpoint.read_json(tmp_path / "out" / "results.json") == results
        assert loads == [None]  # read once
        for entry, row in zip(results["entries"], plan.rows, strict=True):
            assert (entry["label"], entry["control"]) == (row.label, row.control)
            assert [one["seed"] for one in entry["runs"]] == [3, 1]
            for one in entry["runs"]:
                folder = tmp_path / "out" / row.slug / f"seed{one['seed']}"
                assert checkpoint.read_json(folder / "result.json") == one
        rows = entry_rows(results["entries"])
        assert rows[0] == HEADINGS and [row[0] for row in rows[1:]] == ["ANN", "SLTT-K (K = 1)"]

    def test_a_row_is_the_run_of_its_recipe(self, tmp_path):
        plan = read_comparison(written(tmp_path, HEAD + ENTRIES))
        results = run_comparison(plan, tmp_path / "out")
        alone = train(plan.rows[1].recipe.with_seed(1), splits=tiny()).record
        assert without_times(results["entries"][1]["runs"][1]) == without_times(alone)

    def test_a_row_that_does_not_fit_stops_before_the_first_run(self, tmp_path):
        rows = (Row("good", recipe()), Row("bad", recipe({"net": "c4 P P P f3"})))
        with pytest.raises(ShapeError, match="^'bad': net layer 3.0.0"):
            run_comparison(Plan("x", self.on_tiny(rows), (0,)), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_finished_runs_outlive_a_failure(self, tmp_path, monkeypatch):
        rows = (Row("good", recipe()), Row("bad", recipe({"stages.0.rule": "sltt"})))

        def fails(one, *_):
            if one.stage.rule.options == {} and one.rule.facts.memory == "constant":
                raise NumericalError("training: expected a finite loss, got nan; x.")
            return epoch(one, *_)

        epoch = loop._epoch
        monkeypatch.setattr(loop, "_epoch", fails)
        with pytest.raises(NumericalError, match="^'bad', seed 0: epoch 1: training"):
            run_comparison(Plan("x", self.on_tiny(rows), (0, 1)), tmp_path / "out")
        results = checkpoint.read_json(tmp_path / "out" / "results.json")
        assert [len(entry["runs"]) for entry in results["entries"]] == [1, 0]
        assert [row[0] for row in entry_rows(results["entries"])] == ["entry", "good"]

    def test_results_are_replaced_on_demand_only(self, tmp_path):
        plan = Plan("x", self.on_tiny((Row("one", recipe()),)), (0,))
        run_comparison(plan, tmp_path)
        before = (tmp_path / "results.json").read_bytes()
        with pytest.raises(ConfigError, match="found results of a comparison.*--force"):
            run_comparison(plan, tmp_path)
        assert (tmp_path / "results.json").read_bytes() == before
        again = run_comparison(plan, tmp_path, overwrite=True)
        assert without_times(again["entries"][0]["runs"][0]) == without_times(
            json.loads(before)["entries"][0]["runs"][0]
        )

    def test_a_refusal_is_a_row_and_no_error(self, tmp_path):
        rows = (
            Row("bptt", recipe({"net": "c4 M c4 f3"})),
            Row("ottt", recipe({"net": "c4 M c4 f3", "stages.0.rule": "ottt"})),
        )
        results = run_comparison(Plan("x", self.on_tiny(rows), (0,)), tmp_path)
        fine, refused = results["entries"]
        assert fine["refusal"] is None and len(fine["runs"]) == 1
        assert refused["refusal"].startswith("rules.ottt: expected a linear path")
        assert refused["runs"] == [] and not (tmp_path / "ottt").exists()
        table = entry_rows(results["entries"])
        assert table[2][:3] == ("ottt", "refused", "-")
        assert len(table[2]) == len(HEADINGS)

    def test_data_is_read_once_for_each_setting(self, tmp_path, loads):
        rows = (
            Row("a", recipe({"data": "tiny"})),
            Row("b", recipe({"data": {"name": "tiny", "train_size": 40}})),
            Row("c", recipe({"data": "tiny", "stages.0.rule": "sltt"})),
        )
        run_comparison(Plan("x", rows, (0, 1)), tmp_path)
        assert loads == [None, 40]

    @staticmethod
    def on_tiny(rows):
        update = {"data": recipe({"data": "tiny"}).data}
        return tuple(Row(row.label, row.recipe.model_copy(update=update)) for row in rows)


@dataclass(frozen=True)
class Perceptron(LearningRule):
    """Trains the head on features it takes as given: as foreign as a rule may be."""

    scale: float = 1.0

    facts: ClassVar = Bptt.facts

    def learn(self, net, batch, objective, commit):
        with torch.no_grad():
            features = net(batch.xs, rng=batch.rng)
        logits, value = objective.over(features)
        (self.scale * value).backward()
        commit()
        return RuleReport(value.detach(), logits.detach())


class Hinge(Softmax):
    """Another head: the margin between the right class and each other."""

    about: ClassVar[str] = "hinge"

    def __init__(self, features: int, classes: int, *, margin: float = 1.0, **others: object):
        super().__init__(features, classes, **others)  # type: ignore[arg-type]
        self.margin = margin

    def loss(self, h, target, *, noise, ops):
        o = self.scores(h, ops).float()
        gap = self.margin + o - o.gather(1, target[:, None])
        return Loss(o, gap.clamp(min=0).mean())


class TestForeignMembers:
    @pytest.fixture(autouse=True)
    def members(self):
        with registered(RULES, "perceptron", Perceptron), registered(HEADS, "hinge", Hinge):
            yield

    def test_train(self, tmp_path):
        changes = {
            "stages.0.rule": {"name": "perceptron", "scale": 2},
            "head": {"name": "hinge", "margin": 0.5},
            "stages.0.epochs": 40,
            "stages.0.optimizer.lr": 0.05,
        }
        outcome = train(recipe(changes), tmp_path, splits=tiny())
        assert isinstance(outcome.bench.rule, Perceptron) and outcome.bench.rule.scale == 2.0
        assert isinstance(outcome.bench.head, Hinge) and outcome.bench.head.margin == 0.5
        assert outcome.record["rule"] == "perceptron"
        assert outcome.record["rule_options"] == {"scale": 2}
        assert outcome.record["test_accuracy"] > 0.6
        assert outcome.record["costs"]["training"]["backward_macs"] > 0
        stored = checkpoint.read_weights(tmp_path / "weights.safetensors")
        assert same(stored, outcome.bench.modules().state_dict())

    def test_compare(self, tmp_path):
        text = HEAD.replace('data = "tiny"', 'data = "tiny"\nhead = "hinge"') + ENTRIES
        text += "[[entries]]\nlabel = 'P'\nset = { 'stages.0.rule' = 'perceptron' }"
        results = run_comparison(read_comparison(written(tmp_path, text)), tmp_path / "out")
        assert [len(entry["runs"]) for entry in results["entries"]] == [2, 2, 2]
        assert len(entry_rows(results["entries"])) == 4

    def test_their_options_are_checked(self):
        with pytest.raises(ConfigError, match="stages.0.rule: unknown key 'scal'; did you mean 's"):
            recipe({"stages.0.rule": {"name": "perceptron", "scal": 2}})
        with pytest.raises(ConfigError, match="head: unknown option 'margn'; did you mean 'marg"):
            recipe({"head": {"name": "hinge", "margn": 2}})
