"""A user's own Sequential: same outputs, same parameter objects, refusals by position."""

import copy

import netkit as kit
import pytest
import torch
from torch import nn

from spikeloom.base.errors import ShapeError, UnsupportedNet
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.relu import Relu

XS = kit.dyadic((4, 3, 2, 8, 8))


def over_time(module, xs):
    """Run the user's own modules: neurons over the train, the rest at each step."""
    for part in module:
        if isinstance(part, nn.Sequential):
            xs = over_time(part, xs)
        elif isinstance(part, Neuron):
            xs = part(xs)
        else:
            xs = torch.stack([part(x) for x in xs])
    return xs


def exact(module):
    with torch.no_grad():
        for value in module.double().parameters():
            loud = 4 if value.dim() > 1 else 1
            value.copy_((value * 256 * loud).round() / 256)
    return module


def neuron(**fields):
    return Neuron(LIF(**fields))


def builders():
    torch.manual_seed(0)
    return {
        "conv": nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), neuron(), nn.Flatten()),
        "no padding": nn.Sequential(nn.Conv2d(2, 4, 5, stride=2), neuron(), nn.Flatten()),
        "no bias": nn.Sequential(nn.Conv2d(2, 4, (3, 3), bias=False), neuron(), nn.Flatten()),
        "transposed": nn.Sequential(
            nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1),
            neuron(),
            nn.Flatten(),
        ),
        "pools": nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            neuron(),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 4, 3, padding=1),
            neuron(v_th=0.5),
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(4, 4, 1),
            neuron(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
            neuron(),
        ),
        "nested": nn.Sequential(
            nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), neuron()),
            nn.Sequential(nn.Sequential(nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(64, 6)),
            neuron(),
        ),
        "hybrid": nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), neuron(), nn.Flatten()
        ),
        "relu behind spikes": nn.Sequential(
            nn.Conv2d(2, 4, 3), neuron(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()
        ),
        "neurons first": nn.Sequential(neuron(), nn.Conv2d(2, 4, 3), neuron(), nn.Flatten()),
        "two in a row": nn.Sequential(
            nn.Conv2d(2, 4, 3), neuron(), neuron(v_th=0.5), nn.ReLU(), nn.Flatten()
        ),
        "unit on a pool": nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.AvgPool2d(2), neuron(), nn.Flatten()
        ),
        "learned": nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            Neuron(LIF(learn=("v_th",), per_channel=True), 4, 2),
            nn.Flatten(),
            nn.Linear(256, 5),
            Neuron(LIF(learn=("v_th", "alpha"))),
        ),
        "identities": nn.Sequential(
            nn.Identity(), nn.Conv2d(2, 4, 3), nn.Sequential(), nn.Identity(), neuron(),
            nn.UpsamplingNearest2d(scale_factor=2), nn.Flatten(),
        ),
        "shared neuron module": nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), part := neuron(), nn.Conv2d(6, 6, 1), part,
            nn.Flatten(),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", builders())
def test_outputs_are_the_modules_own(name):
    module = exact(builders()[name])
    net = SpikingNet.from_torch(module, (2, 8, 8))
    expected = over_time(module, XS)
    assert expected.unique().numel() > 1
    assert torch.equal(net.run_by_time(XS), expected)
    assert torch.equal(net.run_by_layer(XS), expected)


def test_batch_norm_in_training_and_evaluation():
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        neuron(),
        nn.Flatten(),
        nn.Linear(144, 6),
        nn.BatchNorm1d(6, affine=False),
        neuron(),
    ).double()
    twin = copy.deepcopy(module)
    net = SpikingNet.from_torch(module, (2, 8, 8))
    torch.testing.assert_close(net.run_by_time(XS), over_time(twin, XS))
    for ours, theirs in zip(module.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)  # running statistics too
    net.eval()
    assert not module[1].training  # the user's own module follows
    torch.testing.assert_close(net.run_by_layer(XS), over_time(twin.eval(), XS))


def test_dropout_is_held_over_time():
    module = exact(nn.Sequential(nn.Linear(5, 64), neuron(), nn.Dropout(0.5)))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.fill_(1.0)
    net = SpikingNet.from_torch(module, (5,))
    out = net(kit.dyadic((3, 2, 5)), rng=kit.rng_for(2))
    assert set(out.unique().tolist()) == {0.0, 2.0} and torch.equal(out[0], out[2])
    net.eval()
    assert torch.equal(net(kit.dyadic((3, 2, 5))), torch.ones(3, 2, 64, dtype=torch.float64))


