"""Norms that are done learning go into the weights of convolutions, and answers stay."""

import netkit as kit
import pytest
import torch

from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Ops
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.leaky import LIF

NETS = [
    '{default = {norm = "batch_all"}} c6 P c8 f8 f3',
    '{default = {norm = "batch_step"}} c6 [c6 c6]x2{join = "add", shortcut = "c6k1"} f8 f3',
    'c6{norm = "batch_all", bias = false} t6{norm = "batch_all"} f8 f3',
]


def learned(text):
    """Return a net whose norms have seen other statistics than 0 and 1."""
    net = SpikingNet(parse(text, unit=LIF()), (2, 8, 8)).double()
    for norm in net.plan.norms.values():
        for one, low in (("running_mean", -0.5), ("running_var", 0.5)):
            getattr(norm, one).uniform_(low, low + 1, generator=kit.generator())
        with torch.no_grad():
            norm.get_parameter("weight").uniform_(-1, 2, generator=kit.generator())
            norm.get_parameter("bias").uniform_(0, 1, generator=kit.generator())
    return net.eval()


@pytest.mark.parametrize("text", NETS)
@pytest.mark.parametrize("constant", [False, True])
def test_currents_and_spikes_are_the_same(text, constant):
    net = learned(text)
    xs = torch.rand(5, 3, 2, 8, 8, generator=kit.generator(), dtype=torch.float64)
    xs = xs[:1].expand(5, 3, 2, 8, 8) if constant else xs
    with torch.no_grad():
        assert any(site.folds for site in net.sites)
        apart = net(xs, ops=Ops(synapse=lambda visit, x: visit.synapse(x)))
        for run in (net.run_by_layer, net.run_by_time):
            assert torch.equal(run(xs), apart)
        for site in net.sites:
            if site.folds:
                x = torch.rand(4, *site.synapse.in_shape, dtype=torch.float64)
                close = site.normalise(site.synapse(x))
                assert torch.allclose(site.folded(x), close, rtol=1e-12, atol=1e-13)


def test_where_a_gradient_is_wanted_or_statistics_move_nothing_is_folded(monkeypatch):
    net = learned(NETS[0])
    xs = torch.rand(3, 2, 2, 8, 8, dtype=torch.float64)
    calls = []
    for site in net.sites:
        monkeypatch.setattr(site, "folded", lambda x, site=site: calls.append(site.name))
    net(xs)
    with torch.no_grad():
        net.train()(xs)
    assert calls == []
