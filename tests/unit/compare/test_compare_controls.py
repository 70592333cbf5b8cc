"""Controls that stand beside rules, and the one place of the loss."""

import pytest

from spikeloom.compare.controls import FROZEN, LINEAR, with_controls
from spikeloom.compare.plan import plan_rules


def plan(rules, net="c4 P f7", **stage):
    base = {"net": net, "data": "digits", "stages": [{"rule": "bptt", "epochs": 3} | stage]}
    return plan_rules(base, rules, (0, 1), "x")


def test_a_linear_model_and_frozen_layers_with_the_same_settings():
    found = with_controls(plan("ann,ottt,sltt", steps=2))
    assert [row.label for row in found.rows] == ["ann", "ottt", "sltt", LINEAR, FROZEN]
    assert [found.block(row) for row in found.rows[-2:]] == ["control", "control"]
    linear, frozen = (row.recipe for row in found.rows[-2:])
    assert not linear.net.spec().blocks and linear.net.spec().readout.out == 7
    assert linear.last.rule.name == "ann" and linear.last.epochs == 15
    assert frozen.last.rule.name == "ottt" and frozen.last.freeze_body
    assert frozen.net.spec() == found.rows[0].recipe.net.spec() and frozen.last.steps == 2


def test_none_beside_a_linear_model_and_none_frozen_without_spikes():
    assert with_controls(plan("ann,bptt", net="f7")) == plan("ann,bptt", net="f7")
    assert [row.label for row in with_controls(plan("ann")).rows] == ["ann", LINEAR]


@pytest.mark.parametrize(
    ("rules", "places"),
    [
        ("bptt,sltt", {"bptt": "step", "sltt": "step"}),
        ("bptt:loss=end,sltt", {"bptt:loss=end": "end", "sltt": "step"}),  # as asked for
        ("bptt", {"bptt": "end"}),  # alone it keeps its default
        ("ann,bptt", {"ann": "step", "bptt": "end"}),  # the ReLU net has one step
        ("bptt,dsr", {"bptt": "end", "dsr": "end"}),
        ("bptt,dsr,ottt", {"bptt": "step", "dsr": "end", "ottt": "step"}),
    ],
)
def test_rules_that_can_choose_place_their_loss_as_the_others_do(rules, places):
    rows = plan(rules).rows
    assert {row.label: row.recipe.last.learning_rule().loss_at for row in rows} == places


def test_a_net_that_reads_the_time_mean_keeps_the_loss_at_the_end():
    rows = plan("bptt,sltt", net='c4 c4{unit = "relu"} G f7').rows
    assert rows[0].recipe.last.learning_rule().loss_at == "end"
