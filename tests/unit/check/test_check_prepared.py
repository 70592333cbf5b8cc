"""What a rule changes, by gradient and directly: noted, added up, made where weights may move."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from spikeloom.base.citation import Citation
from spikeloom.check.gradients import cosines
from spikeloom.check.prepared import RATE
from spikeloom.check.toy import Case, Toy
from spikeloom.rules.base import LearningRule, RuleFacts, RuleReport
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.commit import NewValue

FIRST, SECOND = "net.plan.synapses.0_0", "net.plan.synapses.1_0"


@dataclass(frozen=True)
class Mixed(LearningRule):
    """Adds 0.5 to the first weights, sets the second to 1, and trains the head by its gradient."""

    facts: ClassVar[RuleFacts] = RuleFacts(
        "mixed", Citation("Nobody", "A test", "here", 2026), "layer", "linear"
    )

    def learn(self, net, batch, objective, commit):
        with torch.no_grad():
            features = net(batch.xs, rng=batch.rng)
        loss = objective.over(features)
        loss.value.backward()
        first, second = (site.synapse.weight for site in net.sites)
        half = torch.full_like(first, 0.5)
        commit(updates={first: half, f"{SECOND}.weight": NewValue(torch.ones_like(second))})
        return RuleReport(loss.value.detach(), loss.logits.detach())


CASE = Case("mixed", Mixed())


def test_where_nothing_may_move_direct_changes_add_up_as_gradients_do():
    toy = Toy(CASE)
    before = toy.weights()
    toy.learn()
    once = toy.changes()
    toy.learn()
    twice = toy.changes()
    assert all(torch.equal(value, before[name]) for name, value in toy.weights().items())
    assert {name for name in once if name.startswith("net.")} == {
        f"{FIRST}.weight.update",
        f"{SECOND}.weight.update",
    }
    assert once[f"{FIRST}.weight.update"].unique().tolist() == [0.5]
    weight = toy.parameters()[f"{SECOND}.weight"]
    assert torch.equal(once[f"{SECOND}.weight.update"], 1 - weight)
    assert all(torch.allclose(twice[name], 2 * value) for name, value in once.items())
    toy.clear()
    assert toy.changes() == {}


def test_an_update_moves_weights_both_ways():
    toy = Toy(CASE)
    before = {name: p.detach().clone() for name, p in toy.parameters().items()}
    found = toy.update()
    assert torch.equal(found[f"{FIRST}.weight after the step"], before[f"{FIRST}.weight"] + 0.5)
    assert found[f"{SECOND}.weight after the step"].unique().tolist() == [1.0]
    grad = found["head.synapses.readout.weight.grad"]
    after = before["head.synapses.readout.weight"] - RATE * grad
    assert torch.allclose(found["head.synapses.readout.weight after the step"], after)


def test_a_step_by_given_changes_is_taken_back():
    toy = Toy(CASE)
    before = toy.weights()
    toy.learn()
    found = toy.stepped()
    assert torch.equal(
        found[f"{FIRST}.weight after the step"], before[f"{FIRST}.weight after the step"] + 0.5
    )
    assert all(torch.equal(value, before[name]) for name, value in toy.weights().items())


def test_frozen_layers_take_no_direct_changes():
    toy = Toy(CASE)
    before = toy.weights()
    toy.train(2, frozen=True)
    moved = {name for name, value in toy.weights().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"head"}


def test_a_map_changed_directly_may_keep_its_bias_and_no_other():
    toy = Toy(CASE)
    toy.learn()
    toy.require_changes()
    toy.require_movement()
    del toy.direct[f"{FIRST}.weight"]
    assert toy.idle_layers() == ["0.0.0"]


def test_the_cosine_takes_what_is_added_for_the_opposite_of_a_gradient():
    own = cosines(CASE)
    toy = Toy(Case("bptt", Bptt(loss="end")))
    toy.learn()
    site = toy.net.sites[0].synapse
    grad = torch.cat([site.weight.grad.flatten(), site.bias.grad])
    added = torch.cat([torch.full_like(site.weight, 0.5).flatten(), torch.zeros_like(site.bias)])
    expected = -(grad @ added) / grad.norm() / added.norm()
    assert abs(own["0.0.0"] - expected.item()) < 1e-12
    assert abs(own["readout"] - 1) < 1e-12
