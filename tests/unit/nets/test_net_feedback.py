"""Edges back in time against loops written out by hand; wiring masks and bounded norms."""

import netkit as kit
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spikeloom.base.errors import ConfigError
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.weight import Masked, Restricted
from spikeloom.nets.ops import Ops
from spikeloom.nets.spec.layer import LayerSpec, MaskSpec
from spikeloom.nets.spec.net import BlockSpec, FeedbackSpec, NetSpec

XS = kit.dyadic((6, 3, 4, 8, 8), seed=3)


def edge(source, target, layers, **more):
    fields = f"source = {source}, target = {target}, layers = '{layers}'"
    fields += "".join(f", {key} = {value}" for key, value in more.items())
    return f"{{feedback = [{{{fields}}}]}}"


def named(net):
    return {site.name: site.synapse for site in net.sites}


class TestByHand:
    @pytest.mark.parametrize("delay", [1, 2, 4])
    def test_delay(self, delay):
        path = edge(1, 0, 'c4{unit = "none", bias = false}', delay=delay)
        net = kit.exact_net(f"{path} c4 c4 f3", (4, 8, 8))
        maps, first, second = named(net), kit.Slow(), kit.Slow()
        sent, out = [], []
        for t, x in enumerate(XS):
            current = maps["0.0.0"](x)
            if t >= delay:
                current = current + maps["feedback0.0.0"](sent[t - delay])
            sent.append(second(maps["1.0.0"](first(current))))
            out.append(sent[-1])
        assert torch.equal(net.run_by_time(XS), torch.stack(out).flatten(2))
        assert not torch.equal(net.run_by_time(XS)[delay], self.without(net)[delay])

    def without(self, net):
        with torch.no_grad():
            named(net)["feedback0.0.0"].weight.zero_()
        return net.run_by_time(XS)

    @pytest.mark.parametrize("delay", [1, 3])
    def test_an_edge_sends_nothing_before_it_has_something_to_send(self, delay):
        """Not even its bias, whether a step runs alone or a held input is taken once."""
        path = edge(0, 0, 'f5{unit = "none"}', delay=delay)
        net = kit.exact_net(f"{path} f5 f3", (4,))
        maps = self.biased(net, "feedback0.0.0")
        for xs in (XS[:, :, :, 0, 0], XS[:1, :, :, 0, 0].expand(6, -1, -1)):
            layer, sent = kit.Slow(), []
            for t, x in enumerate(xs):
                current = maps["0.0.0"](x)
                if t >= delay:
                    current = current + maps["feedback0.0.0"](sent[t - delay])
                sent.append(layer(current))
            assert torch.equal(net(xs), torch.stack(sent))

    def test_a_bias_from_the_first_step_on_belongs_to_the_target(self):
        """snnTorch's RLeaky and Norse's recurrent cells apply the edge's map to zeros at t = 0."""
        xs = XS[:, :, :, 0, 0]
        net = kit.exact_net(edge(0, 0, 'f5{unit = "none"}') + " f5 f3", (4,))
        maps = self.biased(net, "feedback0.0.0")
        layer, last, spikes = kit.Slow(), torch.zeros(3, 5, dtype=xs.dtype), []
        for x in xs:
            last = layer(maps["0.0.0"](x) + maps["feedback0.0.0"](last))
            spikes.append(last)
        theirs = torch.stack(spikes)
        assert not torch.equal(net(xs), theirs)
        other = kit.exact_net(edge(0, 0, 'f5{unit = "none", bias = false}') + " f5 f3", (4,))
        with torch.no_grad():
            for name, synapse in named(other).items():
                synapse.weight.copy_(maps[name].weight)
            shifted = maps["0.0.0"].bias + maps["feedback0.0.0"].bias
            named(other)["0.0.0"].bias.copy_(shifted)
        assert torch.equal(other(xs), theirs)

    def biased(self, net, name):
        maps = named(net)
        with torch.no_grad():
            maps[name].bias.copy_(kit.dyadic(maps[name].bias.shape, seed=7))
        return maps

    def test_vgg_f_path_upsamples_the_last_spikes(self):
        """VGG-11-F: nearest upsampling, then a conv, onto the first current."""
        net = kit.exact_net(
            f"{edge(4, 0, 'U4 c4{unit = {}}')} c4 P c6 P c6 f3".replace(
                "unit = {}", 'unit = "none"'
            ),
            (4, 8, 8),
        )
        maps = named(net)
        one, two, three = kit.Slow(), kit.Slow(), kit.Slow()
        last, out = None, []
        for x in XS:
            current = maps["0.0.0"](x)
            if last is not None:
                up = F.interpolate(last, scale_factor=4, mode="nearest")
                path = maps["feedback0.1.0"]
                current = current + F.conv2d(up, path.weight, path.bias, padding=1)
            h = F.avg_pool2d(one(current), 2)
            h = F.avg_pool2d(two(maps["2.0.0"](h)), 2)
            last = three(maps["4.0.0"](h))
            out.append(last)
        assert torch.equal(net.run_by_time(XS), torch.stack(out).flatten(2))

    def test_transposed_path(self):
        path = edge(2, 0, 't4k4s2p1{unit = "none"}')
        net = kit.exact_net(f"{path} c4 P c6 f3", (4, 8, 8))
        maps, one, two = named(net), kit.Slow(), kit.Slow()
        last, out = None, []
        for x in XS:
            current = maps["0.0.0"](x)
            if last is not None:
                way = maps["feedback0.0.0"]
                current = current + F.conv_transpose2d(last, way.weight, way.bias, 2, 1)
            last = two(maps["2.0.0"](F.avg_pool2d(one(current), 2)))
            out.append(last)
        assert torch.equal(net.run_by_time(XS), torch.stack(out).flatten(2))

    def test_lateral_recurrence(self):
        path = edge(0, 0, 'f8{unit = "none", bias = false}', mask="{self_connections = false}")
        net = kit.exact_net(f"{path} f8 f3", (5,))
        xs, neuron = kit.dyadic((6, 3, 5)), kit.Slow()
        maps = named(net)
        weight = maps["feedback0.0.0"].weight * (1 - torch.eye(8))
        last, out = torch.zeros(3, 8, dtype=torch.float64), []
        for x in xs:
            last = neuron(maps["0.0.0"](x) + last @ weight.t())
            out.append(last)
        assert torch.equal(net.run_by_time(xs), torch.stack(out))

    def test_path_with_neurons_and_gain(self):
        path = edge(0, 0, 'c4{unit = "lif", gain = 0.5}')
        net = kit.exact_net(f"{path} c4{{gain = 2.0}} f3", (4, 8, 8))
        maps, neuron, on_path = named(net), kit.Slow(), kit.Slow()
        last, out = None, []
        for x in XS:
            current = maps["0.0.0"](x)
            if last is not None:
                current = current + 0.5 * on_path(maps["feedback0.0.0"](last))
            last = 2.0 * neuron(current)
            out.append(last)
        assert torch.equal(net.run_by_time(XS), torch.stack(out).flatten(2))

    def test_enters_after_the_norm(self):
        spec = NetSpec(
            (BlockSpec((LayerSpec("conv", 4, norm="batch_step", unit=None),)),),
            feedback=(FeedbackSpec(0, 0, (LayerSpec("conv", 4, kernel=1, unit=None),)),),
        )
        net = SpikingNet(spec, (4, 8, 8)).double().eval()
        with torch.no_grad():
            net.sites[0].norm.weight.zero_()
            net.sites[0].norm.bias.fill_(1.0)
            net.sites[1].synapse.weight.fill_(0.125)
        out = net.run_by_time(XS)  # 1, then 1 + 4/8 of the last, and so on
        assert out[0].unique().tolist() == [1.0] and out[1].unique().tolist() == [1.5]

    def test_constant_input_is_still_computed_once(self):
        net = kit.exact_net(f"{edge(1, 0, 'c4')} c4 c4 f3", (4, 8, 8))
        calls: dict[str, int] = {}

        def synapse(visit, x):
            calls[visit.name] = calls.get(visit.name, 0) + 1
            return visit.synapse(x)

        xs = XS[0].expand(5, *XS[0].shape)
        out = net.run_by_time(xs, Ops(synapse=synapse))
        assert calls == {"0.0.0": 1, "1.0.0": 5, "feedback0.0.0": 4}
        assert torch.equal(out, net.run_by_time(xs.clone()))

    def test_from_the_last_pass_into_the_first(self):
        net = kit.exact_net(
            f"{edge(0, 0, 'c4{unit = {}}')} [c4]x2 f3".replace("unit = {}", 'unit = "none"'),
            (4, 8, 8),
        )
        maps, one, two = named(net), kit.Slow(), kit.Slow()
        last, out = None, []
        for x in XS:
            current = maps["0.0.0"](x)
            if last is not None:
                current = current + maps["feedback0.0.0"](last)
            last = two(maps["0.0.0"](one(current)))
            out.append(last)
        assert torch.equal(net.run_by_time(XS), torch.stack(out).flatten(2))


