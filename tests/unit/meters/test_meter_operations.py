import pytest
import torch
from metering import bernoulli, dyadic_net, measure, operations_of, set_weight, site_named

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.heads.softmax import Softmax
from spikeloom.heads.stochmax import Stochmax
from spikeloom.meters.base import watch
from spikeloom.meters.operations import OperationMeter
from spikeloom.nets.spec.grammar import parse

NO_BIAS = "{default = {bias = false}} "
COUNTS = ("ac", "mac", "mac_dense", "ac_folded", "mac_folded", "effective", "dense")


def counts(site, *names):
    return tuple(getattr(site, name) for name in names)


def test_hand_counted_net_with_three_spikes():
    net = dyadic_net(NO_BIAS + "c1k2p0 f2 f3", (1, 3, 3))
    for site in (0, 1):
        set_weight(net, site, torch.ones(()))
    head = Softmax(2, 3, bias=False)
    torch.nn.init.ones_(head.site.synapse.weight)
    xs = torch.zeros(1, 1, 1, 3, 3)
    for row, column in ((0, 0), (0, 1), (1, 1)):  # fan-out 1, 2 and 4
        xs[0, 0, 0, row, column] = 1
    record, spikes = measure(net, [xs], head=head.eval())
    conv, linear, readout = record.sites
    assert counts(conv, "ac", "mac", "formula", "pairs", "spikes_out") == (7, 0, 16, 16, 4)
    assert counts(linear, "ac", "mac", "formula", "pairs", "spikes_out") == (8, 0, 8, 8, 2)
    assert counts(readout, "ac", "mac", "formula", "pairs", "spikes_out") == (6, 0, 6, 6, 0)
    assert record.ac.mean == 21
    assert record.mac.mean == 0
    assert spikes.total.mean == 6
    assert counts(conv, "state_mac", "state_ac", "state_compare", "bias_ac") == (4, 4, 4, 0)
    assert conv.rate_in == pytest.approx(3 / 9)


def test_neurobench_example():
    net = dyadic_net(NO_BIAS + "f3 f2", (3,))
    set_weight(net, 0, torch.tensor([[1.3, 0, -3.2], [0, 1.2, -5.1], [-1.1, 2.7, 0]]))
    site = operations_of(net, torch.tensor([[[0, 1.3, -1.0]]])).sites[0]
    assert counts(site, "mac", "effective", "mac_dense", "dense", "ac") == (4, 4, 9, 9, 0)


def test_accumulates_of_an_unpadded_conv_are_its_outputs_under_ones():
    net = dyadic_net("c5p0 f3 f2", (2, 7, 7))
    xs = bernoulli(3, 4, 2, 7, 7)
    ones = torch.ones(5, 2, 3, 3)
    exact = torch.nn.functional.conv2d(xs.flatten(0, 1), ones).sum().item()
    assert operations_of(net, xs).sites[0].ac == exact


NETS = [
    "c4 P c4 f6 f3",
    "c4s2 M [c4 c4]x2 G f6 f3",
    '{default = {gain = 2.74, norm = "weight"}} c4 P [c4]x2 f6 f3',
    '{default = {norm = "batch_step"}} c4 [c4 c4]{join = "add"} P f6 f3',
    """[c4]{join = "before_unit", shortcut = 'c4k1{unit = "none"}'} f6 f3""",
    '{default = {amplitude = "v_th", unit = {name = "if", v_th = 0.7}}} c4 P f6 f3',
    "{default = {psp = {decay = 0.5}}} c4 P c4 f6 f3",
    "{input_psp = {decay = 0.5}} P c4 f6 f3",
    "t3k2s2p0 c4 f6 f3",
    'P c4{unit = "relu"} c4{unit = "relu"} P c4 f6 f3',
    'c4 P c4{unit = "relu"} f6{unit = "relu"} f3',
    '{default = {psp = {decay = 0.5}}} c4 P c4{unit = "relu"} f3',
]


