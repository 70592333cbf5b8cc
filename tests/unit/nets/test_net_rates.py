"""Steady rates against simulated ones, and effective weights against numpy."""

import netkit as kit
import numpy as np
import pytest
import torch

from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.module.weight import Standardised
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.nets.spec.presets import PRESETS
from spikeloom.neurons.integrate_fire import IF


class TestRates:
    @pytest.mark.parametrize("order", ["after_fire", "next_step"])
    @pytest.mark.parametrize("steps", [8, 64])
    def test_first_layer_within_one_spike(self, order, steps):
        net = SpikingNet(parse("c8 f3", unit=IF(order=order)), (2, 6, 6)).double()
        x = torch.rand(3, 2, 6, 6, dtype=torch.float64, generator=kit.generator())
        seen = net(x.expand(steps, *x.shape)).mean(0)
        assert (seen - net.run_rates(x)).abs().max() <= 1 / steps + 1e-9

    def test_deep_nets_converge(self):
        """An error of a layer grows by the norm of the next; the law stays 1 / T."""
        net = SpikingNet(parse("c4 P c4 f16 f3", unit=IF()), (2, 8, 8)).double()
        x = torch.rand(3, 2, 8, 8, dtype=torch.float64, generator=kit.generator())
        rates = net.run_rates(x)
        off = [(net(x.expand(T, *x.shape)).mean(0) - rates).abs().mean() for T in (32, 512)]
        assert off[1] < off[0] / 4 and off[1] < 0.02

    def test_gain_pool_join_and_low_pass(self):
        text = (
            '{input_psp = {decay = 0.5, scale = 0.25}} f6{unit = "if", gain = 0.5, '
            'psp = {decay = 0.75, scale = 0.5}} [f6{unit = "if"}]{join = "add"} f3'
        )
        net = SpikingNet(text, (5,)).double()
        x = torch.rand(2, 5, dtype=torch.float64)
        first, second = net.sites
        r = first.synapse(x * 0.5).clamp(0, 1) * 0.5 * 2
        expected = second.synapse(r).clamp(0, 1) + r
        torch.testing.assert_close(net.run_rates(x), expected)

    def test_fed_rates_enter_the_target(self):
        text = (
            "{feedback = [{source = 0, target = 0, layers = 'f6{unit = \"none\"}'}]} "
            'f6{unit = "if"} f3'
        )
        net = SpikingNet(text, (5,)).double()
        x, a = torch.rand(2, 5, dtype=torch.float64), torch.rand(2, 6, dtype=torch.float64)
        first, path = net.sites
        with torch.no_grad():
            first.synapse.weight.fill_(0.02)
            path.synapse.weight.fill_(0.05)
        expected = (first.synapse(x) + path.synapse(a)).clamp(0, 1)
        torch.testing.assert_close(net.run_rates(x, fed={0: a}), expected)
        assert not torch.equal(net.run_rates(x), expected)


def standardise_slowly(weight: np.ndarray, gain: np.ndarray, out_axis: int) -> np.ndarray:
    out = np.empty_like(weight)
    for channel in range(weight.shape[out_axis]):
        index = [slice(None)] * weight.ndim
        index[out_axis] = channel
        part = weight[tuple(index)]
        mean = part.sum() / part.size
        var = ((part - mean) ** 2).sum() / (part.size - 1)
        out[tuple(index)] = gain[channel] * (part - mean) / np.sqrt(part.size * var + 1e-4)
    return out


class TestStandardised:
    @pytest.mark.parametrize(
        ("kind", "shape", "axis"),
        [("conv", (3, 6, 6), 0), ("linear", (7,), 0), ("conv_transpose", (3, 6, 6), 1)],
    )
    def test_equals_numpy(self, kind, shape, axis):
        synapse = Synapse(LayerSpec(kind, 5, norm="weight"), shape, "x").double()
        assert synapse.out_axis == axis
        with torch.no_grad():
            synapse.weight.normal_(generator=kit.generator())
            synapse.shaping.gain.uniform_(0.5, 2.0, generator=kit.generator())
        expected = standardise_slowly(
            synapse.weight.detach().numpy(), synapse.shaping.gain.detach().flatten().numpy(), axis
        )
        np.testing.assert_allclose(synapse.effective_weight().detach().numpy(), expected, 1e-12)

    def test_gain_is_trained(self):
        weight = torch.randn(4, 9, generator=kit.generator(), requires_grad=True)
        scale = Standardised(weight, 0)
        (scale(weight) * torch.randn(4, 9, generator=kit.generator(1))).sum().backward()
        assert scale.gain.grad.abs().min() > 0 and weight.grad.abs().sum() > 0

    def test_the_map_uses_it(self):
        synapse = Synapse(LayerSpec("conv", 5, norm="weight"), (3, 6, 6), "x")
        with torch.no_grad():
            synapse.weight.normal_()
            synapse.bias.normal_()
        x = torch.rand(2, 3, 6, 6)
        expected = torch.nn.functional.conv2d(
            x, synapse.effective_weight(), synapse.bias, padding=1
        )
        assert torch.equal(synapse(x), expected)


@pytest.mark.parametrize(
    ("kind", "shape", "fields"),
    [
        ("linear", (2, 3, 3), {}),
        ("conv", (2, 7, 6), {"kernel": 3, "stride": 2}),
        ("conv", (2, 7, 6), {"norm": "weight"}),
        ("conv_transpose", (2, 4, 5), {"kernel": 4, "stride": 2, "output_padding": 1}),
    ],
)
def test_credit_goes_to_the_given_signal(kind, shape, fields):
    synapse = Synapse(LayerSpec(kind, 5, **fields), shape, "x").double()
    with torch.no_grad():
        synapse.weight.normal_(generator=kit.generator())
    draw = kit.generator(1)
    x, trace = (torch.rand(3, *shape, dtype=torch.float64, generator=draw) for _ in range(2))
    delta = torch.rand(synapse(x).shape, dtype=torch.float64, generator=draw)

    def gradients(value, inputs):
        return torch.autograd.grad((value * delta).sum(), inputs)

    x = x.requires_grad_()
    params = list(synapse.parameters())
    value = synapse.credited(x, trace)
    torch.testing.assert_close(value, synapse(x))
    at_x, *own = gradients(value, [x, *params])
    at_trace = gradients(synapse(trace), params)
    torch.testing.assert_close(at_x, gradients(synapse(x), [x])[0])
    for got, expected in zip(own, at_trace, strict=True):
        torch.testing.assert_close(got, expected)


def test_vgg11_ws_has_the_published_number_of_gains():
    net = PRESETS["vgg11-ws"].spec()
    with torch.device("meta"):
        plan = Plan(net, (3, 32, 32))
    gains = [value.numel() for name, value in plan.named_parameters() if name.endswith("gain")]
    assert sum(gains) == 64 + 128 + 2 * 256 + 4 * 512