class TestSharing:
    def module(self):
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            Neuron(LIF(learn=("v_th",))),
            nn.Flatten(),
            nn.Linear(256, 10),
        )

    def test_parameters_are_the_same_objects(self):
        module = self.module()
        net = SpikingNet.from_torch(module, (2, 8, 8))
        own = {id(value) for value in module[:-1].parameters()}
        assert {id(value) for value in net.parameters()} == own
        site = net.sites[0]
        assert site.synapse.weight is module[0].weight and site.synapse.bias is module[0].bias
        assert site.norm is module[1] and site.neuron is module[2]
        assert {id(value) for value in net.buffers()} == {id(v) for v in module.buffers()}

    def test_gradients_reach_the_users_modules(self):
        module = self.module()
        net = SpikingNet.from_torch(module, (2, 8, 8))
        before = module[0].weight.detach().clone()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net(torch.rand(3, 4, 2, 8, 8)).sum().backward()
        optimizer.step()
        assert not torch.equal(module[0].weight, before)

    def test_last_linear_is_the_heads(self):
        module = self.module()
        net = SpikingNet.from_torch(module, (2, 8, 8))
        assert net.spec.classes == 10 and net.last_linear is module[-1]
        assert net.features == 256
        head = Softmax.of(net)
        assert head.site.synapse.weight is module[-1].weight
        everything = [*net.parameters(), *head.parameters()]
        assert len({id(value) for value in everything}) == len(everything)
        assert {id(value) for value in everything} == {id(v) for v in module.parameters()}

    def test_last_linear_with_neurons_stays(self):
        module = nn.Sequential(nn.Linear(5, 10), neuron())
        net = SpikingNet.from_torch(module, (5,))
        assert net.spec.readout is None and net.last_linear is None

    def test_readout_alone(self):
        module = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
        net = SpikingNet.from_torch(module, (2, 8, 8))
        head = Softmax.of(net).double()
        xs = XS.clone()
        expected = module.double()(xs[0])
        torch.testing.assert_close(head.logits(net(xs)[0]), expected)

    def test_tied_layers_stay_tied(self):
        conv = nn.Conv2d(2, 2, 3, padding=1)
        module = nn.Sequential(conv, neuron(), conv, neuron())
        net = SpikingNet.from_torch(module, (2, 8, 8))
        assert net.sites[0].synapse.weight is net.sites[1].synapse.weight
        assert len(list(net.parameters())) == 2

    def test_mode_is_taken_over(self):
        assert SpikingNet.from_torch(self.module(), (2, 8, 8)).training
        assert not SpikingNet.from_torch(self.module().eval(), (2, 8, 8)).training

    def test_frozen_stays_frozen(self):
        module = self.module()
        module[0].weight.requires_grad_(False)
        net = SpikingNet.from_torch(module, (2, 8, 8))
        assert not net.sites[0].synapse.weight.requires_grad

    def test_copies_are_apart(self):
        net = SpikingNet.from_torch(self.module(), (2, 8, 8))
        twin = copy.deepcopy(net)
        assert twin.last_linear is not net.last_linear
        assert twin.sites[0].synapse.weight is not net.sites[0].synapse.weight
        assert twin.sites[0].norm is twin.plan.norms["0_0_0"]

    def test_spec_says_what_the_module_says(self):
        net = SpikingNet.from_torch(
            nn.Sequential(nn.Conv2d(2, 4, 5, 2, 1), nn.BatchNorm2d(4), nn.ReLU()), (2, 8, 8)
        )
        (layer,) = net.spec.blocks[0].layers
        assert (layer.kernel, layer.stride, layer.padding) == (5, 2, 1)
        assert layer.norm == "batch_step" and layer.unit == Relu()


class MyConv(nn.Conv2d):
    pass


def hooked():
    conv = nn.Conv2d(2, 4, 3)
    conv.register_forward_hook(lambda *_: None)
    return conv


def spectral():
    return nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 4, 3))


