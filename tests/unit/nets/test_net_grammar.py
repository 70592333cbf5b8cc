"""Texts and tables: round trips, and errors that say where and what instead."""

import netkit as kit
import pytest
from hypothesis import HealthCheck, given, settings

from spikeloom.base.errors import ConfigError, SpikeloomError
from spikeloom.nets.spec.codec import from_table, to_table
from spikeloom.nets.spec.grammar import parse, parse_path, write
from spikeloom.nets.spec.layer import Filter, LayerSpec
from spikeloom.nets.spec.net import BlockSpec, NetSpec
from spikeloom.nets.spec.presets import PRESETS
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.relu import Relu

EXAMPLES = settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@EXAMPLES
@given(kit.specs())
def test_text_round_trip(spec):
    assert parse(write(spec)) == spec


@EXAMPLES
@given(kit.specs())
def test_table_round_trip(spec):
    assert from_table(NetSpec, to_table(spec), "net") == spec


def test_an_initial_potential_round_trip():
    text = 'f4{unit = {name = "if", v_init = 0.5}} f2'
    spec = parse(text)
    assert spec.blocks[0].layers[0].unit == IF(v_init=0.5)
    assert "v_init = 0.5" in write(spec) and parse(write(spec)) == spec
    assert from_table(NetSpec, to_table(spec), "net") == spec


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip(name):
    spec = PRESETS[name].spec()
    assert parse(write(spec)) == spec


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("c64", LayerSpec("conv", 64)),
        ("c64k5s2p1", LayerSpec("conv", 64, kernel=5, stride=2, padding=1)),
        ("c64k5", LayerSpec("conv", 64, kernel=5, padding=2)),
        ("t8k4s2p1", LayerSpec("conv_transpose", 8, kernel=4, stride=2, padding=1)),
        ("f32", LayerSpec("linear", 32)),
        ("P", LayerSpec("avg_pool")),
        ("P3s1p1", LayerSpec("avg_pool", kernel=3, stride=1, padding=1)),
        ("P3", LayerSpec("avg_pool", kernel=3, stride=3)),
        ("M3s2", LayerSpec("max_pool", kernel=3, stride=2)),
        ("G", LayerSpec("global_pool")),
        ("U8", LayerSpec("upsample", kernel=8)),
        ("I", LayerSpec("identity")),
        ('c4{unit = "if", norm = "weight"}', LayerSpec("conv", 4, unit=IF(), norm="weight")),
        ('c4{unit = "none"}', LayerSpec("conv", 4, unit=None)),
        ("c4{unit = {name = 'lif', alpha = 0.9}}", LayerSpec("conv", 4, unit=LIF(alpha=0.9))),
        ("c4{psp = {decay = 0.5}}", LayerSpec("conv", 4, psp=Filter(0.5))),
        ("P{dropout = 0.5}", LayerSpec("avg_pool", dropout=0.5)),
    ],
)
def test_one_layer(text, layer):
    assert parse_path(text) == (layer,)
    assert parse(f"{text} f10").blocks == (BlockSpec((layer,)),)


class TestReadout:
    def test_last_f_is_the_heads(self):
        spec = parse("c4 f8 f10")
        assert spec.readout == LayerSpec("linear", 10, unit=None) and spec.classes == 10
        assert spec.blocks[-1].layers[0].out == 8

    def test_brackets_keep_it_in_the_body(self):
        spec = parse("c4 [f10]")
        assert spec.readout is None and spec.classes is None
        assert spec.blocks[-1] == BlockSpec((LayerSpec("linear", 10),))
        assert write(spec) == "c4 [f10]"

    def test_takes_bias_but_no_other_default(self):
        spec = parse("c4 f10", bias=False, norm="weight", gain=2.74, dropout=0.1)
        assert spec.readout == LayerSpec("linear", 10, bias=False, unit=None)
        assert parse("c4 f10{bias = false}").readout == spec.readout

    def test_refuses_fields_of_its_own(self):
        with pytest.raises(ConfigError, match="a last layer without dropout.*column 4"):
            parse("c4 f10{dropout = 0.5}")
        with pytest.raises(ConfigError, match="a last layer without unit.*column 4"):
            parse('c4 f10{unit = "lif"}')

    def test_readout_alone(self):
        assert parse("f10") == NetSpec((), readout=LayerSpec("linear", 10, unit=None))


