"""Rules and heads registered elsewhere train and compare like our own."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from comparekit import ENTRIES, HEAD, loads, written
from spikeloom.base.errors import ConfigError
from spikeloom.compare.plan import read_comparison
from spikeloom.compare.run import run_comparison
from spikeloom.heads.base import HEADS
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.readout import Loss
from spikeloom.records import checkpoint
from spikeloom.report.table import entry_rows
from spikeloom.rules.base import RULES, LearningRule, RuleReport
from spikeloom.rules.bptt import Bptt
from spikeloom.train.loop import train
from trainkit import recipe, registered, same, tiny

pytestmark = pytest.mark.usefixtures(loads.__name__)


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
        assert outcome.record.rule == "perceptron"
        assert outcome.record.rule_options == {"scale": 2}
        assert outcome.record.test_accuracy > 0.6
        assert outcome.record.costs.training.backward_macs > 0
        stored = checkpoint.read_tensors(tmp_path / "weights.safetensors")[0]
        assert same(stored, outcome.bench.modules().state_dict())

    def test_compare(self, tmp_path):
        text = HEAD.replace('data = "tiny"', 'data = "tiny"\nhead = "hinge"') + ENTRIES
        text += "[[entries]]\nlabel = 'P'\nset = { 'stages.0.rule' = 'perceptron' }"
        results = run_comparison(read_comparison(written(tmp_path, text)), tmp_path / "out")
        assert [len(entry.runs) for entry in results.entries] == [2, 2, 2]
        assert len(entry_rows(results.entries)) == 4

    def test_their_options_are_checked(self):
        with pytest.raises(
            ConfigError, match="0.rule.scal: unknown key 'scal'; did you mean 'scale'"
        ):
            recipe({"stages.0.rule": {"name": "perceptron", "scal": 2}})
        with pytest.raises(
            ConfigError, match="head.margn: unknown key 'margn'; did you mean 'marg"
        ):
            recipe({"head": {"name": "hinge", "margn": 2}})
