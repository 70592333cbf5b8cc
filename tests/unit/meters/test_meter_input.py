"""What an input is made of is said, not read off its values."""

import pytest
import torch
from metering import bernoulli, dyadic_net, measure, operations_of, site_named

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.encoders.base import ENCODERS
from spikeloom.heads.softmax import Softmax
from spikeloom.meters._signal import READOUT, signals
from spikeloom.meters.energy import FP32, INT32, paper_energy, strict_energy
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse

STEPS = 4
IMAGE = torch.randint(0, 17, (3, 1, 4, 4), generator=torch.Generator().manual_seed(1)).float()
NO_BIAS = "{default = {bias = false}} "
NETS = [
    NO_BIAS + "c3 P c3 f5 f2",
    NO_BIAS + 'c3{unit = "relu"} P f5{unit = "relu"} f2',
    NO_BIAS + 'P c3{unit = "relu"} f5 f2',
    NO_BIAS + 'f5{unit = "none"} f5 f2',
    NO_BIAS + '[c1 c1]{join = "add"} f5 f2',
    "{default = {bias = false}, input_psp = {decay = 0.5}} c3 f5 f2",
    NO_BIAS + "f2",
]
"""Spiking, analog, hybrid, linear, joined, low-passed, and a head alone."""


def energies(text, factor, by, copied):
    """Price a net on `factor * IMAGE`; its first weights undo the factor: equal spikes."""
    net = dyadic_net(text, (1, 4, 4))
    head = Softmax.of(net).eval()
    with torch.no_grad():
        net.sites[0].synapse.weight.div_(factor)
    xs = (factor * IMAGE).expand(STEPS, *IMAGE.shape)
    xs = xs.clone() if copied else xs
    record = operations_of(net, xs, by=by, head=head, kind="constant")
    priced = [paper_energy(record, INT32), strict_energy(record, FP32)]
    again = [(site.ac_recomputed, site.mac_recomputed) for site in record.sites]
    return [*((energy.snn, energy.efficiency) for energy in priced), *again], record


@pytest.mark.parametrize("by", ["layer", "time"])
@pytest.mark.parametrize("text", ["c3 P c3 f5 f2", 'c3 [c3 c3]{join = "add"} f5 f2'])
def test_energy_of_equal_spikes_does_not_depend_on_the_scale_of_a_constant_input(text, by):
    text = NO_BIAS + text
    whole, record = energies(text, 1.0, by, False)
    assert energies(text, 1 / 16, by, False)[0] == whole
    assert energies(text, 16.0, by, False)[0] == whole
    assert energies(text, 1.0, by, True) == (whole, record)
    first = record.sites[0]
    assert (first.ac, first.evaluations, first.map_steps) == (0, 3, 3 * STEPS)
    assert first.mac == first.effective > 0


@pytest.mark.parametrize("by", ["layer", "time"])
@pytest.mark.parametrize("text", NETS)
@pytest.mark.parametrize("factor", [1 / 16, 1.0, 16.0])
def test_real_operands_are_multiplied_whatever_their_values(text, by, factor):
    net = dyadic_net(text, (1, 4, 4))
    for weight in net.parameters():  # whole numbers: whatever is computed is a whole number too
        torch.nn.init.ones_(weight)
    head = Softmax.of(net).eval()
    xs = (factor * IMAGE).expand(STEPS, *IMAGE.shape).clone()
    record = operations_of(net, xs, by=by, head=head, kind="constant")
    for site in record.sites:
        if site.operands != "spikes" and site.formula:
            assert site.ac == site.ac_folded == 0, site.name
            assert not site.spike_input
            assert site.rate_in == 1


@pytest.mark.parametrize("by", ["layer", "time"])
@pytest.mark.parametrize("text", [NETS[1], NETS[6], NO_BIAS + 'c3{unit = "relu"} G f2'])
def test_the_readout_of_constant_features_runs_once_and_is_charged(text, by):
    net = dyadic_net(text, (1, 4, 4))
    head = Softmax.of(net).eval()
    for xs in (IMAGE.expand(STEPS, *IMAGE.shape), IMAGE.repeat(STEPS, 1, 1, 1, 1)):
        record = operations_of(net, xs, by=by, head=head, kind="constant")
        readout = site_named(record, "readout")
        assert readout.evaluations == 3
        assert readout.mac == readout.effective > 0
        assert readout.mac_recomputed == STEPS * readout.mac
        assert readout.bias_ac in (0, 3 * 2)


def test_a_head_behind_a_time_mean_multiplies_once():
    net = dyadic_net(NO_BIAS + 'c3 f5{unit = "relu"} f2', (1, 4, 4))
    head = Softmax.of(net).eval()
    for by in ("layer", "time"):
        record = operations_of(net, bernoulli(STEPS, 3, 1, 4, 4), by=by, head=head, kind="events")
        tail, readout = record.sites[-2:]
        assert (tail.operands, readout.operands) == ("real", "real")
        assert (tail.evaluations, readout.evaluations) == (3, 3)
        assert tail.mac_recomputed == tail.mac > 0
        assert tail.ac == readout.ac == 0


def test_counts_are_that_many_accumulates_and_the_same_numbers_said_to_be_real_are_not():
    net = dyadic_net(NO_BIAS + "f5 f2", (4,))
    xs = torch.tensor([[[0.0, 3, 1, 0]], [[2.0, 0, 0, 1]]])
    counted, real = (operations_of(net, xs, kind=kind).sites[0] for kind in ("counts", "real"))
    assert (counted.ac, counted.mac) == (5 * 7, 0)
    assert (real.ac, real.mac) == (0, 5 * 4)
    assert (counted.spike_input, real.spike_input) == (True, False)


