"""Which neurons take part, counted by hand and over time and layers alike."""

import pytest
import torch
from torch import Tensor

from spikeloom.meters.base import watch
from spikeloom.meters.firing import FiringMeter
from spikeloom.nets.module.net import SpikingNet


def net_with(weights: list[float], unit: str = "", text: str = "f{n}{unit} f2") -> SpikingNet:
    """One input value and a neuron per weight."""
    net = SpikingNet(text.format(n=len(weights), unit=unit), (1,))
    synapse = net.sites[0].synapse
    with torch.no_grad():
        synapse.weight.copy_(torch.tensor(weights).view(-1, 1))
        if synapse.bias is not None:
            synapse.bias.zero_()
    return net


def read(net: SpikingNet, *batches: Tensor, by_time: bool = False):
    meter = FiringMeter()
    for xs in batches:
        with watch(net, xs, meter), torch.no_grad():
            (net.run_by_time if by_time else net.run_by_layer)(xs)
    return meter.read()


@pytest.mark.parametrize("by_time", [False, True])
def test_counted_by_hand(by_time):
    """Never, always, by sample, and at half of the steps."""
    net = net_with([-1.0, 4.0, 1.0, 0.75], '{unit = {name = "if", reset = "hard"}}')
    xs = torch.ones(4, 3, 1)
    xs[:, 0] = 0.5  # the third neuron fires at every other step, the fourth at one in three
    (site,) = read(net, xs, by_time=by_time)
    assert (site.neurons, site.samples, site.spiking) == (4, 3, True)
    assert (site.silent, site.full) == (1, 1)
    assert (site.silent_share, site.full_share) == (0.25, 0.25)
    fired = 3 * 4 + (2 + 4 + 4) + (1 + 2 + 2)
    assert site.rate_per_step == fired / (4 * 3 * 4)


def test_batches_add_up():
    net = net_with([-1.0, 4.0, 1.0])
    xs = torch.rand(5, 12, 1)
    assert read(net, xs) == read(net, xs[:, :5], xs[:, 5:])


def test_a_refractory_neuron_is_full_at_every_step_it_can():
    net = net_with([9.0], '{unit = {name = "lif", refractory = 1}}')
    (site,) = read(net, torch.ones(5, 2, 1))
    assert site.full_share == 1.0 and site.rate_per_step == 0.6


@pytest.mark.parametrize(("most", "full"), [("1", 3), ("2", 2), ('"none"', 0)])
def test_several_spikes_are_full_where_no_more_fit_into_a_step(most, full):
    unit = f'{{unit = {{name = "if", reset = "soft", max_spikes = {most}}}}}'
    net = net_with([-1.0, 1.0, 2.0, 9.0], unit)
    (site,) = read(net, torch.ones(4, 3, 1), by_time=True)
    assert site.full == full and site.silent == 1
    assert site.rate_per_step == 3 / 4  # three of four neurons answer at every step


def test_almost_always_is_full_too():
    net = net_with([2.0])
    xs = torch.ones(2, 100, 1)
    xs[:, :5] = 0.0
    assert read(net, xs)[0].full_share == 1.0
    xs[:, :6] = 0.0
    assert read(net, xs)[0].full_share == 0.0


def test_units_that_do_not_spike():
    net = net_with([-1.0, 1.0], '{unit = "relu"}')
    (site,) = read(net, torch.ones(4, 3, 1))
    assert not site.spiking and site.silent_share == 0.5 and site.rate_per_step == 0.5


def test_passes_stand_apart_in_the_nets_order():
    net = SpikingNet("c4 P [c4]x2 f3", (1, 8, 8))
    sites = read(net, torch.rand(3, 2, 1, 8, 8))
    assert [site.name for site in sites] == ["0.0.0", "2.0.0", "2.0.1"]
    assert [site.neurons for site in sites] == [256, 64, 64]
