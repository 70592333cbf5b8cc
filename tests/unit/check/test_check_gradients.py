"""A rule's gradient beside BPTT's."""

import math

import pytest
import torch

from spikeloom.check.gradients import beside_bptt, cosines, describe
from spikeloom.check.toy import Case, Toy
from spikeloom.rules.ann import Ann
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

LAYERS = ["0.0.0", "1.0.0", "readout"]


@pytest.mark.parametrize("rule", [Ann(), Bptt(), Bptt(loss="step")], ids=str)
def test_backpropagation_is_itself_wherever_its_loss_is(rule):
    for own, reference in beside_bptt(Case("any", rule)).values():
        assert torch.equal(own, reference)
    assert cosines(Case("any", rule)) == pytest.approx(dict.fromkeys(LAYERS, 1.0))


def test_without_a_past_all_agree():
    for rule in (Sltt(), Ottt()):
        assert cosines(Case("any", rule), steps=1) == pytest.approx(dict.fromkeys(LAYERS, 1.0))


def test_local_rules_point_elsewhere_in_the_first_layer():
    found = cosines(Case("sltt", Sltt()))
    assert list(found) == LAYERS
    assert found["readout"] == pytest.approx(1.0) and 0.9 < found["0.0.0"] < 0.999


def test_the_cosine_by_hand():
    own, reference = beside_bptt(Case("ottt", Ottt()))["1.0.0"]
    product = sum(a * b for a, b in zip(own.tolist(), reference.tolist(), strict=True))
    by_hand = product / math.hypot(*own.tolist()) / math.hypot(*reference.tolist())
    assert cosines(Case("ottt", Ottt()))["1.0.0"] == pytest.approx(by_hand, rel=1e-12)


class Broken(Bptt):
    def learn(self, net, batch, objective, commit):
        raise ZeroDivisionError


def test_in_words():
    assert describe(Case("bptt", Bptt())) == "0.0.0 +1.000, 1.0.0 +1.000, readout +1.000"
    assert describe(Case("broken", Broken())) == "none (ZeroDivisionError)"


def test_idle_layers_are_those_without_gradient():
    toy = Toy(Case("bptt", Bptt()))
    assert toy.idle_layers() == LAYERS[:2]
    toy.learn()
    assert toy.idle_layers() == []
    toy.net.sites[1].synapse.bias.grad.zero_()
    assert toy.idle_layers() == ["1.0.0"]
