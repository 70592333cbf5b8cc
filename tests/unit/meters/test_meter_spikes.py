import pytest
import torch
from metering import bernoulli, dyadic_net, measure

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.base import Spread, watch
from spikeloom.meters.energy import FP32, paper_energy, strict_energy
from spikeloom.meters.operations import OperationMeter
from spikeloom.meters.spikes import SpikeMeter, spike_counts
from spikeloom.nets.module.net import SpikingNet

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
    totals = sum(torch.cat(t).flatten(2).sum((0, 2)) for t in plain.spikes.values()).double()
    assert record.total.mean == totals.mean().item()
    assert record.total.error == pytest.approx((totals.std() / 3**0.5).item())
    assert record.spikes_per_neuron == pytest.approx(5 * record.rate_per_step)


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


class TestSeveralSpikesPerStep:
    """Three spikes in one step are three spikes everywhere, counted by hand."""

    net = SpikingNet(
        '{default = {bias = false, unit = {name = "if", max_spikes = "none"}}} f2 f3 f2', (1,)
    ).eval()
    xs = torch.tensor([[[3.5]], [[0.25]], [[-1.0]], [[1.0]]])  # T = 4, B = 1
    # first layer, weights 1 and 0.5: u = 3.5, 0.75, -0.25, 0.75 and 1.75, 0.875, 0.375, 0.875
    # -> spikes 3, 0, 0, 0 and 1, 0, 0, 0; second layer, weights 0.5 each: 2 each, then none

    def measured(self, by):
        with torch.no_grad():
            for site, weight in zip(
                self.net.sites, ([[1.0], [0.5]], [[0.5, 0.5]] * 3), strict=True
            ):
                site.synapse.weight.copy_(torch.tensor(weight))
        return measure(self.net, [self.xs], by=by)

    @pytest.mark.parametrize("by", ["layer", "time"])
    def test_spikes_rates_and_accumulates(self, by):
        operations, spikes = self.measured(by)
        assert [site.spikes for site in spikes.sites] == [4, 6]
        assert spikes.total.mean == 10 and spikes.rate_per_step == 10 / (5 * 4)
        first, second = operations.sites
        assert (first.spikes_out, second.spikes_out) == (4, 6)
        assert second.ac == 4 * 3 and second.mac == 0  # each spike meets 3 weights
        assert second.effective == 2 * 3  # two operands that are not 0
        assert second.activity == 4 and second.spike_input and second.rate_in == 4 / (2 * 4)
        neuron_steps = 2 * 4
        assert first.state_mac == first.state_ac == first.state_compare == neuron_steps

    def test_energy_is_that_of_so_many_spikes(self):
        operations, _ = self.measured("layer")
        strict = strict_energy(operations, FP32)
        assert strict.layers[1].ac == pytest.approx(12 * FP32.e_ac) and strict.layers[1].mac == 0
        paper = paper_energy(operations, FP32)
        assert paper.layers[1].ac == pytest.approx(FP32.e_ac * 4 * 6 * (4 / 8))  # T O r_in

    def test_behind_a_pool_they_fold_as_single_ones_do(self):
        unit = '{name = "if", max_spikes = "none"}'
        text = f"{{default = {{bias = false, unit = {unit}}}}} c1k1 P f2"
        net = SpikingNet(text, (1, 2, 2)).eval()
        with torch.no_grad():
            net.sites[0].synapse.weight.fill_(1.0)
        head = Softmax.of(net).eval()
        xs = torch.tensor([[3.0, 1.0], [0.0, 2.0]]).view(1, 1, 1, 2, 2).repeat(2, 1, 1, 1, 1)
        xs[1] = 0.5  # no spike: potentials stay below 1
        record = measure(net, [xs], head=head)[0]
        (readout,) = [site for site in record.sites if site.role == "readout"]
        assert (readout.ac, readout.mac) == (0, 2)  # 6 / 4 spikes: a product per weight
        assert (readout.ac_folded, readout.mac_folded) == (6 * 2, 0)


def test_counts_over_steps_see_several_spikes_too():
    s = torch.tensor([[[0.0, 3.0], [1.0, 1.0]], [[-1.0, 0.0], [0.0, 0.5]]])
    assert spike_counts(s, 2).tolist() == [[3, 2], [1, 1]]
    assert spike_counts(s.bfloat16(), (0, 2)).tolist() == [4, 3]
