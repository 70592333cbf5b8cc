"""One address: what is wrong in a recipe is named by its TOML path, whoever refuses it."""

import copy
import dataclasses
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from spikeloom.base.errors import ConfigError, SpikeloomError
from spikeloom.cli.main import main
from spikeloom.data import DATA
from spikeloom.data.augment import Augment
from spikeloom.encoders import ENCODERS
from spikeloom.heads.base import HEADS
from spikeloom.nets.execution import Execution
from spikeloom.nets.spec.codec import inline
from spikeloom.neurons.base import UNITS
from spikeloom.neurons.surrogate import SURROGATES
from spikeloom.program.recipe import HEAD_OWN, Recipe, build_recipe
from spikeloom.program.stage import Optimizer, Schedule, Stage
from spikeloom.rules.base import RULES

PATHS = {
    "stages.0.rule": RULES,
    "net.unit": UNITS,
    "net.unit.surrogate": SURROGATES,
    "head": HEADS,
    "encoder": ENCODERS,
    "data": DATA,
}
"""Where a recipe names a member of each family."""

TABLES: dict[str, type] = {
    "augment": Augment,
    "execution": Execution,
    "stages.0.optimizer": Optimizer,
    "stages.0.schedule": Schedule,
    "stages.0": Stage,
    "": Recipe,
}

POSITIVE = {"v_th", "fire_fraction", "k", "a", "gamma", "width", "height"}
UNIT = {
    "v_th_min": 2.0,
    "refractory": -1,
    "beta": 1.0,
    "alpha": 1.5,
    "max_spikes": 0,
    "v_min": 0.5,
}
SIZES = {"train_size": -1, "validation": -5, "test": 0}
WRONG: dict[str, dict[str, Any]] = {
    "stages.0.rule": {
        "k_steps": 0,
        "trace_decay": 1.5,
        "back_steps": 0,
        "scale": 0.0,
        "level": -1.0,
        "tolerance": 1.0,
        "limit": 0,
    },
    "net.unit": dict.fromkeys(POSITIVE, 0.0) | UNIT,
    "net.unit.surrogate": dict.fromkeys(POSITIVE, -1.0),
    "head": {"mse": 1.5, "correct": -1.0, "decay": 1.0, "tau": 0.0, "entropy": -0.5}
    | {"keep": 0.0, "samples": -1},
    "encoder": {"cutoff": 1.0, "tau": 0.0, "silent_below": -0.5, "max_rate": 0.0} | {"permute": -1},
    "data": SIZES
    | {"size": 0, "classes": 1, "scale": -1.0, "seed": -1, "steps": 0, "bands": 0}
    | {"delay": -1, "cue": 0, "go": 0, "width": 0, "distractors": 1.5}
    | {"test_speakers": 0, "validation_speakers": 0, "window": 0, "height": 0},
    "augment": {"crop": -1, "cutout": -2, "drop": 1.0, "jitter": -1},
    "execution": {"worth": -1},
    "stages.0.optimizer": {"lr": 0.0, "weight_decay": -0.1, "momentum": 1.0},
    "stages.0.schedule": {"every": 0, "factor": 1.5, "warmup": -1.0},
    "stages.0": {"steps": 0, "epochs": -1, "batch": 0, "clip": 0.0, "patience": 0},
    "": {"seed": -1, "devices": 0},
}
"""A value out of range of every option that has a range, by hand; the same name means the same."""

FREE = {
    "net.unit": {"v_reset", "v_init"},
    "head": {"wrong"},  # what is refused is `correct`, which must be above it
    "stages.0.rule": {"given"},  # of steps, known when T is
    "stages.0.optimizer": {"betas"},
    "stages.0.schedule": {"at"},
    "stages.0": {"class_weights"},
    "data": {"range"},
}
"""Options of numbers that have no range of their own, or are lists; lists are tried below."""


def options_of(path: str, member: Any) -> dict[str, Any]:
    """Return the annotations of what a recipe may set."""
    if path == "data":
        return member.hints
    called = member.__init__ if path == "head" else member
    hidden = {*HEAD_OWN, "return"} if path == "head" else set()
    hints = typing.get_type_hints(called)
    fields = set(hints)
    if dataclasses.is_dataclass(member):
        fields = {field.name for field in dataclasses.fields(member) if field.init}
    return {
        name: hint for name, hint in hints.items() if name in fields - hidden and name[0] != "_"
    }


