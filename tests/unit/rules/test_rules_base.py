"""What every rule gets from its base: facts of an instance, a memory, and nets it has prepared."""

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.base.types import ALONE, Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.rules.base import LearningRule, RuleFacts, RuleReport
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.commit import OwnLoop
from spikeloom.rules.memory import Memory, averaged, local, same
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

TEST = Citation("Nobody", "A test", "here", 2026)
FACTS = RuleFacts("a rule of the tests", TEST, "layer", "linear")


@dataclass(frozen=True)
class Chooses(LearningRule):
    """Its option decides how memory grows."""

    online: bool = False
    facts: ClassVar[RuleFacts] = FACTS

    def refined(self, facts):
        return replace(facts, memory="constant", online=True) if self.online else facts


def problem():
    net = SpikingNet("f6 f3", (5,), seed=1)
    head = Softmax.of(net, seed=2)
    batch = Batch.of(torch.rand(2, 4, 5), torch.arange(4) % 3)
    return net, head, batch, head.bind(batch.target, batch.rng)


class TestFacts:
    def test_are_the_classs_for_a_list_and_the_instances_for_a_run(self):
        assert Chooses.facts is FACTS and Chooses().facts is FACTS
        assert Chooses(online=True).facts == replace(FACTS, memory="constant", online=True)
        assert Bptt.facts is Bptt(loss="step").facts and Bptt.facts.title.startswith("backprop")

    def test_are_inherited_and_can_be_written_anew(self):
        class Child(Chooses):
            pass

        class Other(Chooses):
            facts = replace(FACTS, order="time")

        assert Child.facts is FACTS and Child(online=True).facts.online
        assert Other.facts.order == "time" and Other(online=True).facts.memory == "constant"

    def test_as_a_function_are_refused_in_one_line(self):
        with pytest.raises(
            ConfigError, match=r"^rules.Late.facts: expected RuleFacts on the class"
        ):

            class Late(LearningRule):
                @property
                def facts(self):
                    return FACTS


class TestOlderForms:
    def test_of_memory_are_refused(self):
        with pytest.raises(ConfigError, match="rules.Old: expected memory as a value, got state_d"):
            type("Old", (LearningRule,), {"state_dict": lambda self: {}})

    def test_of_parameters_and_projection_are_refused(self):
        for name, wanted in (("parameters", "self, memory"), ("project", "self, net, memory")):
            words = rf"rules.Old: expected {name}\({wanted}\), got other arguments; add them"
            with pytest.raises(ConfigError, match=words):
                type("Old", (LearningRule,), {name: lambda self: ()})


class TestPreparedNets:
    def test_are_prepared_once_by_the_first_learn_of_equal_rules(self, monkeypatch):
        net, head, batch, objective = problem()
        seen, prepare = [], Bptt.prepare

        def noted(self, net, head_sites, sample):
            seen.append(head_sites)
            return prepare(self, net, head_sites, sample)

        monkeypatch.setattr(Bptt, "prepare", noted)
        for _ in range(2):
            Bptt(loss="step").learn(net, batch, objective, lambda: None)
            net = copy.deepcopy(net)
        assert seen == [head.sites]
        Bptt().learn(net, batch, objective, lambda: None)
        assert len(seen) == 2

    @pytest.mark.parametrize(
        ("rule", "text"),
        [(Sltt(), 'c4 c4{unit="relu"} G f2'), (Ottt(), "c4 M c4 f2"), (Ottt(), "c4 c4 M f2")],
    )
    def test_what_a_rule_cannot_train_gets_no_gradient(self, rule, text):
        """Also where nobody has called prepare; the last is refused for the head's own path."""
        net = SpikingNet(text, (2, 4, 4))
        head = Softmax.of(net)
        batch = Batch.of(torch.rand(2, 4, 2, 4, 4), torch.arange(4) % 2)
        for _ in range(2):
            with pytest.raises(UnsupportedNet, match="^rules.(sltt|ottt): expected"):
                rule.learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
        assert all(one.grad is None for one in [*net.parameters(), *head.parameters()])

    def test_an_objective_without_sites_needs_a_prepared_net(self):
        net, head, batch, objective = problem()

        class Own:
            """A user's own loss: no head to ask."""

            over = objective.over

        with pytest.raises(UnsupportedNet, match="rules.bptt: .* got neither; call rule.prepare"):
            Bptt().learn(net, batch, Own(), lambda: None)
        Bptt().prepare(net, head.sites, batch)
        Bptt().learn(net, batch, Own(), lambda: None)

    def test_a_rule_without_memory_gives_an_empty_one(self):
        net, head, batch, _ = problem()
        assert Bptt().prepare(net, head.sites, batch) == Memory()


