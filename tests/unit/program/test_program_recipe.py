"""Recipes: what is accepted, and in which words the rest is refused."""

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from spikeloom.base.errors import ConfigError
from spikeloom.compare.tuning import Tune
from spikeloom.heads.base import HEADS, Head
from spikeloom.nets.spec.codec import inline, to_table
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.presets import PRESETS, preset
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Sigmoid
from spikeloom.program.recipe import Choice, Net, build_recipe, read_recipe
from spikeloom.program.tables import build_model, override
from spikeloom.rules.sltt import Sltt
from trainkit import TABLE, recipe


class TestShorthand:
    def test_a_bare_name_is_a_choice(self):
        assert Choice.model_validate("lif") == Choice(name="lif")

    def test_options_are_kept(self):
        choice = Choice.model_validate({"name": "lif", "alpha": 0.9})
        assert choice.name == "lif" and choice.options == {"alpha": 0.9}

    def test_optimizer_and_schedule_by_name(self):
        stage = recipe({"stages.0.optimizer": "sgd", "stages.0.schedule": "step"}).last
        assert (stage.optimizer.name, stage.schedule.name) == ("sgd", "step")

    def test_a_bare_net_is_text_or_preset(self):
        assert Net.model_validate("c4 f10") == Net(text="c4 f10")
        assert Net.model_validate("vgg5") == Net(preset="vgg5")

    def test_parts_are_frozen(self):
        with pytest.raises(ValidationError, match="frozen"):
            recipe().seed = 3  # type: ignore[misc]


class TestNet:
    def test_defaults_reach_the_layers(self):
        given = {"text": "c4 P f10", "unit": {"name": "lif", "alpha": 0.9}, "bias": False}
        net = build_model(Net, given | {"gain": 2.0, "norm": "weight", "dropout": 0.1}, "net")
        assert net.spec() == parse(
            "c4 P f10", unit=LIF(alpha=0.9), bias=False, gain=2.0, norm="weight", dropout=0.1
        )

    def test_a_preset_takes_neurons_and_classes(self):
        net = build_model(Net, {"preset": "vgg5", "unit": "if", "classes": 7}, "net")
        assert net.spec() == preset("vgg5", unit=IF(), classes=7)

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({}, "x: expected one of text, preset and table, got none; give one."),
            (
                {"text": "f10", "preset": "vgg5"},
                "x: expected one of text, preset and table, got text and preset",
            ),
            ({"preset": "vgg5", "bias": True}, "x: bias: expected none beside a preset"),
            ({"preset": "vgg5", "dropout": 0.0}, "x: dropout: expected none beside a preset"),
            ({"preset": "vgg5", "norm": "none"}, "x: norm: expected none beside a preset"),
            ({"preset": "vgg5", "gain": 1.0}, "x: gain: expected none beside a preset"),
            ({"text": "f10", "classes": 3}, "x: classes: expected none beside a text"),
        ],
    )
    def test_one_source(self, table, message):
        with pytest.raises(ConfigError) as caught:
            build_model(Net, table, "x")
        assert str(caught.value).startswith(message) or message in str(caught.value)


