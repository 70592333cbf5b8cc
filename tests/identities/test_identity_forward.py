"""No rule changes what the net computes; losses at the end and at every step."""

import pytest
import torch
from rule_runs import EXACT, NETS, Problem, Spikes, T

from spikeloom.nets.readout import Loss
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

every_net = pytest.mark.parametrize("name", NETS)
both_inputs = pytest.mark.parametrize("view", [True, False], ids=["view", "copy"])
RULES = [Bptt("step"), Bptt("end"), Sltt(), Sltt(k_steps=2), Ottt(), Ottt(first_layer_trace=True)]
RULES += [Ottt(update="online")]


@both_inputs
@every_net
def test_spikes_and_logits_are_the_same_under_every_rule(name, view):
    one = Problem(name, view=view)
    results = []
    for rule in RULES:
        spikes = Spikes()
        with one.net.observe(spikes):
            one.learn(rule)
        results.append((one.report.logits, spikes.trains))
    logits, fired = results[0]
    assert any(bool(part.any()) for part in fired.values())
    for other_logits, other_fired in results[1:]:
        assert torch.allclose(logits, other_logits, rtol=0, atol=1e-13)
        if one.exact:
            assert torch.equal(logits, other_logits)
        assert set(fired) == set(other_fired)
        assert all(torch.equal(fired[key], other_fired[key]) for key in fired)
        assert all(part.shape[0] == T for part in fired.values())


@pytest.mark.parametrize("name", EXACT)
def test_loss_reports_agree_wherever_the_loss_is_at_every_step(name):
    one = Problem(name)
    losses = []
    for rule in (Bptt("step"), Sltt(), Sltt(k_steps=1), Ottt(), Ottt(update="online")):
        one.learn(rule)
        losses.append(one.report.loss)
    assert all(torch.equal(loss, losses[0]) for loss in losses)


class LinearObjective:
    """A loss that is linear in the logits."""

    def __init__(self, problem):
        self.head, self.sites = problem.head, problem.head.sites
        self.coefficients = torch.arange(16.0, dtype=torch.float64).reshape(4, 4) / 16 - 0.5

    def __call__(self, h, ops=None):
        logits = self.head.scores(h) if ops is None else self.head.scores(h, ops)
        return Loss(logits, (logits * self.coefficients).sum())

    def over(self, hs, ops=None):
        return self(self.head.reduced(hs), ops)


@pytest.mark.parametrize("name", EXACT)
def test_a_linear_loss_is_the_same_at_the_end_and_at_every_step(name):
    one = Problem(name)
    found = []
    for place in ("end", "step"):
        one.clear()
        report = Bptt(place).learn(one.net, one.batch, LinearObjective(one), lambda: None)
        found.append((report, one.grads()))
    (end, end_grads), (step, step_grads) = found
    assert torch.equal(end.loss, step.loss) and torch.equal(end.logits, step.logits)
    one.same(end_grads, step_grads)


@pytest.mark.parametrize("name", EXACT)
def test_squared_error_at_every_step_adds_the_variance_over_time(name):
    one = Problem(name)
    one.learn(Bptt("end"))
    end = one.report
    one.learn(Bptt("step"))
    step = one.report
    with torch.no_grad():
        logits = torch.stack([one.head.scores(h) for h in one.net(one.batch.xs)])
    spread = (logits - logits.mean(0)).square().mean()
    assert spread.item() > 0
    assert (step.loss - end.loss).item() == pytest.approx(spread.item(), rel=1e-13)


@pytest.mark.parametrize("name", EXACT)
def test_over_one_step_both_places_of_the_loss_agree(name):
    one = Problem(name, steps=1)
    one.same(one.learn(Bptt("end")), one.learn(Bptt("step")))


@every_net
def test_bptt_by_layer_is_bptt_by_time(name):
    one = Problem(name)
    by_layer = one.learn(Bptt("end"))
    one.clear()
    features = one.net.run_by_time(one.batch.xs, rng=one.batch.rng)
    one.objective().over(features).value.backward()
    if name in EXACT:
        one.exact = False  # through time products grow beyond 53 bits
    one.same(by_layer, one.grads())