def holds_number(hint: Any) -> bool:
    parts = typing.get_args(hint) if typing.get_origin(hint) is not typing.Literal else ()
    return hint in (int, float) or any(map(holds_number, parts))


def numbers() -> list[tuple[str, str, str]]:
    """Return path, name and option of every number that a recipe can set."""
    members = [
        (path, name, family.find(name)) for path, family in PATHS.items() for name in family.names()
    ]
    members += [(path, "", kind) for path, kind in TABLES.items()]
    return [
        (path, name, option)
        for path, name, member in members
        for option, hint in options_of(path, member).items()
        if holds_number(hint) and option not in FREE.get(path, ())
    ]


def changed(path: str, name: str, option: str, value: Any) -> dict[str, Any]:
    """Return a recipe's table with one option of one member set."""
    table: dict[str, Any] = {
        "name": "t",
        "net": {"text": "c4 P f10"},
        "data": "digits",
        "stages": [{"rule": "bptt", "steps": 2}],
    }
    if path == "head" and not HEADS.find(name).labels:
        table["task"] = "regress"
    part: dict[str, Any] = {"name": name} if name else {}
    if name in ("images", "tensors"):
        part["path"] = "."
    part[option] = value
    holder: Any = table
    *way, last = path.split(".") if path else [""]
    for key in way:
        holder = holder[int(key)] if isinstance(holder, list) else holder.setdefault(key, {})
    if isinstance(holder, list):
        holder[int(last)] |= part
    elif last:
        holder[last] = part
    else:
        holder |= part
    return table


def refused(table: dict[str, Any]) -> SpikeloomError:
    before = copy.deepcopy(table)
    with pytest.raises(ConfigError) as caught:
        build_recipe(table, "r.toml")
    assert repr(table) == repr(before)
    return caught.value


def holds(error: SpikeloomError, path: str, came: str) -> None:
    """Check the parts, and that the line is made of them."""
    assert (error.source, error.path, error.came) == ("r.toml", path, came), str(error)
    line = f"r.toml: {path}: expected {error.expected}, got {came}; {error.todo}."
    assert str(error) == line and error.expected and error.todo


def test_every_number_is_covered():
    seen = numbers()
    assert len(seen) > 80
    lacking = {(path, option) for path, _, option in seen if option not in WRONG[path]}
    assert not lacking, f"say what is out of range of {lacking}, or that they have none"
    unknown = {path: set(options) for path, options in WRONG.items()}
    for path, _, option in seen:
        unknown[path].discard(option)
    unknown["net.unit"] -= POSITIVE
    unknown["net.unit.surrogate"] -= POSITIVE
    assert not any(unknown.values()), unknown


@pytest.mark.parametrize(("path", "name", "option"), numbers())
def test_a_number_out_of_range(path, name, option, tmp_path, monkeypatch, capsys):
    value, place = WRONG[path][option], f"{path}.{option}".strip(".")
    table = changed(path, name, option, value)
    holds(refused(table), place, repr(value))
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text("\n".join(f"{key} = {inline(part)}" for key, part in table.items()))
    monkeypatch.setattr(sys, "argv", ["spikeloom", "train", "r.toml"])
    with pytest.raises(SystemExit) as end:
        main()
    line = capsys.readouterr().err
    assert end.value.code == 2 and line.startswith(f"error: r.toml: {place}: expected "), line
    assert line.count("\n") == 1 and [*tmp_path.iterdir()] == [tmp_path / "r.toml"]


@pytest.mark.parametrize(("path", "name", "option"), numbers())
def test_no_number(path, name, option):
    for value, came in (("x", "'x'"), (True, "True"), (float("nan"), "nan")):
        error = refused(changed(path, name, option, value))
        holds(error, f"{path}.{option}".strip("."), came)


LISTS = [
    ("stages.0.optimizer", "betas", [0.9, 2.0], "betas.1", "2.0"),
    ("stages.0.optimizer", "betas", [0.9], "betas", "[0.9]"),
    ("stages.0.schedule", "at", [3, 0], "at.1", "0"),
    ("stages.0", "class_weights", [1, -1], "class_weights", "[1, -1]"),
    ("", "stages", [], "stages", "[]"),
    ("", "stages", "bptt", "stages", "'bptt'"),
    ("", "seed", 0.5, "seed", "0.5"),
    ("stages.0", "steps", True, "steps", "True"),
    ("stages.0", "epochs", 1.0, "epochs", "1.0"),
    ("stages.0", "batch", float("inf"), "batch", "inf"),
    ("stages.0", "epochs", 2**64, "epochs", "65 bits"),
    ("augment", "flip", 1, "flip", "1"),
]


