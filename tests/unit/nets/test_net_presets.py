"""The named nets against the numbers of the method cards."""

import netkit as kit
import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.presets import PRESETS, Preset, preset
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.relu import Relu

# name: unique layers, logical layers, parameters, MACs (methods/panda2020.md sec. 3, ottt.md)
CARD = {
    "vgg7": (7, 7, 4_353_728, 43_722_752),
    "vgg2x4": (4, 7, 4_243_136, 43_722_752),
    "vgg3x2-v1": (5, 7, 4_280_000, 43_722_752),
    "vgg3": (3, 3, 4_206_272, 5_974_016),
    "vgg5": (5, 5, 4_280_000, 24_848_384),
    "vgg3x2-v2": (4, 5, 4_243_136, 24_848_384),
    "vgg3x4": (4, 7, 4_243_136, 43_722_752),
    "vgg9-hybrid": (9, 9, 5_938_880, 194_717_696),
    "vgg8x2-hybrid": (8, 9, 5_349_056, 194_717_696),
    "resnet2": (4, 4, 2_382_172, 15_308_800),
    "resnet2x2": (4, 5, 2_382_172, 27_252_736),
    "resnet3": (5, 5, 2_393_836, 27_252_736),
    "convnn": (4, 4, None, None),
    "vgg16": (16, 16, 138_344_128, 15_470_264_320),
    "vgg13": (13, 13, None, 11_308_466_176),
    "vgg13-hybrid": (13, 13, None, 11_308_466_176),
    "vgg11x2": (11, 16, 113_899_200, None),
    "vgg11x2-3fc": (11, 16, None, None),
    "vgg11-ws": (9, 9, 9_228_362, None),
    "vgg11-f": (9, 9, 9_523_338, None),
    "preact-resnet18": (18, 18, None, None),
    "preact-resnet18-w16": (18, 18, None, None),
    "preact-resnet18-lif": (18, 18, None, None),
    "vgg11-dvs": (9, 9, None, None),
}
ROUND = {"preact-resnet18": 11.18e6, "preact-resnet18-lif": 11.18e6, "vgg11-dvs": 9.48e6}
"""Parameters that methods/dsr.md gives in three digits."""


def plan_of(spec, in_shape):
    with torch.device("meta"):
        return Plan(spec, in_shape)


def parameters(spec, in_shape):
    """Count all weights, the readout's too, without storing one."""
    plan = plan_of(spec, in_shape)
    features = torch.Size(plan.out_shape).numel()
    readout = 0 if spec.readout is None else (features + spec.readout.bias) * spec.classes
    return sum(value.numel() for value in plan.parameters()) + readout


def macs(spec, in_shape):
    """O^2 N k^2 M of every computation, from shapes."""
    plan = plan_of(spec, in_shape)
    total = torch.Size(plan.out_shape).numel() * (spec.classes or 0)
    for site in plan.sites:
        if site.spec.weighted:
            into, out = site.synapse.in_shape, site.synapse.out_shape
            places = out[1] * out[2] if len(out) == 3 else 1
            total += places * into[0] * site.spec.kernel_size**2 * out[0]
    return total


def depths(spec):
    weighted = [
        (block.repeat, sum(layer.weighted for layer in block.layers)) for block in spec.blocks
    ]
    readout = int(spec.readout is not None)
    unique = readout + sum(count for _, count in weighted)
    return unique, readout + sum(repeat * count for repeat, count in weighted)


def width(spec):
    """Return the number of classes, of a readout or of a last population."""
    return spec.classes or spec.blocks[-1].layers[0].out


@pytest.mark.parametrize("name", ROUND)
def test_nets_of_dsr(name):
    spec, shape = PRESETS[name].spec(), PRESETS[name].in_shape
    assert parameters(spec, shape) == pytest.approx(ROUND[name], rel=1e-3)
    units = [site.unit for site in plan_of(spec, shape).sites if site.unit]
    assert len(units) == (9 if "vgg" in name else 19)


def test_card_covers_every_preset():
    assert set(CARD) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