class TestMemory:
    memory = Memory(
        mean=averaged(torch.zeros(2)), seen=same(0), inner=Memory({"0.0": local(torch.ones(1))})
    )

    def test_is_read_by_name_and_replaced_as_a_whole(self):
        after = self.memory.replace(
            seen=3, inner=self.memory["inner"].replace({"0.0": torch.ones(2)})
        )
        assert after["seen"] == 3 and self.memory["seen"] == 0
        assert [(path, leaf.kept) for path, leaf in after.leaves()] == [
            ("mean", "averaged"),
            ("seen", "same"),
            ("inner/0.0", "local"),
        ]
        assert repr(after) == (
            "Memory(mean: averaged, float32 [2], seen: same, int, inner/0.0: local, float32 [2])"
        )
        assert after != self.memory and after.replace(seen=3) == after

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: Memory(mean=torch.zeros(2)), "expected 'mean' as averaged"),
            (lambda: Memory({"a/b": same(1)}), "expected names without /, got 'a/b'; rename it"),
            (lambda: averaged(3), r"expected real numbers to average, got 3; say same\(...\)"),
            (lambda: averaged(torch.tensor([1])), "expected real numbers to average"),
            (lambda: same("text"), "expected a tensor or number, got 'text'"),
            (lambda: local(nn.Parameter(torch.ones(1))), "expected a trained parameter to be the"),
            (lambda: TestMemory.memory.replace(sen=1), "expected one of mean, seen, inner, got 's"),
        ],
    )
    def test_refuses_what_it_cannot_keep(self, make, words):
        with pytest.raises(ConfigError, match=f"memory: {words}"):
            make()

    @pytest.mark.parametrize("value", [True, 2**53 + 1, 0.1, -0.0, 1e-310])
    def test_numbers_survive_as_tensors(self, value):
        leaf = same(value)
        assert repr(leaf.back(leaf.tensor)) == repr(value)

    def test_takes_over_leaves_of_one_path_kind_and_shape(self):
        gain = nn.Parameter(torch.ones(2))
        fresh = Memory(a=same(0), b=same(0), c=averaged(torch.zeros(2)), gain=same(gain))
        old = Memory(
            a=same(5), b=same(5.0), c=averaged(torch.ones(3)), gain=same(nn.Parameter(2 * gain))
        )
        found = fresh.with_values_of(old)
        assert (found["a"], found["b"], found["c"].tolist()) == (5, 0, [0, 0])
        assert found["gain"] is gain and gain.tolist() == [2, 2]


@dataclass(frozen=True)
class Fixed(LearningRule):
    """Adds one to a bias, and to what it remembers."""

    facts: ClassVar[RuleFacts] = FACTS

    def prepare(self, net, head_sites, sample):
        return Memory(gain=same(nn.Parameter(torch.ones(()))), calls=same(0))

    def parameters(self, memory):
        return []

    def learn(self, net, batch, objective, commit):
        bias = net.sites[0].synapse.bias
        calls = commit.memory["calls"] + 1
        commit(updates={bias: torch.ones_like(bias)}, memory=commit.memory.replace(calls=calls))
        return RuleReport(torch.zeros(()), torch.zeros(4, 3))

    def project(self, net, memory):
        with torch.no_grad():
            net.sites[0].synapse.bias.clamp_(max=memory["calls"] + 0.25)


def test_a_loop_of_ones_own_makes_the_update_in_order():
    net, head, batch, objective = problem()
    rule, steps = Fixed(), []
    bias = net.sites[0].synapse.bias

    def step():
        steps.append(bias.detach().clone())

    commit = OwnLoop(rule, rule.prepare(net, head.sites, batch), step, net, head)
    assert "rule.gain" not in dict(commit.named)
    start = bias.detach().clone()
    for count in (1, 2):
        rule.learn(net, batch, objective, commit)
        assert torch.equal(bias, (steps[-1] + 1).clamp(max=count + 0.25))
    assert torch.equal(steps[0], start) and commit.memory["calls"] == 2
    with pytest.raises(ConfigError, match="a commit that holds the rule's memory, got a plain fun"):
        rule.learn(net, batch, objective, step)
    with pytest.raises(ConfigError, match="Other: parameters: expected leaves of the memory"):
        other = type("Other", (Fixed,), {"parameters": lambda self, memory: [bias]})()
        OwnLoop(other, rule.prepare(net, head.sites, batch), step, net, head)


def test_alone_a_tensor_is_its_own_sum_and_mean():
    x = torch.ones(2)
    assert ALONE.sum(x) is x and ALONE.mean(x, 3) is x
