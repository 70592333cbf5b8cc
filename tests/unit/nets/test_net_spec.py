"""Specs refuse what makes no sense, and answer questions about themselves."""

import pytest

from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.layer import Filter, LayerSpec, MaskSpec
from spikeloom.nets.spec.net import BlockSpec, FeedbackSpec, NetSpec
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.relu import Relu

CONV = LayerSpec("conv", 4)


class TestLayer:
    @pytest.mark.parametrize(
        ("kind", "out", "expected"),
        [
            ("conv", 4, (3, 1, 1, LIF())),
            ("conv_transpose", 4, (3, 1, 1, LIF())),
            ("linear", 4, (1, 1, 0, LIF())),
            ("identity", 0, (1, 1, 0, LIF())),
            ("avg_pool", 0, (2, 2, 0, None)),
            ("max_pool", 0, (2, 2, 0, None)),
            ("global_pool", 0, (1, 1, 0, None)),
            ("upsample", 0, (2, 1, 0, None)),
        ],
    )
    def test_defaults_depend_on_the_kind(self, kind, out, expected):
        layer = LayerSpec(kind, out)
        assert (layer.kernel, layer.stride, layer.padding, layer.unit) == expected

    def test_other_defaults_follow_the_kernel(self):
        assert LayerSpec("conv", 4, kernel=7).padding == 3
        assert LayerSpec("max_pool", kernel=3).stride == 3

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"kind": "dense", "out": 3}, "layer.kind: expected one of"),
            ({"kind": "conv"}, r"layer\.out: expected a width"),
            ({"kind": "avg_pool", "out": 3}, "expected no width for 'avg_pool', got 3"),
            ({"kind": "conv", "out": 3, "kernel": 0}, "kernel: expected 1 or more"),
            (
                {"kind": "linear", "out": 3, "kernel": 3},
                "kernel: expected none for 'linear', got 3",
            ),
            ({"kind": "conv", "out": 3, "stride": 0}, "stride: expected 1 or more"),
            ({"kind": "linear", "out": 3, "stride": 2}, "stride: expected 1 for 'linear', got 2"),
            ({"kind": "conv", "out": 3, "padding": -1}, "padding: expected 0 or more"),
            ({"kind": "global_pool", "padding": 1}, "padding: expected 0 for 'global_pool', got 1"),
            ({"kind": "avg_pool", "kernel": 3, "padding": 2}, "half the window, 1"),
            ({"kind": "conv", "out": 3, "output_padding": 1}, "output_padding"),
            ({"kind": "conv_transpose", "out": 3, "output_padding": 1}, "below the stride"),
            ({"kind": "conv", "out": 3, "dropout": 1.0}, "dropout"),
            ({"kind": "conv", "out": 3, "norm": "layer"}, "norm: expected"),
            ({"kind": "avg_pool", "norm": "weight"}, "norm: expected weights"),
            ({"kind": "conv", "out": 3, "amplitude": "big"}, "amplitude: expected unit or v_th"),
            ({"kind": "conv", "out": 3, "unit": Relu(), "amplitude": "v_th"}, "with a threshold"),
        ],
    )
    def test_refuses(self, fields, message):
        with pytest.raises(ConfigError, match=message):
            LayerSpec(**fields)

    def test_is_a_value(self):
        assert LayerSpec("conv", 4) == CONV and hash(LayerSpec("conv", 4)) == hash(CONV)


class TestBlock:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"layers": ()}, "1 layer or more"),
            ({"layers": (CONV,), "repeat": 0}, "1 pass or more"),
            ({"layers": (CONV,), "fit": "crop"}, "block.fit"),
            ({"layers": (CONV,), "join": "or"}, "block.join"),
            ({"layers": (CONV,), "join": "add", "tap": "end"}, "block.tap: expected input or"),
            ({"layers": (CONV,), "reads": "max"}, "block.reads: expected mean or step"),
            ({"layers": (CONV,), "shortcut": (CONV,)}, "a join beside a shortcut"),
            ({"layers": (CONV,), "tap": "first_unit"}, "a join beside a shortcut"),
            ({"layers": (LayerSpec("avg_pool"),), "join": "before_unit"}, "last layer with a unit"),
            (
                {"layers": (LayerSpec("avg_pool"),), "join": "add", "tap": "first_unit"},
                "a layer with a unit before the join",
            ),
            (
                {"layers": (CONV,), "join": "before_unit", "tap": "first_unit"},
                "a layer with a unit before the join",
            ),
        ],
    )
    def test_refuses(self, fields, message):
        with pytest.raises(ConfigError, match=message):
            BlockSpec(**fields)


