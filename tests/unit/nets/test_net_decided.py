"""What a net decided for one plain call serves the next, and nothing outlives what it rests on."""

import copy
import pickle

import pytest
import torch
from torch import nn

from spikeloom import SpikingNet
from spikeloom.nets.execution import Execution
from spikeloom.nets.ops import Ops, cut
from spikeloom.nets.walk import walk
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF

TEXT = 'c4{norm = "batch_all"} P f6 f3'


def make(text=TEXT, **execution):
    how = Execution(**{"kernels": "compiled", **execution})
    return SpikingNet(text, (2, 4, 4), seed=3, execution=how).double()


def train(steps=5, batch=3):
    return torch.rand(steps, batch, 2, 4, 4, generator=torch.Generator().manual_seed(1)).double()


def gradients(net, xs):
    """Output of a call, and gradients of all parameters."""
    out = net(xs)
    weights = [*net.parameters()]
    return out.detach(), torch.autograd.grad(out.square().sum(), weights)


def assert_as_fresh(net, xs):
    """The net gives what a copy of it gives that has never run."""
    fresh = make(net.spec)
    fresh.load_state_dict(net.state_dict())
    fresh.train(net.training)
    for mine, theirs in zip(net.sites, fresh.sites, strict=True):
        if mine.neuron is not None:
            theirs.neuron.unit = mine.neuron.unit
    out, grads = gradients(net, xs)
    expected, others = gradients(fresh, xs)
    assert torch.equal(out, expected)
    assert all(map(torch.equal, grads, others))


@pytest.fixture
def decisions(monkeypatch):
    """Names of the sites that are decided about, as they come."""
    names = []

    def decide(site, *args):
        names.append(site.name)
        return original(site, *args)

    original = walk.decide
    monkeypatch.setattr(walk, "decide", decide)
    return names


def test_only_norms_are_asked_again(decisions):
    net, xs = make(), train()
    net(xs)
    assert decisions == [site.name for site in net.sites]
    decisions.clear()
    net(xs)
    assert decisions == ["0.0.0"]


def test_steps_share_decisions_with_other_runs(decisions):
    net, xs = make("c4 P f6 f3"), train()
    for _ in range(2):
        stepper = net.stepper()
        for x in xs:
            stepper(x)
    assert decisions == [site.name for site in net.sites]


def test_seams_of_a_rule_are_forgotten_with_the_run(decisions):
    net, xs = make("f6 f3"), train()
    ops = Ops(carry=cut)
    for _ in range(2):
        stepper = net.stepper(ops)
        for x in xs:
            stepper(x)
    assert decisions == ["0.0.0"] * 2


def test_an_exchanged_unit_decides_anew():
    net, xs = make("c4 P f6 f3"), train()
    net(xs)
    net.sites[0].neuron.unit = IF(v_th=0.5)
    assert_as_fresh(net, xs)
    net.sites[2].neuron.unit = LIF(alpha=0.25)
    assert_as_fresh(net, xs)


def test_modes_types_and_sizes_take_turns():
    net = make()
    for turn in range(3):
        for mode in (True, False):
            net.train(mode)
            for steps, batch in ((5, 3), (2, 4)):
                assert_as_fresh(net, train(steps, batch))
        with torch.no_grad():
            net(train())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=turn == 1):
            net(train())


def test_a_hook_sees_currents_as_they_were():
    net, xs = make("f6 f3"), train()
    before, _ = gradients(net, xs)
    seen = []
    net.sites[0].synapse.register_forward_hook(lambda module, args, out: seen.append(out))
    after, _ = gradients(net, xs)
    with torch.no_grad():
        weight, bias = net.sites[0].synapse.weight, net.sites[0].synapse.bias
        expected = nn.functional.linear(xs.flatten(0, 1).flatten(1), weight, bias)
    assert torch.equal(after, before)
    assert torch.allclose(seen[0].detach(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_net_that_has_run_can_be_copied(again):
    net, xs = make(), train()
    expected, _ = gradients(net, xs)
    assert_as_fresh(again(net), xs)
    assert expected.shape == (5, 3, 6)