class TestDefaults:
    def test_reach_layers_with_weights_and_identities(self):
        spec = parse('{default = {unit = "if", norm = "weight", bias = false}} c4 P I f8 f3')
        conv, pool, identity, linear = (block.layers[0] for block in spec.blocks)
        assert conv == LayerSpec("conv", 4, unit=IF(), norm="weight", bias=False)
        assert pool == LayerSpec("avg_pool")
        assert identity == LayerSpec("identity", unit=IF(), bias=False)
        assert linear.norm == "weight" and spec.readout is not None and not spec.readout.bias

    def test_order_of_precedence(self):
        text = '{default = {unit = "if"}} c4 c4{unit = "relu"} f3'
        first, second = parse(text, unit=LIF(), gain=2.0).blocks
        assert first.layers[0].unit == IF() and second.layers[0].unit == Relu()
        assert first.layers[0].gain == second.layers[0].gain == 2.0

    def test_reach_shortcuts_and_feedback(self):
        text = (
            '{default = {unit = "if"}, feedback = [{source = 0, target = 0, layers = "c4"}]} '
            '[c4]{join = "add", shortcut = "c4k1"} f3'
        )
        spec = parse(text)
        assert spec.blocks[0].shortcut == (LayerSpec("conv", 4, kernel=1, unit=IF()),)
        assert spec.feedback[0].layers == (LayerSpec("conv", 4, unit=None),)
        assert parse(write(spec)) == spec

    def test_shape_fields_are_no_defaults(self):
        with pytest.raises(ConfigError, match="unknown key 'kernel'"):
            parse("{default = {kernel = 5}} c4 f3")
        with pytest.raises(ConfigError, match="unknown key 'stride'"):
            parse("c4 f3", stride=2)


BROKEN = [
    ("", 1, "at least one layer"),
    ("   ", 4, "at least one layer"),
    ("c64 Q f10", 5, r"a layer \(c64"),
    ("c f10", 1, r"a layer \(c64"),
    ("c64 [c64", 5, r"'\]' to close"),
    ("c64 [] f10", 5, "1 layer or more"),
    ("c64]x2", 4, r"a layer"),
    ("[c64]x f10", 6, "a number of passes"),
    ("[c64]x0 f10", 1, "1 pass or more"),
    ("[c64]x2y f10", 8, "a blank after"),
    ("c64x4 f10", 4, "a blank after"),
    ("f16k3 f10", 1, "a plain width after f"),
    ("c8k3k5 f10", 1, "one kernel only"),
    ("c8 U2s3 f10", 4, "stride: expected 1"),
    ("c8 P3p2 f10", 4, "half the window"),
    ("c0 f10", 1, "a width of 1 or more"),
    ("c8k0 f10", 1, "kernel: expected 1 or more"),
    ("c8s0 f10", 1, "stride: expected 1 or more"),
    ("c8 c8{unit = 'lif' f10", 6, "'}' to close the table"),
    ("c8 c8{unit = lif} f10", 6, "a TOML inline table"),
    ("c8 c8{kernel = 3} c8k3{kernel = 3} f10", 19, "kernel in the layer's word"),
    ("c8{kind = 'linear'} f10", 1, "kind in the layer's word"),
    ("c8{out = 4} f10", 1, "out in the layer's word"),
    ("c8 [c8]x2{repeat = 3} f10", 4, "without layers or repeat"),
    ("c8 c8{dropout = 1.0} f10", 4, r"dropout: expected a share in \[0, 1\)"),
    ("c8 c8{gain = 'big'} f10", 4, "gain: expected a number"),
    ("c8 c8{bias = 1} f10", 4, "bias: expected true or false"),
    ("c8 c8{psp = 3} f10", 4, "psp: expected a table"),
    ("c8 G{norm = 'weight'} f10", 4, "norm: expected weights"),
    ("c8 [c8]{shortcut = 3} f10", 4, r"shortcut: expected a list"),
    ("c8 [c8]{shortcut = 'c8k1'} f10", 4, "a join beside a shortcut"),
    ("c8 [c8]{join = 'add', shortcut = 'c8q'} f10", 3, "a blank after"),
    (
        "c8 [c8]{join = 'add', tap = 'middle'} f10",
        4,
        "expected input or first_unit, got 'middle'; change it.",
    ),
    ("c8 [c8]{join = 'before_unit', tap = 'first_unit'} f10", 4, "before the join"),
    ("{default = 3} c8 f10", 1, "default: expected a table"),
    ("{feedback = 3} c8 f10", 1, "a list of feedback edges"),
    ("{feedback = [3]} c8 f10", 1, r"feedback\.0: expected a table"),
    ("{feedback = [{source = 0, layers = 'c8'}]} c8 f10", 1, "all required keys.*'target'"),
    (
        "{feedback = [{source = 0, target = 7, layers = 'c8'}]} c8 f10",
        55,
        "target: expected a block from 0 to 0",
    ),
    ("{feedback = [{source = 0, target = 0, layers = ''}]} c8 f10", 1, "1 layer or more"),
    ("{input_psp = {decay = 1.0}} c8 f10", 1, r"a decay in \[0, 1\)"),
]


