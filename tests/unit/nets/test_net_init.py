"""Initial weights: every layer fires, whatever the decay, the norm and the topology."""

import pytest
import torch

from spikeloom.nets.module.init import weight_scale
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.presets import PRESETS, preset
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.relu import Relu

SEVEN = "c32 P c32 c32 c32 c32 P f128 f10"


class Rates:
    """Mean output of every spiking site."""

    def __init__(self):
        self.of = {}

    def see(self, site, x_in, current, s_out):
        if site.unit is not None and site.unit.spiking:
            self.of[site.name] = float(s_out.mean())


def rates(spec, in_shape, seed=0):
    net, watcher = SpikingNet(spec, in_shape, seed=seed), Rates()
    images = torch.rand(4, *in_shape, generator=torch.Generator().manual_seed(seed)) ** 2
    with torch.no_grad(), net.observe(watcher):
        net(images.expand(6, *images.shape))
    return watcher.of


@pytest.mark.parametrize("alpha", [0.0, 0.09, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("text", [SEVEN, "c32 P [c32]x4 P f128 f10", "f256 f256 f10"])
def test_all_layers_fire_at_every_decay(text, alpha):
    found = rates(parse(text, unit=LIF(alpha=alpha)), (3, 32, 32))
    assert all(0.08 < rate < 0.35 for rate in found.values()), found


@pytest.mark.parametrize(
    "unit", [IF(v_th=4.0), LIF(alpha=0.8, scale_input=True), LIF(reset="hard")], ids=str
)
def test_thresholds_and_scaled_inputs_are_made_up_for(unit):
    found = rates(parse(SEVEN, unit=unit), (3, 32, 32))
    assert all(0.05 < rate < 0.4 for rate in found.values()), found


def test_standardised_weights_fire_too():
    found = rates(parse(SEVEN, unit=LIF(alpha=0.5), norm="weight"), (3, 32, 32))
    assert all(0.05 < rate < 0.35 for rate in found.values()), found


CIFAR = [name for name, one in PRESETS.items() if one.in_shape == (3, 32, 32) and not one.spikes]
"""Where weights decide; in nets with joint batch norms the norms do."""


@pytest.mark.parametrize("name", CIFAR)
def test_presets_are_born_alive(name):
    found = rates(preset(name), (3, 32, 32))
    assert all(0.05 < rate < 0.45 for rate in found.values()), found


def test_scales_are_those_of_the_table():
    net = SpikingNet(
        parse(
            '{feedback = [{source = 1, target = 0, layers = "c4{unit = \\"none\\"}"}]} '
            "c4{unit = 'relu'} c4 c4{unit = 'none'} f2"
        ),
        (3, 8, 8),
    )
    scales = {site.name: weight_scale(site) for site in net.sites}
    assert scales["0.0.0"] == 2**0.5 and scales["2.0.0"] == 1 and scales["feedback0.0.0"] == 0.5
    assert scales["1.0.0"] == pytest.approx(2.5)
    assert isinstance(net.sites[0].unit, Relu)


def test_weights_have_the_stated_deviation_and_follow_the_seed():
    one, same, other = (
        SpikingNet("f400 f300 f10", (500,), seed=seed).sites[0].synapse.weight for seed in (3, 3, 4)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert float(one.detach().std() * 500**0.5) == pytest.approx(2.5, rel=0.01)
