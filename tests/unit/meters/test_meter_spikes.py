import pytest
import torch
from metering import bernoulli, dyadic_net, measure

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.meters.base import Spread, layer_name, watch
from spikeloom.meters.operations import OperationMeter
from spikeloom.meters.spikes import SpikeMeter
from spikeloom.nets.net import SpikingNet

TEXT = "c4 P [c4]x2 f6 f3"
SHAPE = (1, 6, 6)


class Recorder:
    def __init__(self):
        self.spikes = {}

    def see(self, site, x_in, current, s_out):
        if site.unit is not None:
            self.spikes.setdefault(site.name, []).append(s_out)


def test_counts_per_layer_and_pass():
    net = dyadic_net(TEXT, SHAPE)
    xs = bernoulli(5, 3, *SHAPE, p=0.6)
    plain = Recorder()
    with net.observe(plain), torch.no_grad():
        net.run_by_layer(xs)
    record = measure(net, [xs])[1]
    assert [site.name for site in record.sites] == ["0.0.0", "2.0.0", "2.0.1", "3.0.0"]
    for site in record.sites:
        trains = torch.cat(plain.spikes[site.name])
        assert site.spikes == int(trains.sum()) > 0
        assert site.neurons == trains[0, 0].numel()
        assert site.rate_per_step == pytest.approx(trains.mean().item())
        assert site.spikes_per_neuron == pytest.approx(5 * trains.mean().item())
    totals = sum(torch.cat(t).flatten(2).sum((0, 2)) for t in plain.spikes.values()).double()
    assert record.total.mean == totals.mean().item()
    assert record.total.error == pytest.approx((totals.std() / 3**0.5).item())
    assert record.spikes_per_neuron == pytest.approx(5 * record.rate_per_step)


def test_passes_merge_to_layers():
    net = dyadic_net(TEXT, SHAPE)
    record = measure(net, [bernoulli(4, 2, *SHAPE, p=0.6)])[1]
    layers = {layer.name: layer for layer in record.layers()}
    assert list(layers) == ["0.0", "2.0", "3.0"]
    first, second = (site for site in record.sites if site.name.startswith("2."))
    assert layers["2.0"].spikes == first.spikes + second.spikes
    assert layers["2.0"].neurons == 2 * first.neurons
    rates = (first.rate_per_step + second.rate_per_step) / 2
    assert layers["2.0"].rate_per_step == pytest.approx(rates)
    assert layer_name("readout") == "readout"


@pytest.mark.parametrize("constant", [True, False])
def test_same_in_both_orders_and_any_batch_size(constant):
    net = dyadic_net(TEXT, SHAPE)
    xs = bernoulli(4, 6, *SHAPE, p=0.6)
    if constant:
        xs = xs[:1].expand(4, -1, -1, -1, -1)
    whole = measure(net, [xs])[1]
    assert measure(net, [xs], by="time")[1] == whole
    parts = [xs[:, :1], xs[:, 1:3], xs[:, 3:]]
    assert measure(net, parts, by="time")[1] == whole


def test_non_spiking_units_are_left_out():
    net = dyadic_net('c2{unit = "relu"} c2 f3 f2', (1, 4, 4))
    names = [site.name for site in measure(net, [torch.rand(3, 2, 1, 4, 4)])[1].sites]
    assert names == ["1.0.0", "2.0.0"]
    ann = dyadic_net(net.spec.as_ann(), (1, 4, 4))
    record = measure(ann, [torch.rand(1, 2, 1, 4, 4)])[1]
    assert record.sites == ()
    assert (record.rate_per_step, record.spikes_per_neuron) == (0, 0)


def test_spread_of_one_sample_has_no_error():
    assert Spread.of(torch.tensor([3])) == Spread(3.0, None, 1)


@pytest.mark.parametrize("make", [SpikeMeter, OperationMeter])
def test_meters_insist_on_batches(make):
    net = SpikingNet("f3 f2", (2,)).eval()
    xs = torch.ones(2, 4, 2)
    meter = make()
    with pytest.raises(ConfigError, match="watch"):
        meter.read()
    with pytest.raises(ConfigError, match="watch"), net.observe(meter):
        net(xs)
    with pytest.raises(ShapeError, match="one batch at a time"), watch(net, xs, meter):
        net(xs[:, :1])
    with watch(net, xs, meter):
        net(xs)
        with pytest.raises(ConfigError, match="closed"):
            meter.open(net, xs)
    with pytest.raises(ConfigError, match="fresh meter"):
        meter.open(SpikingNet("f3 f2", (2,)).eval(), xs)
    assert meter.read().samples == 4


@pytest.mark.parametrize("make", [SpikeMeter, OperationMeter])
def test_a_failed_batch_is_not_counted(make):
    net = dyadic_net("f3 f2", (2,))
    xs = torch.ones(2, 4, 2)
    meter, once = make(), make()
    with pytest.raises(RuntimeError, match="stop"), watch(net, xs, meter):
        net(xs)
        raise RuntimeError("stop")
    for one in (meter, once):
        with watch(net, xs, one):
            net(xs)
    assert meter.read() == once.read()