@pytest.mark.parametrize(("path", "option", "value", "place", "came"), LISTS)
def test_lists_and_types(path, option, value, place, came):
    holds(refused(changed(path, "", option, value)), f"{path}.{place}".strip("."), came)


LAYER = {"kind": "conv", "out": 4}
READOUT = {"kind": "linear", "out": 10, "unit": "none"}
BLOCKS = [{"layers": [LAYER]}]
EDGE = {"source": 0, "target": 0, "layers": [LAYER | {"unit": "none"}]}
NETS = [
    ({"blocks": [{"layers": [LAYER | {"kernel": 0}]}]}, "blocks.0.layers.0.kernel", "0"),
    ({"blocks": [{"layers": [LAYER | {"dropout": 1.0}]}]}, "blocks.0.layers.0.dropout", "1.0"),
    (
        {"blocks": [{"layers": [LAYER | {"unit": {"name": "lif", "alpha": 1.5}}]}]},
        "blocks.0.layers.0.unit.alpha",
        "1.5",
    ),
    (
        {"blocks": [{"layers": [LAYER | {"psp": {"decay": 1.0}}]}]},
        "blocks.0.layers.0.psp.decay",
        "1.0",
    ),
    ({"blocks": [{"layers": [LAYER], "repeat": 0}]}, "blocks.0.repeat", "0"),
    ({"blocks": [{"layers": []}]}, "blocks.0.layers", "[]"),
    ({"blocks": BLOCKS, "feedback": [EDGE | {"delay": 0}]}, "feedback.0.delay", "0"),
    ({"blocks": BLOCKS, "feedback": [EDGE | {"target": 3}]}, "feedback.0.target", "3"),
    ({"blocks": BLOCKS, "input_psp": {"decay": -1.0}}, "input_psp.decay", "-1.0"),
]


@pytest.mark.parametrize(("net", "place", "came"), NETS)
def test_a_layer_in_a_table_is_named_by_its_path(net, place, came):
    table = changed("", "", "net", {"table": {"readout": READOUT} | net})
    holds(refused(table), f"net.table.{place}", came)


def test_a_layer_in_a_text_is_named_by_its_position():
    error = refused(changed("", "", "net", 'c4 c8{unit = {name = "lif", alpha = 2.0}} f10'))
    assert str(error).startswith("r.toml: net: at column 4 of 'c4 c8{")
    assert error.path == "layer 'conv'.unit.alpha" and error.came == "2.0"


UNKNOWN = [
    ("stages.0.rule", "sltt", "stages.0.rule.tua"),
    ("net.unit", "lif", "net.unit.tua"),
    ("net.unit.surrogate", "sigmoid", "net.unit.surrogate.tua"),
    ("head", "stochmax", "head.tua"),
    ("encoder", "latency", "encoder.tua"),
    ("data", "digits", "data.tua"),
    ("augment", "", "augment.tua"),
    ("execution", "", "execution.tua"),
    ("stages.0.optimizer", "", "stages.0.optimizer.tua"),
    ("stages.0", "", "stages.0.tua"),
    ("", "", "tua"),
]


@pytest.mark.parametrize(("path", "name", "place"), UNKNOWN)
def test_an_unknown_key_is_named_in_one_way(path, name, place):
    error = refused(changed(path, name, "tua", 1))
    assert (error.path, error.came) == (place, "'tua'")
    assert str(error).startswith(f"r.toml: {place}: unknown key 'tua'; ")
    if path in ("head", "encoder"):
        assert "did you mean 'tau'? known: " in str(error)


def test_an_object_built_in_python_names_itself():
    for build, path in (
        (lambda: RULES.find("sltt")(k_steps=0), "rules.sltt.k_steps"),
        (lambda: RULES.find("ide")(limit=0), "rules.ide.limit"),
        (lambda: UNITS.find("lif")(alpha=2.0), "neurons.LIF.alpha"),
        (lambda: ENCODERS.find("poisson")(max_rate=0.0), "encoders.poisson.max_rate"),
        (lambda: HEADS.find("stochmax")(3, 3, tau=0.0), "head.stochmax.tau"),
        (lambda: Augment(crop=-1), "augment.crop"),
        (lambda: Execution(worth=-1), "execution.worth"),
    ):
        with pytest.raises(ConfigError) as caught:
            build()
        assert caught.value.path == path and str(caught.value).startswith(f"{path}: expected ")