@pytest.mark.parametrize("text", NETS)
@pytest.mark.parametrize("kind", ["constant", "spikes", "reals"])
def test_orders_batches_and_additivity(text, kind):
    net = dyadic_net(text, (2, 8, 8))
    head = Softmax.of(net).eval()
    if kind == "constant":
        xs = (torch.randint(0, 256, (6, 2, 8, 8)) / 256).expand(4, 6, 2, 8, 8)
    elif kind == "spikes":
        xs = bernoulli(4, 6, 2, 8, 8)
    else:
        xs = torch.randint(0, 256, (4, 6, 2, 8, 8)) / 256
    whole = measure(net, [xs], head=head)[0]
    assert measure(net, [xs], by="time", head=head)[0] == whole
    parts = [xs[:, :1], xs[:, 1:3], xs[:, 3:]]
    for by in ("time", "layer"):
        assert measure(net, parts, by=by, head=head)[0] == whole
    assert whole.per_sample("ac") == whole.ac.mean
    assert whole.per_sample("mac") == whole.mac.mean
    assert whole.per_sample("ac") + whole.per_sample("mac") > 0
    for site in whole.sites:
        assert site.effective <= site.dense
        assert site.mac <= site.mac_dense <= site.dense
        assert site.mac_folded <= site.mac


def test_additive_over_steps_and_layers():
    net = dyadic_net('{default = {unit = {name = "lif", alpha = 0.0}}} c4 P c4 f6 f3', (1, 8, 8))
    xs = bernoulli(5, 3, 1, 8, 8)
    whole = operations_of(net, xs)
    steps = [operations_of(net, xs[t : t + 1]) for t in range(5)]
    for row, site in enumerate(whole.sites):
        for name in COUNTS:
            assert getattr(site, name) == sum(getattr(s.sites[row], name) for s in steps)
    assert sum(site.ac for site in whole.sites) / whole.samples == whole.ac.mean


def test_passes_are_listed_apart():
    net = dyadic_net("c4 [c4]x3 f6 f3", (1, 6, 6))
    record = operations_of(net, bernoulli(4, 2, 1, 6, 6, p=0.6))
    assert [site.name for site in record.sites] == [*("0.0.0", "1.0.0", "1.0.1", "1.0.2", "2.0.0")]
    passes = record.sites[1:4]
    assert all(one.formula == passes[0].formula for one in passes)
    for one, following in zip(passes, passes[1:], strict=False):
        assert following.rate_in == one.rate_out > 0
        assert following.ac > following.spikes_out


# what counts as an accumulate


def second_layer(text, xs, in_shape=(1, 4, 4), **options):
    net = dyadic_net(NO_BIAS + text, in_shape)
    record, spikes = measure(net, [xs], **options)
    last = [site for site in record.sites if site.kind == "linear"][0]
    return last, record, spikes


@pytest.mark.parametrize("by", ["layer", "time"])
@pytest.mark.parametrize(
    "first",
    [
        "c3",
        "c3{gain = 2.74}",
        'c3{amplitude = "v_th", unit = {name = "lif", v_th = 0.7}}',
        'c3{amplitude = "v_th", gain = 1.3, unit = {name = "if", v_th = 0.7, learn = ["v_th"], '
        "per_channel = true}}",
        "c3 M",
        "c3{gain = 2.74} M",
        "c3{psp = {decay = 0.8, scale = 0.2}}",
        "c3{psp = {decay = 0.8}, gain = 1.7}",
    ],
)
def test_spikes_behind_amplitudes_and_low_passes_are_accumulates(first, by):
    xs = bernoulli(6, 3, 1, 4, 4, p=0.6)
    site, record, _ = second_layer(first + " f5 f2", xs, by=by)
    came = record.sites[0].spikes_out
    assert came > 0
    assert site.mac == site.mac_folded == 0
    assert site.spike_input
    if " M" not in first:
        assert site.ac == 5 * came
        assert site.rate_in == pytest.approx(record.sites[0].rate_out)


@pytest.mark.parametrize("by", ["layer", "time"])
@pytest.mark.parametrize(
    ("text", "window"),
    [("c3 P", 4), ("c3{gain = 2.74} P", 4), ("c3{psp = {decay = 0.5}} P", 4), ("c3 G", 16)],
)
def test_pooled_spikes_are_multi_bit_unless_folded(text, window, by):
    xs = bernoulli(6, 3, 1, 4, 4, p=0.5)
    site, record, _ = second_layer(text + " f5 f2", xs, by=by)
    assert site.mac > 0
    assert site.mac_folded == 0
    assert site.ac_folded == 5 * record.sites[0].spikes_out
    assert site.spike_input
    assert site.rate_in == pytest.approx(record.sites[0].rate_out)