class TestGradient:
    def gradient(self, detach):
        path = edge(0, 0, "c4", detach=str(detach).lower())
        net = kit.exact_net(f"{path} c4 f3", (4, 8, 8))
        out = net.run_by_time(XS[:2])
        out[1].sum().backward()
        return net.sites[0].synapse.weight.grad, net.sites[1].synapse.weight.grad

    def test_detach_cuts_the_edge_but_trains_it(self):
        full, path = self.gradient(False)
        cut, cut_path = self.gradient(True)
        assert not torch.equal(full, cut)
        assert torch.equal(path, cut_path) and path.abs().sum() > 0

    def test_zero_starts_without_feedback_and_learns_it(self):
        net = SpikingNet(f"{edge(0, 0, 'f8', zero='true')} f8 f3", (5,))
        xs = 2 * torch.rand(6, 4, 5, generator=kit.generator())
        assert torch.equal(net(xs), SpikingNet("f8 f3", (5,))(xs))
        net(xs).square().sum().backward()
        weight = net.sites[-1].synapse.weight
        assert bool((weight == 0).all()) and bool((weight.grad != 0).any())
        for layers, more in (("f8", {"restrict": 0.5}), ('f8{norm = "weight"}', {}), ("U1", {})):
            with pytest.raises(
                ConfigError, match=r"feedback\.0\.zero: expected last weights that are"
            ):
                SpikingNet(f"{edge(0, 0, layers, zero='true', **more)} f8 f3", (5,))

    def test_values_pass_through_carry(self):
        net = kit.exact_net(
            f"{edge(0, 0, 'c4{unit = {}}')} c4 f3".replace("{}", '"lif"'), (4, 8, 8)
        )
        names = []

        def carry(visit, value):
            names.append(visit.name)
            return value

        net.run_by_time(XS[:2], Ops(carry=carry))
        assert names == ["0.0.0", "feedback0.0.0", "feedback0.0.0", "0.0.0", "feedback0.0.0"]