class TestFeedback:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"delay": 0}, "1 step or more"),
            ({"layers": ()}, "1 layer or more"),
            ({"restrict": 0.0}, "a bound above 0"),
            (
                {"layers": (LayerSpec("upsample"),), "restrict": 1.0},
                "restrict: expected none beside a last layer without",
            ),
            (
                {"layers": (LayerSpec("upsample"),), "mask": MaskSpec(0.5)},
                "mask: expected none beside a last layer without",
            ),
            (
                {"layers": (LayerSpec("conv", 4, norm="weight"),), "mask": MaskSpec(0.5)},
                "mask: expected none beside weight standard",
            ),
        ],
    )
    def test_refuses(self, fields, message):
        with pytest.raises(ConfigError, match=message):
            FeedbackSpec(**({"source": 0, "target": 0, "layers": (CONV,)} | fields))

    @pytest.mark.parametrize("density", [0.0, 1.5])
    def test_mask_density(self, density):
        with pytest.raises(ConfigError, match="a share in"):
            MaskSpec(density)

    def test_filter_decay(self):
        with pytest.raises(ConfigError, match=r"a decay in \[0, 1\)"):
            Filter(1.0)


class TestNet:
    @pytest.mark.parametrize(
        "readout",
        [
            CONV,
            LayerSpec("linear", 3),
            LayerSpec("linear", 3, unit=None, dropout=0.5),
            LayerSpec("linear", 3, unit=None, gain=2.0),
            LayerSpec("linear", 3, unit=None, norm="weight"),
        ],
    )
    def test_readout_is_plain(self, readout):
        with pytest.raises(ConfigError, match="a linear layer with a width and a bias or none"):
            NetSpec((BlockSpec((CONV,)),), readout=readout)

    @pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0), (-1, 0)])
    def test_feedback_needs_its_blocks(self, source, target):
        edge = FeedbackSpec(source, target, (CONV,))
        with pytest.raises(
            ConfigError, match=r"net\.feedback\.0\.(source|target): expected a block from 0 to 0"
        ):
            NetSpec((BlockSpec((CONV,)),), feedback=(edge,))

    def test_no_spikes_behind_a_reader_of_the_mean(self):
        with pytest.raises(UnsupportedNet, match="no spiking block behind block 1"):
            parse('c4 c4{unit = "relu"} c4 f3')
        assert parse('c4 [c4{unit = "relu"}]{reads = "step"} c4 f3').tail is None

    @pytest.mark.parametrize(("source", "target"), [(1, 0), (0, 1)])
    def test_no_feedback_there_either(self, source, target):
        edge = f'{{source = {source}, target = {target}, layers = "c4"}}'
        with pytest.raises(UnsupportedNet, match=r"feedback\.0: expected no edge from or to block"):
            parse(f'{{feedback = [{edge}]}} c4 c4{{unit = "relu"}} f3')

    @pytest.mark.parametrize(
        ("text", "tail"),
        [
            ("c4 P f3", None),
            ('c4{unit = "relu"} c4 f3', None),
            ('c4 c4{unit = "relu"} f3', 1),
            ('c4 P c4{unit = "relu"} f4{unit = "relu"} f3', 2),
            ('c4{unit = "relu"} c4{unit = "relu"} f3', None),
            ("f3", None),
        ],
    )
    def test_tail(self, text, tail):
        assert parse(text).tail == tail

    def test_spiking(self):
        assert parse("c4 f3").spiking and not parse('c4{unit = "relu"} f3').spiking

    def test_with_unit(self):
        spec = parse('c4{unit = "relu"} P [c4]{join = "add", shortcut = "c4k1"} f3')
        units = [
            one.unit
            for block in spec.with_unit(IF()).blocks
            for one in (*block.layers, *block.shortcut)
        ]
        assert units == [IF(), None, IF(), IF()]

    def test_as_ann(self):
        text = (
            '{input_psp = {decay = 0.5}, feedback = [{source = 0, target = 0, layers = "c4"}]} '
            'c4{gain = 2.0, amplitude = "v_th", psp = {decay = 0.5}, norm = "batch_step"} P f3'
        )
        ann = parse(text).as_ann()
        layer = LayerSpec("conv", 4, unit=Relu(), norm="batch_step")
        assert ann == NetSpec(
            (BlockSpec((layer,)), BlockSpec((LayerSpec("avg_pool"),))),
            readout=LayerSpec("linear", 3, unit=None),
        )
