"""Several spikes per step and bounded potentials with every rule: right, or refused in one line."""

import pytest
import torch
import torch.nn.functional as F

from spikeloom.base.errors import UnsupportedNet
from spikeloom.check.battery import all_cases
from spikeloom.check.choices import healthy
from spikeloom.check.toy import Case, Toy
from spikeloom.neurons.integrate_fire import IF, NO_BOUND, ONE_SPIKE
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Exponential, Periodic, Sigmoid
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

UNITS = {
    "many": LIF(alpha=0.5, v_th=0.5, max_spikes=None, surrogate=Periodic(Exponential(4.0))),
    "few": IF(max_spikes=3),
    "held": LIF(alpha=0.5, v_min=-0.25),
    "held and many": LIF(v_th=0.5, max_spikes=4, v_min=-0.25, order="next_step"),
}
RATES = {"dsr", "ide", "spide"}


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_a_rule_trains_it_or_refuses_it(case, name):
    unit = UNITS[name]
    try:
        toy = Toy(case, unit=unit)
    except UnsupportedNet as refusal:
        assert case.name in RATES
        why = "a soft reset right after" if unit.order == "next_step" else ONE_SPIKE
        why = NO_BOUND if unit.max_spikes == 1 else why
        assert str(refusal).startswith(f"rules.{case.name}: expected {why}")
        assert "\n" not in str(refusal)
        return
    assert case.name not in RATES
    if case.rule.facts.spiking and unit.max_spikes != 1:
        assert toy.net(toy.xs).max() > 1  # the toy asks for it
    before = toy.learn().loss.item()
    toy.clear()
    healthy(toy, reached=True)
    toy.train(30)
    assert toy.learn().loss.item() < before


@pytest.mark.parametrize("kernels", ["reference", "compiled"])
@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("rule", [Sltt(), Ottt(), Ottt(trace_decay=0.25)], ids=str)
def test_gradients_are_those_of_a_loop_by_hand(rule, name, kernels):
    """delta of one step, times the trace of what came in; spikes count with their number."""
    unit = UNITS[name]
    toy = Toy(Case("hand", rule, kernels), unit=unit)
    toy.learn()
    sites = toy.sites
    weights = [site.synapse.weight.detach() for site in sites]
    biases = [site.synapse.bias.detach() for site in sites]
    states = [unit.init(toy.xs.new_zeros(len(toy.target), len(bias))) for bias in biases[:-1]]
    decay = getattr(rule, "trace_decay", 0.0)
    decay = unit.alpha if decay is None else decay
    traces = [torch.zeros(())] * len(weights)
    expected = [torch.zeros_like(weight) for weight in weights]
    for frame in toy.xs:
        currents, incoming, p = [], [], frame
        for row, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            incoming.append(p.detach())
            current = F.linear(p, weight, bias).requires_grad_()
            currents.append(current)
            if row < len(states):
                p, after = unit.step(states[row], current, {})
                states[row] = type(after)(*(one if one is None else one.detach() for one in after))
        loss = F.cross_entropy(currents[-1], toy.target) / len(toy.xs)
        for row, delta in enumerate(torch.autograd.grad(loss, currents)):
            keep = decay if row else 0.0  # no trace of the net's own input
            traces[row] = incoming[row] + keep * traces[row]
            expected[row] += delta.T @ traces[row]
    for site, wanted in zip(sites, expected, strict=True):
        torch.testing.assert_close(site.synapse.weight.grad, wanted, rtol=1e-10, atol=1e-12)


def test_a_trained_decay_goes_with_both():
    toy = Toy(
        next(case for case in all_cases() if case.name == "bptt"),
        unit=LIF(max_spikes=2, v_min=-0.5, learn=("alpha",), surrogate=Sigmoid()),
    )
    healthy(toy, reached=True)
