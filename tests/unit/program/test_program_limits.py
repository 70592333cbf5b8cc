"""Numbers that nobody means: one line at once, before anything is built or allocated."""

import resource
from pathlib import Path

import pytest
import torch

from spikeloom.base import memory, toml
from spikeloom.base.errors import ConfigError, SpikeloomError
from spikeloom.compare.plan import plan_rules
from spikeloom.compare.tuning import MOST_TRIALS, Tune
from spikeloom.nets.module import size
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.size import measure
from spikeloom.nets.spec import grammar
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.net import MOST_LAYERS
from spikeloom.program import room
from spikeloom.program.recipe import build_recipe
from spikeloom.program.setup import set_up
from spikeloom.program.tables import override, parse_value, read_toml
from trainkit import TABLE, tiny

DIGITS = "9" * 5000
NEST = "[" * 3000 + "]" * 3000


def refused(call) -> str:
    """Return the line of a refusal that asked for less than a gigabyte on its way."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        with pytest.raises(SpikeloomError) as caught:
            call()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 2200 and line.endswith(".")
    return line


TOML = {
    "digits": f"x = {DIGITS}",
    "hexadecimal digits": "x = 0x" + "f" * 5000,
    "65 bits": f"x = {2**63}",
    "65 bits in a list": f"x = [1, [{-(2**63) - 1}]]",
    "brackets": f"x = {NEST}",
    "braces": "x = " + "{a = " * 3000 + "1" + "}" * 3000,
    "dotted keys": "a." * 50_000 + "b = 1",
    "quoted dotted keys": '"a"."b".' * 25_000 + "b = 1",
    "a dotted header": "[" + "a . " * 50_000 + "b]",
    "length": "#" * 2**20 + "\n",
}


@pytest.mark.parametrize("kind", TOML)
def test_a_toml_file(kind, tmp_path):
    (tmp_path / "r.toml").write_text(TOML[kind])
    assert "r.toml: expected TOML, got an error" in refused(lambda: read_toml(tmp_path / "r.toml"))


def test_toml_that_somebody_means():
    deep = "a." * (toml.DEEPEST - 1) + "b = 1\n"
    text = f"x = {2**63 - 1}\ny = {-(2**63) + 1}\nz = '{'c0.5 ' * 999}'\n{deep}"
    assert toml.read(text)["x"] == 2**63 - 1
    assert len(toml.read("".join(f"a.b{row} = 1\n" for row in range(5000)))["a"]) == 5000


@pytest.mark.parametrize("text", [DIGITS, "0x" + DIGITS, NEST, "[" * 3000, str(10**30)])
def test_a_value_of_the_command_line(text):
    line = refused(lambda: parse_value(text, "--set stages.0.epochs"))
    assert line.startswith("--set stages.0.epochs: expected a value as TOML has them, got ")
    assert "'" + text[:20] in line


def test_a_path_of_the_command_line():
    assert "expected a path of at most 64 keys" in refused(
        lambda: override({}, "a." * 50_000 + "b", 1, "--set")
    )


def test_an_index_of_the_command_line():
    line = refused(lambda: override(TABLE, f"stages.{DIGITS}.epochs", 1, "--set"))
    assert "--set: expected an index from 0 to 0 in 'stages.999" in line


@pytest.mark.parametrize("number", [10**30, -(10**30), 2**63])
@pytest.mark.parametrize("key", ["seed", "stages.0.epochs", "stages.0.rule.k", "encoder.x"])
def test_a_whole_number_of_a_recipe(key, number):
    table = override(TABLE, key, number, "test")
    assert "expected a whole number of 64 bits" in refused(lambda: build_recipe(table, "test"))


@pytest.mark.parametrize(
    ("key", "number", "message"),
    [
        ("stages.0.steps", 10**9, "steps: expected 1000000 at most, got 1000000000"),
        ("stages.0.batch", 10**12, "batch: expected 1000000000 at most"),
        ("stages.0.epochs", 10**10, "epochs: expected 1000000000 at most"),
        (
            "stages.0.schedule",
            {"name": "step", "every": 10**18},
            "every: expected 1000000000 at most",
        ),
    ],
)
def test_a_count_of_a_recipe(key, number, message):
    table = override(TABLE, key, number, "test")
    assert message in refused(lambda: build_recipe(table, "test"))


def test_many_epochs_and_the_largest_seed_are_fine():
    changes = {"stages.0.epochs": 10**9, "stages.0.batch": 10**9, "seed": 2**63 - 1}
    table = TABLE
    for key, value in changes.items():
        table = override(table, key, value, "test")
    assert set_up(build_recipe(table, "test"), tiny()).stage.epochs == 10**9


TEXTS = {
    "passes": ("[c64]x1000000", f"expected {MOST_LAYERS} layers at most"),
    "passes of shortcuts": ('[c4]x3000{join = "add", shortcut = "c4k1"}', "layers at most, those"),
    "digits of passes": (f"[c64]x{DIGITS}", "expected a number of 18 digits at most"),
    "digits of a width": (f"c{DIGITS}", "expected a number of 18 digits at most"),
    "digits of a kernel": (f"c4k{DIGITS}", "expected a number of 18 digits at most"),
    "digits of a pool": (f"P{DIGITS}", "expected a number of 18 digits at most"),
    "digits in a table": (f"c4{{gain = {DIGITS}}}", "a number of thousands of digits"),
    "brackets in a table": (f"c4{{x = {NEST}}}", "tables or lists in hundreds of levels"),
    "dotted keys in a table": ("c4{" + "a." * 50_000 + "b = 1}", "a key of 64 parts or more"),
    "width": ("c1000000000000000 f10", "out: expected 2147483647 at most, got 1000000000000000"),
    "stride": ("c4s3000000000 f10", "stride: expected 2147483647 at most"),
    "delay": (
        '{feedback = [{source = 0, target = 0, layers = "f4", delay = 3000000000}]} f4 f3',
        "feedback.0.delay: expected 2147483647 at most",
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_net_text(kind):
    text, message = TEXTS[kind]
    assert message in refused(lambda: parse(text))


def test_layers_are_counted_while_they_are_read(monkeypatch):
    monkeypatch.setattr(grammar, "MOST_LAYERS", 100)
    line = refused(lambda: parse("c4 " * 300_000))
    assert "expected at most 100 layers, got 'c4' at column 301 of" in line


NETS = {
    "weights of one layer": ("f2000000000 f3", "expected weights that fit into"),
    "weights of two layers": ("f200000 f200000 f3", "expected weights that fit into"),
    "a window": ("c64k99999p49999 f3", "expected weights that fit into"),
    "padding": ("c64p999999999 f3", "net layer 0.0.0: expected maps of one sample that fit into"),
    "upsampling": ("c4 U100000 f3", "net layer 1.0.0: expected maps of one sample that fit into"),
    "strides": ("t4s100000000 f3", "net layer 0.0.0: expected maps of one sample"),
    "a path back": (
        '{feedback = [{source = 0, target = 0, mask = {density = 0.5}, layers = "f500000"}]} '
        "f500000 f3",
        "expected weights that fit into",
    ),
    "channels that are dropped": (
        '[c1 c2000000000]x2{fit = "drop"} f3',
        "expected weights that fit into",
    ),
    "more than 64 bits": ("f2000000000 f2000000000 f2000000000 f3", "expected weights that fit"),
}


@pytest.mark.parametrize("kind", NETS)
def test_a_net_that_no_memory_holds(kind, monkeypatch):
    text, message = NETS[kind]
    monkeypatch.setattr(size, "total_bytes", lambda device=None: 24 * 10**9)
    for call in (
        lambda: SpikingNet(text, (1, 4, 4)),
        lambda: set_up(build_recipe(override(TABLE, "net", text, "test"), "test"), tiny()),
    ):
        line = refused(call)
        assert message in line and "the 24 GB of this machine, got" in line


def test_a_net_is_measured_as_it_is_built():
    for text in ("c4 P [c4]x2 f8 f3", 'c4{norm = "weight"} P f8 f3', "t4k2s2 P f3"):
        net = SpikingNet(text, (1, 4, 4))
        counted = measure(net.spec, (1, 4, 4))
        synapses = {id(site.synapse): site.synapse for site in net.sites}
        assert counted.parameters == sum(
            one.numel() for synapse in synapses.values() for one in synapse.parameters()
        )
        assert counted.widest == max(
            torch.Size(site.synapse.out_shape).numel() for site in net.sites
        )
        assert counted.features == net.features


def test_a_stage_that_does_not_fit(monkeypatch):
    """Weights four times with Adam; per sample two encoded inputs and the widest layer."""
    table = override(TABLE, "net", "f2{bias = false} f3{bias = false}", "test")
    table = override(table, "encoder", "poisson", "test")
    recipe = build_recipe(override(table, "stages.0.batch", 20, "test"), "test")
    weights, batch = 4 * 4 * (16 * 2 + 2 * 3), 20 * (4 * 2 * 16 + 4 * 2)
    for bytes_there, fits in ((weights + batch, True), (weights + batch - 1, False)):
        monkeypatch.setattr(room, "total_bytes", lambda device=None, there=bytes_there: there)
        if fits:
            set_up(recipe, tiny())
            continue
        line = refused(lambda: set_up(recipe, tiny()))
        assert "stages.0: expected what fits into the 3 KB of cpu, got 1 KB for weights, " in line
        assert "a batch of 20 at T = 2" in line
        set_up(recipe, tiny(), prepared=False)  # nothing is trained


def test_a_train_of_one_sample_is_not_encoded_where_it_does_not_fit(monkeypatch):
    table = override(override(TABLE, "encoder", "poisson", "test"), "stages.0.steps", 999, "test")
    monkeypatch.setattr(room, "total_bytes", lambda device=None: 999 * 64 - 1)
    line = refused(lambda: set_up(build_recipe(table, "test"), tiny()))
    assert "expected a sample over time that fits into the 64 KB of this machine" in line


def test_trials_of_a_tuning():
    values = {f"stages.0.optimizer.x{row}": list(range(10)) for row in range(30)}
    with pytest.raises(ValueError, match=f"expected {MOST_TRIALS} trials at most, got 1000"):
        Tune.model_validate({"values": values})


def test_commas_of_rules_are_read_in_one_pass():
    base = {key: part for key, part in TABLE.items() if key != "name"} | {"data": "digits"}
    with pytest.raises(ConfigError, match="with an empty name; drop a comma"):
        plan_rules(base, "a" + "," * 60_000, (0,), "x")
    plan = plan_rules(base | {"net": "c4 f10"}, "bptt, sltt:k_steps=2", (0,), "x")
    assert [row.label for row in plan.rows] == ["bptt", "sltt:k_steps=2"]


def test_seeds_of_a_comparison():
    base = {key: part for key, part in TABLE.items() if key != "name"} | {"net": "c4 f10"}
    with pytest.raises(ConfigError, match="x: expected seeds from 0 to 9223372036854775807"):
        plan_rules(base, "bptt", (0, 10**30), "x")


def test_bytes_in_words():
    words = [memory.in_words(count) for count in (999, 10**6, 25 * 10**9, 3 * 10**12, 10**400)]
    assert words == ["1 KB", "1.0 MB", "25 GB", "3.0 TB", "1e+288 TB"]
