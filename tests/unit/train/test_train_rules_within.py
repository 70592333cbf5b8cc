"""Rules as options of rules: through recipe and command line, equal to the bare rule."""

from dataclasses import dataclass

import pytest
import torch

from rulekit import Gained, Hebb, Through, small_rules
from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.check.battery import run_check
from spikeloom.check.form import (
    adds_gradients_and_never_zeroes,
    commits_as_often_as_it_says,
    has_complete_facts,
    is_a_frozen_value,
    is_linear_in_the_batch_where_it_says_so,
    resumes_to_the_bit,
)
from spikeloom.check.toy import cases_of
from spikeloom.compare.plan import plan_rules
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.codec import to_table
from spikeloom.program.recipe import fingerprint
from spikeloom.program.setup import snapshot
from spikeloom.program.tables import override
from spikeloom.rules.base import RULES, LearningRule
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.commit import OwnLoop
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt
from spikeloom.train.loop import train
from trainkit import bench, recipe, registered, same, tiny

NAMES = RULES.names()
FED = '{feedback = [{source = 0, target = 0, layers = "f8", restrict = 0.5}]} f8 f3'
CHECKS = (
    is_a_frozen_value,
    has_complete_facts,
    commits_as_often_as_it_says,
    adds_gradients_and_never_zeroes,
    is_linear_in_the_batch_where_it_says_so,
    resumes_to_the_bit,
)
"""Of the battery, those that a memory or an inner rule could break."""
BASE = {"net": "c4 P f3", "data": "digits", "stages": [{"rule": "bptt"}]}
OPTIONS = {"ottt": {"update": "online"}, "sltt": {"k_steps": 2}}


@dataclass(frozen=True)
class Defaulted(Through):
    """A wrapper with an inner rule of its own choice.

    Source:
        A test.
    """

    inner: LearningRule = Bptt()


@pytest.fixture(autouse=True)
def rules():
    with small_rules():
        yield


def around(inner, **options):
    return {"name": "through", "inner": inner} | options


@pytest.mark.parametrize("name", [*NAMES, "hebb", "gained"])
def test_around_every_rule_curves_are_those_of_the_bare_rule(name):
    net = "c3 P f8 f3" if name not in ("ide", "spide", "hebb") else FED
    net = "f8 f3" if name == "hebb" else net
    changes = {"net": net, "stages.0.steps": 3, "stages.0.optimizer": {"name": "sgd", "lr": 0.1}}
    rule = {"name": name} | OPTIONS.get(name, {})
    if name == "hebb":
        changes["precision"] = "64-true"
    bare, wrapped = (
        train(recipe(changes | {"stages.0.rule": one}), splits=tiny(), final=False)
        for one in (rule, around(rule))
    )
    figures = [
        [(one.loss, one.accuracy, one.val_loss) for one in end.record.curve]
        for end in (bare, wrapped)
    ]
    assert figures[0] == figures[1]
    assert same(snapshot(bare.bench.modules()), snapshot(wrapped.bench.modules()))
    assert wrapped.bench.memory["inner"] == bare.bench.memory
    start = snapshot(bench(changes | {"stages.0.rule": rule}).modules())
    assert not same(start, snapshot(bare.bench.modules()))


def test_a_wrapper_changes_gradients_where_the_inner_rule_commits():
    changes = {"net": "f8 f3", "precision": "64-true", "stages.0.batch": 45}
    changes |= {"stages.0.epochs": 1, "stages.0.optimizer": {"name": "sgd", "lr": 0.1}}
    nets = [
        train(recipe(changes | {"stages.0.rule": rule}), splits=tiny(), final=False).bench.net
        for rule in ("bptt", around("bptt", share=0.5))
    ]
    parameters = [net.parameters() for net in (bench(changes).net, *nets)]
    for first, whole, half in zip(*parameters, strict=True):
        assert torch.allclose(half - first, (whole - first) / 2, rtol=1e-10, atol=1e-15)
        assert not torch.equal(first, whole)


def test_its_options_stand_in_the_recipe_with_their_path():
    one = recipe({"stages.0.rule": around({"name": "bptt", "loss": "step"})})
    assert one.last.learning_rule() == Through(inner=Bptt(loss="step"))
    assert to_table(one.last.learning_rule()) == {
        "name": "through",
        "inner": {"name": "bptt", "loss": "step"},
    }
    assert recipe({"stages.0.rule": around("sltt")}).last.learning_rule() == Through(inner=Sltt())
    other = recipe({"stages.0.rule": around({"name": "bptt", "loss": "end"})})
    assert fingerprint(one) != fingerprint(other)
    assert one.last.rule_title == "through(bptt)"
    twice = recipe({"stages.0.rule": around(around("ottt"))})
    assert twice.last.rule_title == "through(through, ottt)"
    changed = override(one.model_dump(mode="json"), "stages.0.rule.inner.loss", "end", "test")
    assert changed["stages"][0]["rule"]["inner"]["loss"] == "end"


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ({"name": "bptt", "loss": "mean"}, r"stages.0.rule.inner.loss: expected end or step"),
        ({"name": "bptt", "los": "end"}, "stages.0.rule.inner.los: unknown key"),
        ({"name": "bpt"}, "stages.0.rule.inner: unknown learning rule 'bpt'; did you mean 'bptt'"),
        ({"name": "sltt", "k_steps": 0}, "stages.0.rule.inner.k_steps: expected 1 or more, got 0"),
        (3, "stages.0.rule.inner: expected a table, got 3"),
    ],
)
def test_errors_name_the_path_of_an_inner_option(inner, words):
    with pytest.raises(ConfigError, match=words):
        recipe({"stages.0.rule": around(inner)})


