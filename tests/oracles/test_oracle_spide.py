"""SPIDE against the authors' own code (spide_fc_if.md), computed in float64."""

import torch
from mlp_oracle import arrays

from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.integrate_fire import IF
from spikeloom.rules.spide import Spide

T, SCALE = 30, 1.5
TEXT = '{feedback = [{source = 0, target = 0, layers = "f20{bias = false}"}]} f20 f10'
UNIT = IF(v_th=2.0, fire_fraction=0.5)  # fires at 1 and falls by 2, to the other end of its range
LAYERS = ("network_x.fc", "network_s.fc", "classifier")


def learned(rule):
    """Return the oracle's arrays and the synapses of the net that has learned from them."""
    data = {name: one.double() for name, one in arrays("spide_fc_if").items()}
    net = SpikingNet(parse(TEXT, unit=UNIT), (12,)).double()
    head = Softmax.of(net).double()
    synapses = [*(site.synapse for site in net.sites), head.site.synapse]
    for layer, synapse in zip(LAYERS, synapses, strict=True):
        synapse.weight.data.copy_(data[f"param/{layer}.weight"])
        if synapse.bias is not None:
            synapse.bias.data.copy_(data[f"param/{layer}.bias"])
    batch = Batch(data["x"].expand(T, 5, 12), data["y"].long(), SampleRng(0, 0, torch.arange(5)))
    rule.prepare(net, head.sites, batch)
    report = rule.learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
    return data, report, synapses


def near(ours, theirs, within=1e-6):
    return (ours - theirs).abs().max() <= within * theirs.abs().max()


def test_forward_and_gradients():
    data, report, synapses = learned(Spide(back_steps=250, scale=SCALE))
    assert near(report.logits, data["logits"]) and near(report.loss, data["loss"])
    for layer, synapse in zip(LAYERS, synapses, strict=True):
        assert near(SCALE * synapse.weight.grad, data[f"grad/{layer}.weight"]), layer
        if synapse.bias is not None:
            assert near(SCALE * synapse.bias.grad, data[f"grad/{layer}.bias"]), layer


def test_more_steps_come_closer_to_the_linear_solution():
    errors = []
    for steps in (250, 1000, 4000):
        data, _, synapses = learned(Spide(back_steps=steps, scale=SCALE))
        errors.append((SCALE * synapses[1].weight.grad - data["grad_Ws_linear"]).abs().max())
    assert errors[1] < errors[0] / 2 and errors[2] < errors[1] / 2
