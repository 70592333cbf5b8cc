"""DSR against the authors' own code (dsr_mlp_if.md, dsr_mlp_lif.md), computed in float64."""

import math

import pytest
import torch
from mlp_oracle import arrays

from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.heads.rates import Rates
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.rules.dsr import Dsr

T, DT, TAU = 10, 0.05, 1.0
TEXT = "f24 f20 [f10]"
DECAY = math.exp(-DT / TAU)
UNITS = {
    "if": (IF(fire_fraction=0.5, learn=("v_th",)), 1.0),
    "lif": (LIF(alpha=DECAY, scale_input=True, fire_fraction=0.3, learn=("v_th",)), 1 / DT),
}


class Problem:
    """The oracle's net with its weights, and what came out of it."""

    def __init__(self, kind, view=True):
        self.data = {name: one.double() for name, one in arrays(f"dsr_mlp_{kind}").items()}
        unit, gain = UNITS[kind]
        spec = parse(TEXT, unit=unit, amplitude="v_th", gain=gain)
        self.net = SpikingNet(spec, (16,)).double()
        reduce = "mean" if kind == "if" else "weighted"
        self.head = Rates.of(self.net, reduce=reduce, decay=DECAY)
        xs = self.data["x"].expand(T, 5, 16)
        xs = xs if view else xs.clone()
        self.batch = Batch(xs, self.data["y"].long(), SampleRng(0, 0, torch.arange(5)))
        for row, site in enumerate(self.net.sites, 1):
            assert site.neuron is not None
            site.synapse.weight.data.copy_(self.data[f"param/fc{row}.weight"])
            site.synapse.bias.data.copy_(self.data[f"param/fc{row}.bias"])
            site.neuron.get_parameter("raw_v_th").data.copy_(self.data[f"param/n{row}.Vth"])
        self.seen = {}

    def see(self, site, x_in, current, s_out):
        self.seen[site.name] = current.detach(), (s_out * site.amplitude()).detach()

    def learn(self, rule):
        rule.prepare(self.net, self.head.sites, self.batch)
        objective = self.head.bind(self.batch.target, self.batch.rng)
        return rule.learn(self.net, self.batch, objective, lambda: None)


def near(ours, theirs, within=1e-6):
    return (ours - theirs).abs().max() <= within * theirs.abs().max()


@pytest.mark.parametrize("view", [True, False], ids=["view", "copy"])
@pytest.mark.parametrize("kind", UNITS)
def test_forward(kind, view):
    one = Problem(kind, view)
    with one.net.observe(one):
        report = one.learn(Dsr())
    for row, site in enumerate(one.net.sites, 1):
        current, out = one.seen[site.name]
        theirs = one.data[f"spikes_n{row}"]
        assert torch.equal(out > 0, theirs > 0) and near(out, theirs)
        assert near(current.expand(theirs.shape), one.data[f"current_n{row}"])
    assert near(report.logits, one.data["output"]) and near(report.loss, one.data["loss"])


@pytest.mark.parametrize("view", [True, False], ids=["view", "copy"])
@pytest.mark.parametrize("kind", UNITS)
def test_gradients(kind, view):
    one = Problem(kind, view)
    one.learn(Dsr())
    for row, site in enumerate(one.net.sites, 1):
        assert site.neuron is not None and site.synapse.bias is not None
        assert near(site.synapse.weight.grad, one.data[f"grad/fc{row}.weight"])
        assert near(site.synapse.bias.grad, one.data[f"grad/fc{row}.bias"])
        threshold = site.neuron.get_parameter("raw_v_th").grad
        assert near(threshold, one.data[f"grad/n{row}.Vth"])