class TestEveryPreset:
    def test_depth(self, name):
        assert depths(preset(name)) == CARD[name][:2]

    def test_parameters(self, name):
        expected = CARD[name][2]
        assert expected in (None, parameters(preset(name), PRESETS[name].in_shape))

    def test_macs(self, name):
        expected = CARD[name][3]
        assert expected in (None, macs(preset(name), PRESETS[name].in_shape))

    def test_entry_is_a_described_value(self, name):
        entry = PRESETS[name]
        assert entry.name == name and hash(entry) == hash(entry)
        assert entry.text.startswith(f"{entry.body} ") and f"f{entry.classes}" in entry.text
        assert entry.note and entry.source.year in (2020, 2022)
        assert entry.classes == (1000 if entry.in_shape[1] > 48 else 10)
        assert width(preset(name)) == entry.classes

    def test_other_classes(self, name):
        assert width(preset(name, classes=7)) == 7

    def test_other_neurons_leave_relu_alone(self, name):
        def kinds(spec):
            return [layer.unit for block in spec.blocks for layer in block.layers]

        before, after = kinds(preset(name)), kinds(preset(name, unit=IF()))
        assert IF() in after
        for old, new in zip(before, after, strict=True):
            own = old is None or (old == Relu() and PRESETS[name].unit != Relu())
            assert new == (old if own else IF())


@pytest.mark.parametrize(
    ("classes", "channels", "count"),
    [(10, 3, 9_228_362), (100, 3, 9_274_532), (10, 2, 9_227_786), (11, 2, 9_228_299)],
)
def test_vgg11_ws_counts_of_ottt(classes, channels, count):
    assert parameters(preset("vgg11-ws", classes=classes), (channels, 32, 32)) == count


def test_compression_of_backres_is_in_the_convs_alone():
    plain, tied = (parameters(preset(name), (3, 32, 32)) for name in ("vgg7", "vgg2x4"))
    assert plain - tied == 3 * 64 * 64 * 9


def test_unknown_name_meets_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown network 'vgg2x5'; did you mean 'vgg2x4'\?"):
        preset("vgg2x5")


def test_panda_neurons_are_those_of_eq_2_to_4():
    unit = preset("vgg7").blocks[0].layers[0].unit
    assert isinstance(unit, LIF) and unit.order == "next_step" and unit.alpha == 0.95
    v, s = torch.zeros(2, 9, dtype=torch.float64)
    state = unit.init(v)
    for current in torch.rand(12, 9, dtype=torch.float64, generator=kit.generator()):
        v = 0.95 * v + current - s
        s = (v >= 1).to(v.dtype)
        out, state = unit.step(state, current, {})
        assert torch.equal(out, s)
    u = torch.tensor([-1.5, -0.5, 0.0, 0.25], dtype=torch.float64)
    expected = 0.3 * (1 - u.abs()).clamp(min=0)
    torch.testing.assert_close(unit.surrogate.slope(u, 1.0), expected)


def test_residual_skip_joins_the_next_current():
    net = kit.exact_net(preset("resnet2", unit=LIF()), (3, 8, 8))
    xs = kit.dyadic((3, 2, 3, 8, 8))
    first, second, third = kit.Slow(), kit.Slow(), kit.Slow()
    out = []
    for x in xs:
        a = first(net.sites[0].synapse(x))
        b = second(net.sites[1].synapse(a) + a)
        pooled = torch.nn.functional.avg_pool2d(b, 4)
        out.append(third(net.sites[4].synapse(pooled)))
    assert torch.equal(net(xs), torch.stack(out))


@pytest.mark.parametrize("name", [name for name in PRESETS if PRESETS[name].in_shape[1] == 32])
def test_small_presets_run(name):
    net = SpikingNet(PRESETS[name].spec(), (3, 32, 32)).eval()
    with torch.no_grad():
        out = net(torch.rand(2, 1, 3, 32, 32))
    assert out.shape == (2, 1, net.features) and out.isfinite().all()


def test_the_event_net_runs():
    net = SpikingNet(PRESETS["vgg11-dvs"].spec(), (2, 48, 48)).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 1, 2, 48, 48)).shape == (2, 1, 10)


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["mine"] = PRESETS["vgg7"]
    with pytest.raises(AttributeError):
        PRESETS["vgg7"].body = "c4"
    assert Preset("mine", "c4 P", "a test").spec().classes == 10