C = nn.Conv2d
REFUSED = [
    (lambda: [], r"at least one layer"),
    (lambda: [nn.LeakyReLU()], r"module 0 \(LeakyReLU\): expected one of AdaptiveAvgPool2d"),
    (lambda: [C(2, 4, 3), nn.Sequential(nn.Tanh())], r"module 1\.0 \(Tanh\)"),
    (lambda: [MyConv(2, 4, 3)], r"module 0 \(MyConv\)"),
    (lambda: [hooked()], r"module 0 \(Conv2d\): expected a module without hooks"),
    (lambda: [spectral()], r"module 0 \(Conv2d\): expected a weight that is the same at every"),
    (lambda: [nn.LazyConv2d(4, 3)], r"0 \(LazyConv2d\): expected a layer with its sizes"),
    (lambda: [nn.RNN(8, 4)], r"0 \(RNN\): expected one of"),
    (lambda: [nn.Dropout2d()], r"0 \(Dropout2d\): expected one of"),
    (lambda: [nn.GroupNorm(2, 2)], r"0 \(GroupNorm\).*no layer of spikeloom computes it"),
    (lambda: [bn := nn.BatchNorm2d(2), bn], r"0 \(BatchNorm2d\): expected a norm at one place"),
    (lambda: [C(2, 4, 3, groups=2)], r"module 0 \(Conv2d\): expected groups = 1, got 2"),
    (lambda: [C(2, 4, 3, dilation=2)], "dilation = 1"),
    (lambda: [C(2, 4, 3, padding=1, padding_mode="reflect")], "padding_mode 'zeros'"),
    (lambda: [C(2, 4, (3, 1))], r"a square kernel, got \(3, 1\)"),
    (lambda: [C(2, 4, 3, stride=(1, 2))], "a square stride"),
    (lambda: [C(2, 4, 3, padding=(1, 0))], "a square padding"),
    (lambda: [C(2, 4, 3, padding="same")], "padding as a number, got same"),
    (lambda: [nn.AvgPool2d(2, ceil_mode=True)], "ceil_mode"),
    (lambda: [nn.AvgPool2d(2, divisor_override=3)], "divisor_override"),
    (lambda: [nn.AvgPool2d(2, padding=1, count_include_pad=False)], "count_include_pad"),
    (lambda: [nn.MaxPool2d(2, return_indices=True)], "return_indices"),
    (lambda: [nn.MaxPool2d(2, dilation=2)], "dilation = 1"),
    (lambda: [nn.AdaptiveAvgPool2d(2)], "output_size = 1"),
    (lambda: [nn.Upsample(scale_factor=2, mode="bilinear")], "mode 'nearest'"),
    (lambda: [nn.Upsample(scale_factor=1.5)], "one whole scale_factor"),
    (lambda: [nn.Upsample(size=16)], "one whole scale_factor"),
    (lambda: [nn.Flatten(0)], r"axes \(1, -1\), got \(0, -1\)"),
    (lambda: [C(2, 4, 3), nn.Flatten(), nn.ReLU()], r"2 \(ReLU\): expected a Linear after Flatten"),
    (
        lambda: [C(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)],
        "track_running_stats, got False",
    ),
    (lambda: [C(2, 4, 3), nn.BatchNorm1d(4)], r"1 \(BatchNorm1d\): expected BatchNorm2d for"),
    (lambda: [nn.Linear(8, 4), neuron()], r"0 \(Linear\): expected Flatten between maps"),
]


def test_no_advice_to_write_a_text_that_does_not_exist():
    for layers in (
        [nn.Conv1d(2, 4, 3)],
        [C(2, 4, 3), nn.GroupNorm(2, 4)],
        [C(2, 4, 3, groups=2)],
        [C(2, 4, (1, 5))],
    ):
        with pytest.raises(UnsupportedNet, match="train your module as it is, with Neuron") as info:
            SpikingNet.from_torch(nn.Sequential(*layers, neuron()), (2, 8, 8))
        assert "as text" not in str(info.value)


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_refuses_by_position(build, message):
    with pytest.raises(UnsupportedNet, match=message):
        SpikingNet.from_torch(nn.Sequential(*build()), (2, 8, 8))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: [C(3, 4, 3)], r"module 0 \(Conv2d\): expected a weight \(4, 2, 3, 3\)"),
        (lambda: [C(2, 4, 3), nn.BatchNorm2d(5)], r"expected a norm of channels \(4,\)"),
        (lambda: [nn.Flatten(), nn.Linear(9, 4), neuron()], r"module 1 \(Linear\).*\(4, 128\)"),
        (lambda: [C(2, 4, 9)], r"module 0 \(Conv2d\).*at least 9x9, got 8x8"),
        (
            lambda: [C(2, 4, 3), Neuron(LIF(learn=("v_th",), per_channel=True), 3, 2)],
            r"raw_v_th has shape \(4, 1, 1\)",
        ),
    ],
)
def test_refuses_sizes(build, message):
    with pytest.raises(ShapeError, match=message):
        SpikingNet.from_torch(nn.Sequential(*build()), (2, 8, 8))
