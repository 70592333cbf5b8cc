"""A recipe leaves encoder and T to data that bring their own time."""

import pytest

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.program.own_time import with_own_time
from spikeloom.program.recipe import build_recipe
from spikeloom.program.setup import set_up


def table(data: object, **others: object) -> dict:
    return {"name": "r", "net": "f8 f10", "data": data, "stages": [{"rule": "bptt"}]} | others


SMALL = {"name": "delayed_recall", "train_size": 20, "validation": 10, "test": 10}


def test_encoder_and_steps_follow_the_data():
    recipe = build_recipe(table(SMALL | {"delay": 30}), "r")
    assert recipe.encoder.name == "frames" and recipe.last.steps == 32
    assert set_up(recipe).steps == 32
    bare = build_recipe(table("delayed_recall"), "r")
    assert bare.last.steps == 22
    two = table(SMALL, stages=[{"rule": "bptt"}, {"rule": "sltt", "epochs": 2}])
    assert [stage.steps for stage in build_recipe(two, "r").stages] == [22, 22]


def test_what_is_stated_stays():
    stated = table(SMALL, stages=[{"rule": "bptt", "steps": 9}])
    recipe = build_recipe(stated, "r")
    assert recipe.last.steps == 9
    with pytest.raises(ShapeError, match=r"T = 9: encoders.frames: .*; set steps = 22"):
        set_up(recipe)
    recipe = build_recipe(table(SMALL, encoder="constant"), "r")
    assert recipe.encoder.name == "constant"
    with pytest.raises(ConfigError, match=r"encoder 'constant': .*; take encoder 'frames', with "):
        set_up(recipe)


@pytest.mark.parametrize("data", ["digits", {"name": "tensors", "path": "a.npz"}, "nothing", 3])
def test_other_tables_stay_as_they_are(data):
    assert with_own_time(table(data)) == table(data)
    assert with_own_time({"data": data}) == {"data": data}


def test_wrong_tables_are_refused_in_the_recipes_words():
    with pytest.raises(ConfigError, match=r"^r: data\.delay: expected a whole number, got 'x'"):
        build_recipe(table(SMALL | {"delay": "x"}), "r")
    with pytest.raises(ConfigError, match=r"^r: stages"):
        build_recipe(table(SMALL, stages="bptt"), "r")


def test_steps_follow_an_encoder_that_reads_pictures_in_pieces():
    rows = build_recipe(table("digits", encoder="sequential"), "r")
    assert rows.last.steps == 8
    pixels = table("digits", encoder={"name": "sequential", "by": "pixel", "permute": 1})
    bench = set_up(build_recipe(pixels, "r"))
    assert bench.steps == 64 and bench.net.sites[0].spec.out == 8
    with pytest.raises(ConfigError, match=r"^r: encoder.by: expected row or pixel, got 'rows'"):
        build_recipe(table("digits", encoder={"name": "sequential", "by": "rows"}), "r")
    stated = table("digits", encoder="sequential", stages=[{"rule": "bptt", "steps": 4}])
    with pytest.raises(ShapeError, match="expected 4 rows, .* got 8 in .*; set steps = 8"):
        set_up(build_recipe(stated, "r"))


def test_a_picture_net_does_not_take_rows():
    with pytest.raises(ShapeError, match="expected maps"):
        set_up(build_recipe(table("digits", encoder="sequential", net="c4 f10"), "r"))