class TestMask:
    def test_density_and_gradient(self):
        weight = torch.nn.Parameter(torch.ones(40, 50))
        mask = Masked(weight, MaskSpec(0.3, seed=5))
        kept = mask(weight)
        assert abs(kept.mean().item() - 0.3) < 0.05
        kept.sum().backward()
        assert torch.equal(weight.grad, kept.detach())

    def test_same_seed_same_wiring(self):
        weight = torch.ones(9, 9)
        masks = [Masked(weight, MaskSpec(0.5, seed)).mask for seed in (1, 1, 2)]
        assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])

    def test_no_self_connections(self):
        mask = Masked(torch.ones(6, 6, 3, 3), MaskSpec(self_connections=False)).mask
        assert torch.equal(mask[:, :, 1, 1], 1 - torch.eye(6))

    def test_is_saved_with_the_net(self):
        text = f"{edge(0, 0, 'f8', mask='{density = 0.5}')} f8 f3"
        state = SpikingNet(text, (5,)).state_dict()
        assert any(name.endswith("shaping.mask") for name in state)


class TestRestrict:
    def norm(self, net):
        weight = net.sites[-1].synapse.effective_weight().detach()
        return np.linalg.norm(weight.flatten(1).double().numpy(), 2)

    def test_norm_stays_bounded_while_training(self):
        net = SpikingNet(f"{edge(0, 0, 'f16', restrict=0.5)} f16 f3", (5,))
        assert self.norm(net) < 0.5 * 1.1
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        for step in range(20):
            optimizer.zero_grad()
            out = net.run_by_time(torch.rand(4, 8, 5, generator=kit.generator(step)))
            (-out.sum()).backward()
            optimizer.step()
        net.run_by_time(torch.rand(4, 8, 5))
        assert self.norm(net) < 0.5 * 1.1

    def test_starts_at_the_norm_of_the_weight(self):
        weight = torch.randn(12, 20, generator=kit.generator())
        bound = Restricted(weight, 1e6)
        torch.testing.assert_close(bound.eval()(weight), weight)
        exact = np.linalg.norm(weight.numpy(), 2)
        assert abs(bound.gamma.item() / exact - 1) < 0.1

    def test_evaluation_does_not_move(self):
        weight = torch.randn(12, 20, generator=kit.generator())
        bound = Restricted(weight, 0.5).eval()
        before = bound.u.clone()
        assert torch.equal(bound(weight), bound(weight)) and torch.equal(bound.u, before)
        bound.train()(weight)
        assert not torch.equal(bound.u, before)

    def test_a_frobenius_norm_is_bounded_exactly_and_only_above(self):
        options = "restrict = 0.5, restrict_norm = 'frobenius'"
        text = f"{{feedback = [{{source = 0, target = 0, layers = 'f16', {options}}}]}} f16 f3"
        net = SpikingNet(text, (5,)).double()
        synapse = net.sites[-1].synapse
        weight = synapse.effective_weight()
        torch.testing.assert_close(weight.norm().item(), 0.5)
        small = synapse.weight.detach() / synapse.weight.norm() / 4
        synapse.weight.data.copy_(small)
        assert torch.equal(synapse.effective_weight(), small)
        synapse.effective_weight().sum().backward()
        assert torch.equal(synapse.weight.grad, torch.ones_like(small))

    def test_with_a_mask(self):
        text = f"{edge(0, 0, 'f16', restrict=0.5, mask='{density = 0.5}')} f16 f3"
        net = SpikingNet(text, (5,))
        weight = net.sites[-1].synapse.effective_weight()
        assert 0.3 < (weight == 0).float().mean() < 0.7
        assert self.norm(net) < 0.5 * 1.1

    def test_state_goes_with_the_weights(self):
        text = f"{edge(0, 0, 'f16', restrict=0.5)} f16 f3"
        first, second = (SpikingNet(text, (5,), seed=seed) for seed in (1, 2))
        second.load_state_dict(first.state_dict())
        xs = torch.rand(4, 3, 5)
        assert torch.equal(first.eval().run_by_time(xs), second.eval().run_by_time(xs))
