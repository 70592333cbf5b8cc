"""Joins, pre-activation blocks and low-passes against code written out by hand."""

import netkit as kit
import pytest
import torch
import torch.nn.functional as F

XS = kit.dyadic((4, 3, 4, 6, 6), seed=7)


def both(net, xs=XS):
    """Run in both orders, which must agree."""
    out = net.run_by_time(xs)
    assert torch.equal(out, net.run_by_layer(xs))
    return out


def conv(site, x):
    spec = site.spec
    return F.conv2d(x, site.synapse.weight, site.synapse.bias, padding=spec.padding)


def train_of(neuron, site, xs):
    return torch.stack([neuron(conv(site, x)) for x in xs])


@pytest.mark.parametrize(
    ("join", "meet"),
    [
        ("add", lambda a, s: a + s),
        ("and", lambda a, s: a * s),
        ("iand", lambda a, s: (1 - a) * s),
    ],
)
class TestOutputJoins:
    def test_identity_shortcut(self, join, meet):
        """SEW: the shortcut meets the branch behind its last neuron."""
        net = kit.exact_net(f'c4 [c4 c4]{{join = "{join}"}} f3', (4, 6, 6))
        first, second, third = net.sites
        spikes = train_of(kit.Slow(), first, XS)
        branch = train_of(kit.Slow(), third, train_of(kit.Slow(), second, spikes))
        assert 0 < branch.mean() < 1
        assert torch.equal(both(net), meet(branch, spikes).flatten(2))

    def test_projected_shortcut_with_neurons(self, join, meet):
        net = kit.exact_net(f'c4 [c6 c6]{{join = "{join}", shortcut = "c6k1"}} f3', (4, 6, 6))
        first, second, third, path = net.sites
        spikes = train_of(kit.Slow(), first, XS)
        branch = train_of(kit.Slow(), third, train_of(kit.Slow(), second, spikes))
        shortcut = train_of(kit.Slow(), path, spikes)
        assert torch.equal(both(net), meet(branch, shortcut).flatten(2))

    def test_tap_after_the_first_unit(self, join, meet):
        net = kit.exact_net(f'[c4 c4]{{join = "{join}", tap = "first_unit"}} f3', (4, 6, 6))
        first, second = net.sites
        spikes = train_of(kit.Slow(), first, XS)
        branch = train_of(kit.Slow(), second, spikes)
        assert torch.equal(both(net), meet(branch, spikes).flatten(2))

    def test_each_pass_has_its_own_shortcut(self, join, meet):
        net = kit.exact_net(f'[c4]x3{{join = "{join}", shortcut = "c4k1"}} f3', (4, 6, 6))
        xs = XS
        for one in net.plan.blocks[0].passes:
            branch = train_of(kit.Slow(), one.sites[0], xs)
            xs = meet(branch, train_of(kit.Slow(), one.shortcut[0], xs))
        assert torch.equal(both(net), xs.flatten(2))
        assert len({id(one.shortcut[0].synapse) for one in net.plan.blocks[0].passes}) == 1


class TestBeforeUnit:
    def test_shortcut_joins_the_current(self):
        net = kit.exact_net('c4 [c4 c4]{join = "before_unit", shortcut = "c4k1"} f3', (4, 6, 6))
        neuron = kit.Slow()
        first, second, third, path = net.sites
        spikes = train_of(kit.Slow(), first, XS)
        hidden = train_of(kit.Slow(), second, spikes)
        assert path.unit is not None
        side = train_of(kit.Slow(), path, spikes)
        pairs = zip(hidden, side, strict=True)
        out = torch.stack([neuron(conv(third, h) + s) for h, s in pairs])
        assert torch.equal(both(net), out.flatten(2))

    def test_identity_of_one_layer_repeated(self):
        net = kit.exact_net('c4 [c4]x2{join = "before_unit"} f3', (4, 6, 6))
        first, second, _ = net.sites
        xs = train_of(kit.Slow(), first, XS)
        for _ in range(2):
            neuron = kit.Slow()
            xs = torch.stack([neuron(conv(second, x) + x) for x in xs])
        assert torch.equal(both(net), xs.flatten(2))

    def test_tap_after_the_first_unit(self):
        text = '[c4 c4 c4]{join = "before_unit", tap = "first_unit"} f3'
        net = kit.exact_net(text, (4, 6, 6))
        first, second, third = net.sites
        tap = train_of(kit.Slow(), first, XS)
        hidden, neuron = train_of(kit.Slow(), second, tap), kit.Slow()
        out = torch.stack([neuron(conv(third, h) + s) for h, s in zip(hidden, tap, strict=True)])
        assert torch.equal(both(net), out.flatten(2))