@pytest.mark.parametrize(("text", "column", "what"), BROKEN, ids=[text for text, *_ in BROKEN])
def test_every_error_names_its_column(text, column, what):
    with pytest.raises(SpikeloomError, match=rf"(?s){what}") as error:
        parse(text)
    assert f"at column {column} of" in str(error.value)
    assert ",," not in str(error.value)


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ("c8{unit = 'lff'} f3", "unit 'lff'", "lif"),
        ("c8{unit = {name = 'lif', alfa = 0.5}} f3", "key 'alfa'", "alpha"),
        (
            "c8{unit = {name = 'if', surrogate = 'triangel'}} f3",
            "surrogate 'triangel'",
            "triangle",
        ),
        ("c8{drpout = 0.5} f3", "key 'drpout'", "dropout"),
        ("[c8]x2{fitt = 'drop'} f3", "key 'fitt'", "fit"),
        ("{defaults = {}} c8 f3", "key 'defaults'", "default"),
        ("{default = {unitt = 'if'}} c8 f3", "key 'unitt'", "unit"),
        ("{feedback = [{sorce = 0, target = 0, layers = 'c8'}]} c8 f3", "key 'sorce'", "source"),
    ],
)
def test_wrong_names_meet_the_nearest(text, wrong, right):
    with pytest.raises(ConfigError, match=f"unknown {wrong}; did you mean '{right}'"):
        parse(text)


class TestTables:
    def test_hold_only_what_differs(self):
        assert to_table(LayerSpec("conv", 8)) == {"kind": "conv", "out": 8}
        assert to_table(LayerSpec("conv", 8, kernel=5)) == {"kind": "conv", "out": 8, "kernel": 5}
        assert to_table(LayerSpec("max_pool", kernel=3)) == {"kind": "max_pool", "kernel": 3}
        assert to_table(LIF(alpha=0.9)) == {"name": "lif", "alpha": 0.9}
        assert to_table(LayerSpec("linear", 2, unit=None))["unit"] == "none"

    def test_integers_become_floats_where_wanted(self):
        layer = from_table(LayerSpec, {"kind": "conv", "out": 2, "gain": 2}, "x")
        assert layer.gain == 2.0 and isinstance(layer.gain, float)

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (3, "x: expected a table, got 3"),
            ({"kind": "conv", "out": True}, "x.out: expected a whole number, got True"),
            ({"kind": "conv", "out": 2, "unit": 3}, "x.unit: expected a table"),
            ({"out": 2}, "x: expected all required keys"),
            ({"kind": "conv", "out": 2, "unit": {"name": "if", "learn": "v_th"}}, "expected a lis"),
            (
                {"kind": "conv", "out": 2, "unit": {"name": "if", "v_th": 0.0}},
                "x.unit.v_th: expected a threshold",
            ),
        ],
    )
    def test_errors_carry_their_path(self, table, message):
        with pytest.raises(ConfigError, match=message):
            from_table(LayerSpec, table, "x")


@pytest.mark.parametrize(
    "text, message",
    [
        ("c8{norm = 'wieght'} f3", "batch_step, weight, got 'wieght'; write 'weight'."),
        ("[c8]x2{fit = 'dropp'} f3", "none, drop, topk, average, got 'dropp'; write 'drop'."),
    ],
)
def test_wrong_choices_meet_the_nearest(text, message):
    with pytest.raises(ConfigError, match=f"expected one of .*{message}"):
        parse(text)