def test_large_pools_with_gain_stay_within_the_tolerance():
    net = dyadic_net(NO_BIAS + "c3{gain = 2.74} G f5 f2", (1, 16, 16))
    site = site_named(operations_of(net, bernoulli(6, 8, 1, 16, 16, p=0.5)), "2.0.0")
    assert site.mac_folded == 0
    assert site.ac_folded > 0


def test_values_count_their_size():
    """Signed spikes and sums of spikes: |v| accumulates each."""
    net = dyadic_net(NO_BIAS + "f5 f2", (4,))
    counted = torch.tensor([[[0.0, -1.0, 2.0, 1.0]]])
    site = operations_of(net, counted, kind="counts").sites[0]
    assert counts(site, "ac", "mac", "effective") == (20, 0, 15)
    net = dyadic_net(NO_BIAS + '[c1 c1]{join = "add"} f5 f2', (1, 4, 4))
    xs = bernoulli(4, 2, 1, 4, 4, p=0.6)
    record = operations_of(net, xs)
    joined = xs.sum().item() + site_named(record, "0.1.0").spikes_out
    assert counts(site_named(record, "1.0.0"), "ac", "mac") == (5 * joined, 0)


def test_reals_are_multiplied():
    site, _, _ = second_layer('c3{unit = "relu"} f5 f2', bernoulli(4, 2, 1, 4, 4))
    assert site.ac == 0 < site.mac < site.mac_dense == site.dense
    assert not site.spike_input


def test_one_real_sample_does_not_touch_the_others():
    net = dyadic_net(NO_BIAS + "f5 f2", (4,))
    xs = torch.tensor([[[1.0, 0, 1, 0], [0.5, 0, 1, 0]]])
    site = operations_of(net, xs).sites[0]
    assert counts(site, "ac", "mac", "mac_dense") == (10, 10, 20)
    assert site.activity == 2 + 4


def test_input_low_pass_counts_the_input_spikes():
    net = dyadic_net("{default = {bias = false}, input_psp = {decay = 0.5}} P c3 f5 f2", (1, 4, 4))
    xs = bernoulli(4, 2, 1, 4, 4)
    for by in ("layer", "time"):
        conv = site_named(operations_of(net, xs, by=by), "1.0.0")
        plain = dyadic_net(NO_BIAS + "P c3 f5 f2", (1, 4, 4))
        expected = site_named(operations_of(plain, xs, by=by), "1.0.0")
        assert counts(conv, *COUNTS) == counts(expected, *COUNTS)


def test_lateral_recurrence_behind_a_low_pass_counts_spikes():
    feedback = """{feedback = [{source = 0, target = 0, layers = 'f4{unit = "none"}'}]} """
    spec = parse(feedback + "f4{psp = {decay = 0.5}} f2", bias=False)
    net = dyadic_net(spec, (3,))
    xs = bernoulli(5, 2, 3, p=0.8)
    record = operations_of(net, xs, by="time")
    edge = site_named(record, "feedback0.0.0")
    body = site_named(record, "0.0.0")
    assert edge.mac == 0
    assert 0 < edge.ac <= 4 * body.spikes_out
    assert edge.evaluations == 4 * 2  # nothing comes back in the first step
    assert record.formula == body.formula


# constant input, heads, biases, states


@pytest.mark.parametrize("by", ["layer", "time"])
def test_constant_input_is_computed_once(by):
    net = dyadic_net('c3{unit = "relu"} P c3 f5 f2', (1, 4, 4))
    image = torch.randint(1, 256, (2, 1, 4, 4)) / 256
    once = operations_of(net, image.expand(7, 2, 1, 4, 4), by=by)
    again = operations_of(net, image.expand(7, 2, 1, 4, 4).clone(), by=by, kind="real")
    for name in ("0.0.0", "2.0.0"):
        held, anew = site_named(once, name), site_named(again, name)
        assert held.evaluations == 2
        assert held.map_steps == anew.evaluations == 14
        assert held.mac * 7 == held.mac_recomputed == anew.mac == anew.mac_recomputed
    last = site_named(once, "3.0.0")
    assert last.evaluations == last.map_steps == 14
    assert last.mac_folded == last.mac == last.mac_recomputed == 0