REFUSED = [
    # names, with the nearest
    ("stages.0.rule", "bpt", "test: stages.0.rule: unknown learning rule 'bpt'; did you mean 'bp"),
    ("net", "vgg55", "net: unknown preset 'vgg55'; did you mean 'vgg5'?"),
    ("net", {"preset": "vgg55"}, "unknown network 'vgg55'; did you mean 'vgg5'?"),
    ("head", "softmx", "test: head: unknown head 'softmx'; did you mean 'softmax'?"),
    ("encoder", "poison", "test: encoder: unknown encoder 'poison'; did you mean 'poisson'?"),
    ("data", "digit", "test: data: unknown data set 'digit'; did you mean 'digits'?"),
    ("net.unit", "lfi", "test: net.unit: unknown unit 'lfi'; did you mean 'lif'?"),
    ("stages.0.optimizer", "adm", ", got 'adm'; write 'adam'."),
    ("stages.0.schedule", "cosin", ", got 'cosin'; write 'cosine'."),
    (
        "net.unit",
        {"name": "lif", "surrogate": "sigmod"},
        "net.unit.surrogate: unknown surrogate 'sigmod'; did you mean 'sigmoid'?",
    ),
    ("precision", "float32", "precision: expected one of 32-true, "),
    ("device", "gpu", "device: expected one of auto, cpu, cuda, got 'gpu'; write 'cpu'."),
    ("stages.0.select", "bst", "expected last or best, got 'bst'; write 'best'."),
    # keys at every depth
    ("sed", 1, "test: sed: unknown key 'sed'; did you mean 'seed'?"),
    ("stages.0.epoch", 1, "stages.0.epoch: unknown key 'epoch'; did you mean 'epochs'?"),
    ("stages.0.optimizer.lrr", 1, "stages.0.optimizer.lrr: unknown key 'lrr'; did you mean 'lr'?"),
    ("stages.0.rule.k_steps", 1, "stages.0.rule.k_steps: unknown key 'k_steps'; known: loss."),
    ("net.units", 1, "net.units: unknown key 'units'; did you mean 'unit'?"),
    (
        "net.unit",
        {"name": "lif", "alpa": 1},
        "net.unit.alpa: unknown key 'alpa'; did you mean 'alpha'",
    ),
    (
        "net.unit",
        {"name": "lif", "surrogate": {"name": "sigmoid", "q": 1}},
        "net.unit.surrogate.q: unknown key 'q'; known: k.",
    ),
    ("data.trainsize", 1, "data.trainsize: unknown key 'trainsize'; did you mean 'train_size'?"),
    (
        "encoder",
        {"name": "poisson", "rate": 1},
        "encoder.rate: unknown key 'rate'; did you mean 'max",
    ),
    ("head", {"name": "softmax", "bias": True}, "head.bias: unknown key 'bias'"),
    ("paper", {"title": "x", "page": 1}, "paper.page: unknown key 'page'"),
    # types
    ("stages.0.steps", 2.0, "stages.0.steps: expected a whole number, got 2.0; change it."),
    ("stages.0.steps", True, "expected a whole number, got True"),
    ("stages.0.epochs", "3", "expected a whole number, got '3'"),
    ("stages.0.freeze_body", 1, "expected true or false, got 1"),
    ("stages.0.optimizer.lr", "x", "expected a number, got 'x'"),
    ("stages.0.optimizer", 1, "stages.0.optimizer: expected a table, got 1"),
    ("stages.0.rule", 1, "stages.0.rule: expected a table, got 1"),
    ("stages.0.rule", {}, "stages.0.rule.name: expected a value, got none; add the key."),
    ("stages.0", 3, "stages.0: expected a table, got 3"),
    ("stages", 1, "stages: expected a list, got 1"),
    ("stages", [], "stages: expected 1 stage or more, got []"),
    ("name", "a/b", "name: expected letters, digits and . _ -"),
    ("name", "..", "name: expected letters, digits and . _ -"),
    ("name", 1, "name: expected a text, got 1"),
    ("net", 5, "net: expected a table, got 5"),
    ("data.train_size", "x", "data.train_size: expected a whole number, got 'x'"),
    ("data.normalise", "no", "data.normalise: expected true or false, got 'no'"),
    ("data", {"name": "tensors", "path": 3}, "data.path: expected a text, got 3"),
    ("net.unit", {"name": "lif", "alpha": "x"}, "net.unit.alpha: expected a number, got 'x'"),
    # ranges
    ("stages.0.steps", 0, "stages.0.steps: expected 1 or more, got 0"),
    ("stages.0.epochs", 0, "stages.0.epochs: expected 1 or more, got 0"),
    ("stages.0.batch", 0, "stages.0.batch: expected 1 or more, got 0"),
    ("stages.0.optimizer.lr", -1, "stages.0.optimizer.lr: expected a number above 0, got -1"),
    ("stages.0.optimizer.lr", 0, "expected a number above 0, got 0"),
    ("stages.0.optimizer.lr", 1e300, "expected 1e+06 at most, got 1e+300"),
    ("stages.0.optimizer.weight_decay", -1, "expected 0 or more, got -1"),
    ("stages.0.optimizer.momentum", 0.9, "momentum: expected none with adamw, got 0.9; "),
    ("stages.0.schedule.factor", 2, "expected a factor in (0, 1], got 2"),
    ("seed", -1, "seed: expected 0 or more, got -1"),
    (
        "net.unit",
        {"name": "lif", "alpha": 2},
        "test: net.unit.alpha: expected a decay in [0, 1], got 2.0",
    ),
    ("net.dropout", 1.5, "test: net.dropout: expected a share in [0, 1), got 1.5"),
    ("head", {"name": "softmax", "mse": 2}, "test: head.mse: expected a share in [0, 1], got 2"),
    ("head", {"name": "softmax", "decay": 1}, "test: head.decay: expected a decay in (0, 1)"),
    ("head", {"name": "stochmax", "tau": 0}, "test: head.tau: expected a number above 0, got 0"),
    (
        "encoder",
        {"name": "poisson", "max_rate": 2},
        "test: encoder.max_rate: expected a probability per step in (0, 1], got 2",
    ),
    (
        "stages.0.rule",
        {"name": "sltt", "k_steps": 0},
        "test: stages.0.rule.k_steps: expected 1 or more, got 0",
    ),
    # not finite, wherever it stands
    ("stages.0.optimizer.lr", float("nan"), "stages.0.optimizer.lr: expected a finite number, got"),
    ("net.unit", {"name": "lif", "v_th": float("inf")}, "net.unit.v_th: expected a finite number"),
    ("head", {"name": "stochmax", "tau": float("inf")}, "head.tau: expected a finite number"),
    ("published", {"accuracy": float("nan")}, "published.accuracy: expected a finite number"),
    (
        "stages.0.rule",
        {"name": "sltt", "given": [0, float("nan")]},
        "stages.0.rule.given.1: expected a finite number, got nan",
    ),
    # net texts
    ("net", "c4 P f3 q", "expected a layer (c64, t64, f10, P, M, G, U, I) or [..]xN, got 'q' at c"),
    ("net", "c4 P q", "column 6"),
    ("net", "c0 f3", "layer 'conv'.out: expected a width of 1 or more, got 0"),
    ("net", 'c4 P f3{unit = "lif"}', "expected a last layer without unit"),
    ("net", "", "expected at least one layer"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_refused_in_one_line_that_starts_with_the_place(path, value, message):
    with pytest.raises(ConfigError) as caught:
        recipe({path: value})
    text = str(caught.value)
    assert text.startswith("test: ") and message in text and "\n" not in text, text


def test_an_error_inside_a_layer_names_its_place_once():
    with pytest.raises(ConfigError) as caught:
        recipe({"net": "c4{dropout = 3} f3"})
    assert str(caught.value).count("layer 'conv'") == 1


def test_a_comparison_is_no_recipe():
    with pytest.raises(ConfigError, match="use `spikeloom compare`"):
        build_recipe(TABLE | {"entries": []}, "x")


def test_options_of_heads_are_checked_without_data():
    """Every registered head can be built from its defaults on one feature and two classes."""
    for name in HEADS.names():
        kind = HEADS.find(name)
        assert isinstance(kind(2, 2), Head)
        recipe({"head": name} if kind.labels else {"task": "regress", "head": name})


def test_lists_become_tuples():
    stage = recipe({"stages.0.rule": {"name": "sltt", "given": [0, 1]}}).last
    assert stage.learning_rule() == Sltt(given=(0, 1))


def test_the_record_of_a_recipe_gives_the_recipe_back():
    one = recipe({"net": {"preset": "vgg5", "unit": {"name": "lif", "alpha": 0.9}}, "seed": 3})
    written = json.loads(json.dumps(one.model_dump(mode="json")))
    assert build_recipe(written, "x") == one
    assert one.with_seed(5) == build_recipe(written | {"seed": 5}, "x")


def test_reads_a_file(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("name = 'tiny'\nnet = 'c4 P f3'\ndata = 'digits'\n[[stages]]\nrule = 'bptt'")
    assert read_recipe(path) == build_recipe(
        {"name": "tiny", "net": "c4 P f3", "data": "digits", "stages": [{"rule": "bptt"}]}, "x"
    )
    path.write_text("")
    with pytest.raises(ConfigError, match=r"r.toml: name: expected a value, got none; add the key"):
        read_recipe(path)


@pytest.mark.parametrize(
    "text",
    [
        "c4 P [c4]x3 f8 f10",
        '{input_psp = {decay = 0.5}, feedback = [{source = 1, target = 0, layers = "c4"}]} '
        "c4 c4 f3",
        'c4{unit = "relu"} [c4 c4]{join = "add", shortcut = "c4k1"} c8{norm = "weight"} f10',
    ],
)
def test_a_net_may_be_a_table_in_toml(text, tmp_path):
    spec = parse(text)
    path = tmp_path / "net.toml"
    path.write_text(f'name = "n"\ndata = "digits"\nnet = {{table = {inline(to_table(spec))}}}\n')
    with path.open("a") as file:
        file.write('[[stages]]\nrule = "bptt"\n')
    assert read_recipe(path).net.spec() == spec


def test_a_table_takes_no_defaults_beside_it():
    with pytest.raises(ConfigError, match="net.bias: expected none beside a table"):
        build_recipe(
            {
                "name": "n",
                "data": "digits",
                "net": {"table": {"blocks": []}, "bias": False},
                "stages": [{"rule": "bptt"}],
            },
            "here",
        )


SPEC = {"name": "x", "net": "c4 P f3", "data": "digits", "stages": [{"rule": "bptt"}]}


class TestWithoutNames:
    """Options of a part that has a default, or a name already, need no name."""

    @pytest.mark.parametrize(
        ("net", "path", "value", "unit"),
        [
            ("c4 P f3", "net.unit.alpha", 0.9, LIF(alpha=0.9)),
            ({"text": "c4 P f3", "unit": "if"}, "net.unit.v_th", 2.0, IF(v_th=2.0)),
            ({"text": "c4 f3", "unit": None}, "net.unit.alpha", 0.9, LIF(alpha=0.9)),
            (
                {"text": "c4 f3", "unit": {"name": "if", "v_th": 2.0}},
                "net.unit.fire_fraction",
                0.5,
                IF(v_th=2.0, fire_fraction=0.5),
            ),
            (
                "c4 P f3",
                "net.unit.surrogate.width",
                3.0,
                LIF(surrogate=replace(LIF().surrogate, width=3.0)),
            ),
            (
                {"text": "c4 f3", "unit": {"name": "if", "surrogate": "sigmoid"}},
                "net.unit.surrogate.k",
                2.0,
                IF(surrogate=Sigmoid(k=2.0)),
            ),
            (
                "vgg5",
                "net.unit.alpha",
                0.75,
                replace(PRESETS["vgg5"].unit, alpha=0.75),
            ),
        ],
    )
    def test_of_a_unit(self, net, path, value, unit):
        changed = override(SPEC | {"net": net}, path, value, "test")
        built = build_recipe(changed, "test")
        assert unit in [
            layer.neurons for block in built.net.spec().blocks for layer in block.layers
        ]
        again = build_recipe(built.model_dump(mode="json"), "test")  # the stored one says all
        assert again == built and again.net.unit.name

    @pytest.mark.parametrize(
        ("path", "value", "part", "name"),
        [
            ("head.mse", 0.5, "head", "softmax"),
            ("encoder", {}, "encoder", "constant"),
            ("stages.0.optimizer.lr", 0.5, "optimizer", "adamw"),
            ("stages.0.schedule.warmup", 1.0, "schedule", "cosine"),
        ],
    )
    def test_of_other_parts(self, path, value, part, name):
        built = build_recipe(override(SPEC, path, value, "test"), "test")
        assert getattr(built if hasattr(built, part) else built.stages[0], part).name == name

    def test_in_a_tuning_grid(self):
        tune = Tune(values={"net.unit.alpha": [0.5, 0.9], "head.mse": [0.0, 0.5]})
        trial = tune.trial(build_recipe(SPEC, "test"), 3)
        assert trial.net.unit.options == {"alpha": 0.9} and trial.head.options == {"mse": 0.5}

    def test_a_unit_that_no_layer_would_take(self):
        changed = SPEC | {"net": {"text": '{default = {unit = "if"}} c4 P f3'}}
        with pytest.raises(ConfigError, match="net.unit: expected layers that name no unit"):
            build_recipe(override(changed, "net.unit.alpha", 0.9, "test"), "test")