class TestPreActivation:
    def test_block_of_neurons_before_convs(self):
        """NF-ResNet: real-valued shortcut; each branch layer is neuron, then conv."""
        text = (
            '[I c4{unit = "none"} I c4{unit = "none"}]{join = "add"} '
            '[I c4{unit = "none"}]{join = "add", tap = "first_unit", shortcut = '
            '"c4k1{unit = \\"none\\"}"} f3'
        )
        net = kit.exact_net(text, (4, 6, 6))
        sites = {site.name: site for site in net.sites}
        one, two, three = kit.Slow(), kit.Slow(), kit.Slow()
        out = []
        for x in XS:
            y = conv(sites["0.1.0"], one(x))
            x = x + conv(sites["0.3.0"], two(y))
            s = three(x)
            out.append(conv(sites["1.1.0"], s) + conv(sites["1.s0.0"], s))
        assert torch.equal(both(net), torch.stack(out).flatten(2))


class TestLowPass:
    def test_behind_a_unit(self):
        net = kit.exact_net("c4{psp = {decay = 0.5, scale = 0.25}, gain = 2.0} f8 f3", (4, 6, 6))
        first, second = net.sites
        hidden, neuron = kit.Slow(), kit.Slow()
        trace, out = torch.zeros(()), []
        for x in XS:
            trace = 0.5 * trace + 0.25 * 2.0 * hidden(conv(first, x))
            out.append(neuron(second.synapse(trace)))
        assert torch.equal(both(net), torch.stack(out))

    def test_on_the_input(self):
        net = kit.exact_net("{input_psp = {decay = 0.5, scale = 0.5}} f8 f3", (4, 6, 6))
        neuron, trace, out = kit.Slow(), torch.zeros(()), []
        for x in XS:
            trace = 0.5 * trace + 0.5 * x
            out.append(neuron(net.sites[0].synapse(trace)))
        assert torch.equal(both(net), torch.stack(out))

    def test_observers_see_spikes_not_traces(self):
        net = kit.exact_net("c4{psp = {decay = 0.5}, gain = 2.0} f3", (4, 6, 6))
        seen = kit.Recorder()
        with net.observe(seen):
            net(XS)
        assert set(seen.spikes("0.0.0").unique().tolist()) == {0.0, 1.0}


class TestAmplitude:
    def test_gain(self):
        plain = kit.exact_net("c4 f3", (4, 6, 6))
        loud = kit.exact_net("c4{gain = 2.5} f3", (4, 6, 6))
        assert torch.equal(both(loud), 2.5 * both(plain))

    def test_trained_threshold(self):
        text = 'c4{amplitude = "v_th", gain = 2.0, unit = {name = "lif", v_th = 0.5, %s}} f3'
        fixed = kit.exact_net(text.replace(", %s", ""), (4, 6, 6))
        learned = kit.exact_net(text % 'learn = ["v_th"], per_channel = true', (4, 6, 6))
        assert torch.equal(both(fixed), both(learned))
        assert set(both(fixed).unique().tolist()) == {0.0, 1.0}
        with torch.no_grad():
            learned.sites[0].neuron.raw_v_th.mul_(2)
        assert set(both(learned).unique().tolist()) == {0.0, 2.0}
        both(learned).sum().backward()
        assert learned.sites[0].neuron.raw_v_th.grad.abs().sum() > 0