def test_what_an_inner_rule_refuses_when_it_meets_the_net_has_its_path_too():
    with pytest.raises(ConfigError, match="^stages.0.rule.inner.inner.k_steps: expected at most T"):
        bench({"stages.0.rule": around(around({"name": "sltt", "k_steps": 5}))})
    with pytest.raises(UnsupportedNet, match=r"^rules.ide: expected a net with feedback"):
        bench({"stages.0.rule": around("ide")})


def test_the_command_line_takes_a_name_or_a_table():
    rules = 'sltt:given=[0,1],through:inner=sltt,through:inner={name="sltt",k_steps=2}:share=0.5'
    plan = plan_rules(BASE, rules, (0,), "test")
    found = [row.recipe.last.learning_rule() for row in plan.rows]
    assert found == [Sltt(given=(0, 1)), Through(Sltt()), Through(Sltt(k_steps=2), share=0.5)]
    texts = [one.text for one in plan.differences(plan.rows[2])]
    assert "stages.0.rule.inner = sltt" in texts and "stages.0.rule.inner.k_steps = 2" in texts


def test_the_command_line_reaches_the_options_of_an_inner_rule():
    rules = "through:inner=sltt:inner.k_steps=2:share=0.5,through:inner=through:inner.inner=ottt"
    plan = plan_rules(BASE, rules, (0,), "test")
    found = [row.recipe.last.learning_rule() for row in plan.rows]
    assert found == [Through(Sltt(k_steps=2), share=0.5), Through(Through(Ottt()))]


def test_the_loss_of_an_inner_rule_stands_where_that_of_the_other_rows_does():
    """Beside a rule with a loss at every step, unless it is given; alone it stays at the end."""
    rules = "through:inner=bptt,through:inner=through:inner.inner=bptt,defaulted"
    step = Bptt(loss="step")
    with registered(RULES, "defaulted", Defaulted):
        for more, place in (("sltt", step), ("through:inner=sltt", step), ("ann", Bptt())):
            plan = plan_rules(BASE, f"{rules},{more}", (0,), "test")
            found = [row.recipe.last.learning_rule() for row in plan.rows][:3]
            assert found == [Through(place), Through(Through(place)), Defaulted(place)], more
    for end in ("through:inner=bptt:inner.loss=end", 'through:inner={name="bptt",loss="end"}'):
        plan = plan_rules(BASE, f"sltt,{end}", (0,), "test")
        assert plan.rows[1].recipe.last.learning_rule() == Through(Bptt())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("inner=sltt:inner.k_steps=0", "stages.0.rule.inner.k_steps: expected 1 or more, got 0"),
        ("inner=bptt:inner.los=step", "stages.0.rule.inner.los: unknown key 'los'; did you mean"),
        ("inner.loss=step", "stages.0.rule.inner.name: expected a learning rule, got none; add it"),
        ("inner=bptt:inner..loss=step", "expected a path of keys, got 'inner..loss'"),
        ("inner=bptt:share.x=1", "stages.0.rule.share: expected a number, got {'x': 1}"),
    ],
)
def test_the_command_line_names_the_path_of_a_wrong_inner_option(options, words):
    with pytest.raises(ConfigError) as error:
        plan_rules(BASE, f"through:{options}", (0,), "test")
    assert str(error.value).startswith(f"--rules through:{options}: {words}")


def test_the_battery_passes_wrappers_and_on_rules_with_memory():
    for kind in (Through, Gained):
        for case in cases_of(kind.__name__.lower(), kind):
            results = [run_check(check, case) for check in CHECKS]
            assert [one for one in results if one.outcome != "ok"] == []


def test_in_a_loop_of_ones_own():
    net = SpikingNet("f6 f3", (16,), seed=1).double()
    head = Softmax.of(net, seed=2)
    x = torch.rand(12, 16, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    batch = Batch.of(x.expand(3, 12, 16), torch.arange(12) % 3)
    objective = head.bind(batch.target, batch.rng)
    rule = Through(inner=Hebb())
    memory = rule.prepare(net, head.sites, batch)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)

    def step():
        optimizer.step()
        optimizer.zero_grad()

    commit = OwnLoop(rule, memory, step, net, head)
    weight, before = net.sites[0].synapse.weight, net.sites[0].synapse.weight.clone()
    for _ in range(2):
        rule.learn(net, batch, objective, commit)
    assert commit.memory["inner"]["seen"] == 24 and memory["inner"]["seen"] == 0
    assert not torch.equal(weight, before)
    with pytest.raises(ConfigError, match="rules.hebb: expected a commit that holds"):
        Hebb().learn(net, batch, objective, step)
    kept = commit.memory
    with pytest.raises(ConfigError, match="updates of 'net.* without gradient, got one with"):
        weight.grad = torch.ones_like(weight)
        rule.learn(net, batch, objective, commit)
    assert commit.memory is kept