@pytest.mark.parametrize("by", ["layer", "time"])
@pytest.mark.parametrize(
    "last", ["f6", "f6{gain = 2.74}", "f6{psp = {decay = 0.5}}", "c2 P", "c2 G"]
)
def test_head_counts_a_train_of_spikes_at_each_step(last, by):
    net = dyadic_net(f"c3 {last} f4", (1, 4, 4))
    head = Softmax.of(net).eval()
    xs = bernoulli(5, 3, 1, 4, 4, p=0.6)
    record = operations_of(net, xs, by=by, head=head)
    readout = record.sites[-1]
    spikes = [site for site in record.sites if site.unit == "spiking"][-1].spikes_out
    assert readout.name == "readout"
    assert readout.ac_folded == 4 * spikes > 0
    assert readout.mac_folded == 0
    assert readout.evaluations == 15
    assert readout.bias_ac == 4 * 15


def test_all_maps_of_a_head_see_spikes():
    net = dyadic_net("c3 f6{gain = 2.74} f4", (1, 4, 4))
    head = Stochmax.of(net).eval()
    meter, xs = OperationMeter(), bernoulli(5, 3, 1, 4, 4, p=0.6)
    with watch(net, xs, meter), torch.no_grad():
        features = net(xs)
        for site in head.sites[:2]:
            scores = head.logits(head.reduced(features)).unsqueeze(0)
            meter.see(site, features, scores, scores)
    one, two = meter.read().sites[-2:]
    assert (one.name, two.name) == ("readout", "retain")
    assert one.ac == two.ac > 0
    assert two.mac == 0


def test_head_on_the_mean_or_behind_an_analog_tail_multiplies_once():
    net = dyadic_net("c3 f6 f4", (1, 4, 4))
    head, meter = Softmax.of(net).eval(), OperationMeter()
    xs = bernoulli(5, 3, 1, 4, 4, p=0.6)
    with watch(net, xs, meter), torch.no_grad():
        h = head.reduced(net(xs))
        meter.see(head.site, h.unsqueeze(0), head.logits(h).unsqueeze(0), h.unsqueeze(0))
    assert meter.read().sites[-1].ac < meter.read().sites[-1].mac
    net = dyadic_net('c3 f6{unit = "relu"} f4', (1, 4, 4))
    readout = operations_of(net, xs, head=Softmax.of(net).eval()).sites[-1]
    assert readout.evaluations == 3
    assert readout.ac == 0 < readout.mac


def test_biases_and_states_are_lines_of_their_own():
    net = dyadic_net(
        'c3 c3{unit = {name = "if"}, bias = false} '
        'f5{norm = "batch_step", bias = false, psp = {decay = 0.5}} f2',
        (1, 4, 4),
    )
    first, second, third = operations_of(net, bernoulli(6, 2, 1, 4, 4)).sites
    steps = 6 * 2
    assert counts(first, "bias_ac", "state_mac", "state_ac", "state_compare") == (48 * steps,) * 4
    assert counts(second, "bias_ac", "state_mac", "state_ac") == (0, 0, 48 * steps)
    assert counts(third, "bias_ac", "state_mac", "state_ac") == (5 * steps, 10 * steps, 5 * steps)


def test_counts_hold_in_inference_mode_and_low_precision():
    net = dyadic_net("c3{gain = 2.74} P f5 f2", (1, 4, 4))
    xs = bernoulli(4, 3, 1, 4, 4, p=0.6)
    plain = operations_of(net, xs)
    with torch.inference_mode():
        assert operations_of(net, xs) == plain
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = operations_of(net, xs)
    assert low.sites[0].ac == plain.sites[0].ac
    assert low.sites[-1].mac_folded == 0


def test_refusals():
    net = dyadic_net("f5 f2", (4,))
    xs = torch.ones(2, 3, 4)
    with pytest.raises(ConfigError, match="evaluation mode"):
        OperationMeter().open(net.train(), xs)
    head, meter = Softmax.of(net.eval()), OperationMeter()
    with pytest.raises(ShapeError, match="what the synapse received"), watch(net, xs, meter):
        features = net(xs)
        meter.see(head.site, features[..., :3], features, features)