def test_frames_that_change_are_computed_at_each_step():
    net = dyadic_net(NO_BIAS + 'c3{unit = "relu"} f2', (1, 4, 4))
    xs = torch.randint(0, 17, (STEPS, 3, 1, 4, 4)).float()
    for kind in ("real", "counts"):
        first = operations_of(net, xs, kind=kind).sites[0]
        assert first.evaluations == first.map_steps == 3 * STEPS


@pytest.mark.parametrize(
    ("join", "gains", "unit"),
    [("add", (2.0, 2.0), True), ("add", (2.74, 2.74), True), ("add", (2.0, 1.0), False)],
)
def test_branches_of_one_amplitude_keep_it(join, gains, unit):
    text = f'c3{{gain = {gains[0]}}} [c3{{gain = {gains[1]}}}]{{join = "{join}"}} f5 f2'
    net = dyadic_net(NO_BIAS + text, (1, 4, 4))
    record = operations_of(net, bernoulli(STEPS, 3, 1, 4, 4, p=0.6), kind="events")
    last = record.sites[-1]
    spikes = sum(site.spikes_out for site in record.sites[:2])
    assert (last.ac, last.mac > 0) == ((5 * spikes, False) if unit else (0, True))


def test_bare_trains():
    """Without a word a view of one step is real-valued, and so are equal frames of an image."""
    net = dyadic_net(NO_BIAS + "f5 f2", (4,))
    image = torch.tensor([[2.0, 0, 1, 0]])
    for xs in (image.expand(3, 1, 4), image.repeat(3, 1, 1), image.sign().expand(3, 1, 4)):
        site = operations_of(net, xs).sites[0]
        assert (site.ac, site.mac, site.evaluations) == (0, 10, 1)
    site = operations_of(net, image.sign().repeat(3, 1, 1)).sites[0]
    assert (site.ac, site.mac, site.evaluations) == (30, 0, 3)


@pytest.mark.parametrize(
    ("kind", "xs", "error", "match"),
    [
        ("constant", torch.eye(2).view(2, 1, 2), DataError, "the same at every step"),
        ("events", torch.full((2, 1, 2), 0.5).clone(), DataError, "-1, 0 and 1, got 0.5"),
        ("events", torch.full((2, 1, 2), 2.0), DataError, "-1, 0 and 1, got 2"),
        ("counts", torch.full((2, 1, 2), 0.5), DataError, "whole numbers, got 0.5"),
        ("events", torch.ones(1, 1, 2).expand(2, 1, 2), DataError, "one step seen 2 times"),
        ("spikes", torch.ones(2, 1, 2), ConfigError, "expected one of constant, real"),
    ],
)
def test_what_is_said_is_held_against_the_input(kind, xs, error, match):
    with pytest.raises(error, match=match):
        operations_of(SpikingNet("f3 f2", (2,)).eval(), xs, kind=kind)


@pytest.mark.parametrize("values", ["real", "events", "counts"])
@pytest.mark.parametrize("name", ENCODERS.names())
def test_encoders_give_what_they_say(name, values):
    """The meter checks what is said, so a false word is an error here."""
    encoder = ENCODERS.find(name, "encoder")()
    kind = encoder.gives(values)
    x = torch.rand(3, STEPS, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    x = x.round() if values == "events" else (3 * x).round() if values == "counts" else x
    if name == "sequential":
        x = x.flatten(2).unsqueeze(1)  # a picture of STEPS rows, one for each step
    elif name != "frames":
        x = (x[:, 0] / 3).clamp(0, 1)
    xs = encoder.encode(x, STEPS, torch.Generator().manual_seed(3)).view(STEPS, 3, 1, 4, 4)
    net = dyadic_net("c3 f2", (1, 4, 4))
    first = operations_of(net, xs, kind=kind).sites[0]
    assert (first.ac > 0) == (kind in ("events", "counts"))
    assert first.evaluations == (3 if kind == "constant" else 3 * STEPS)


@pytest.mark.parametrize("text", [*NETS, "c1 [c4]x2{fit = 'drop'} f5 f2"])
def test_signals_agree_with_the_layout(text):
    net = SpikingNet(text, (1, 4, 4))
    arriving = signals(net)
    assert set(arriving) == {READOUT, *(site.name for site in net.sites)}
    for site in net.sites:
        assert arriving[site.name].static == site.static_input, site.name


def test_both_conventions_of_a_measured_pair_do_not_move_with_the_scale():
    """EE against the measured ReLU net of the same weights, on x/16, x and 16 x."""
    spec = parse("c3 P f5 f2", bias=False)
    found = []
    for factor in (1 / 16, 1.0, 16.0):
        net, ann = dyadic_net(spec, (1, 4, 4)), dyadic_net(spec.as_ann(), (1, 4, 4))
        with torch.no_grad():
            for one in (net, ann):
                one.sites[0].synapse.weight.div_(factor)
        heads = [Softmax.of(one).eval() for one in (net, ann)]
        xs = factor * IMAGE
        ours = measure(net, [xs.expand(STEPS, *xs.shape)], head=heads[0], kind="constant")[0]
        theirs = measure(ann, [xs.unsqueeze(0)], head=heads[1], kind="constant")[0]
        priced = [strict_energy(one, FP32) for one in (ours, theirs)]
        found.append((*priced, paper_energy(ours), ours.ac, ours.mac))
    assert found[0] == found[1] == found[2]
