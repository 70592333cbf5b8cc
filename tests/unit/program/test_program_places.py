"""Where the path of a recipe's data is looked for, and what a run keeps of it."""

import numpy as np
import pytest

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.cli.train import read_changed
from spikeloom.compare.plan import plan_rules, read_comparison
from spikeloom.data import load_data
from spikeloom.program.places import located
from spikeloom.program.recipe import read_recipe
from spikeloom.train import runs
from spikeloom.train.loop import train
from trainkit import TABLE

RECIPE = """
name = "mine"
net = "f8 f3"
data = { name = "tensors", path = "a/t.npz" }
[[stages]]
rule = "bptt"
steps = 2
epochs = 1
batch = 20
"""


def arrays(file, low=0.0):
    file.parent.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(0).random((90, 4), dtype=np.float32) + np.float32(low)
    y = np.arange(90) % 3
    np.savez(file, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return file


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A current folder, a folder of recipes beside it, and a root of data."""
    for name in ("here", "recipes", "root"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path / "root"))
    (tmp_path / "recipes" / "r.toml").write_text(RECIPE)
    return tmp_path


def path_of(recipe):
    return recipe.data.options["path"]


def test_the_recipe_goes_before_the_current_folder(home):
    here, beside = arrays(home / "here/a/t.npz"), home / "recipes/a/t.npz"
    file = home / "recipes" / "r.toml"
    assert path_of(read_recipe(file)) == str(here)
    arrays(beside)
    assert path_of(read_recipe(file)) == str(beside)


def test_the_root_stays_relative(home):
    arrays(home / "root/a/t.npz")
    recipe = read_recipe(home / "recipes" / "r.toml")
    assert path_of(recipe) == "a/t.npz"  # the root may move
    assert load_data("tensors", **recipe.data.options).shape == (4,)


def test_a_missing_one_names_all_places(home):
    file = home / "recipes" / "r.toml"
    with pytest.raises(DataError) as caught:
        read_recipe(file)
    for place in ("recipes/a/t.npz", "here/a/t.npz", "root/a/t.npz"):
        assert str(home / place) in str(caught.value)
    with pytest.raises(DataError, match="here/a/t.npz or .*root/a/t.npz: expected a data file"):
        load_data("tensors", path="a/t.npz")


def test_a_change_is_of_the_current_folder(home):
    file = home / "recipes" / "r.toml"
    beside, here = arrays(home / "recipes/a/t.npz"), arrays(home / "here/a/t.npz")
    assert path_of(read_changed(file, ["data.path=a/t.npz"], {})) == str(beside)  # as it stood
    other = arrays(home / "here/b.npz")
    assert path_of(read_changed(file, ["data.path=b.npz"], {})) == str(other)
    assert path_of(read_changed(file, ["data.train_size=20"], {})) == str(beside)
    choice = {"name": "tensors", "path": "a/t.npz"}
    base = {"net": "f8 f3", "data": choice, "stages": [{"rule": "bptt"}]}
    plan = plan_rules(base, "bptt", (0,), "x")
    assert path_of(plan.rows[0].recipe) == str(here)


def test_in_a_comparison(home):
    (home / "recipes/deep").mkdir()
    (home / "recipes/deep/own.toml").write_text(RECIPE.replace("a/t.npz", "o.npz"))
    text = RECIPE.replace("[[stages]]", "[[base.stages]]").replace('name = "mine"', "[base]")
    text = 'name = "c"\nseeds = [0]\n' + text
    text += '[[entries]]\nlabel = "a"\n[[entries]]\nlabel = "b"\nrecipe = "deep/own.toml"\n'
    text += '[[entries]]\nlabel = "c"\nset = { "data.path" = "c.npz" }\n'
    (home / "recipes/c.toml").write_text(text)
    a, own, c = (arrays(home / "recipes" / name) for name in ("a/t.npz", "deep/o.npz", "c.npz"))
    plan = read_comparison(home / "recipes/c.toml")
    assert [path_of(row.recipe) for row in plan.rows] == [str(a), str(own), str(c)]


def test_a_run_goes_on_from_elsewhere(home, monkeypatch):
    arrays(home / "recipes/a/t.npz")
    recipe = read_recipe(home / "recipes" / "r.toml")
    train(recipe, home / "run")
    monkeypatch.chdir(home / "root")
    stored = runs.stored_recipe(home / "run")
    assert stored == recipe and load_data("tensors", **stored.data.options).shape == (4,)


@pytest.mark.parametrize(
    "data", ["digits", {"name": "digits", "path": "x"}, {"name": "images", "path": "owner/name"}]
)
def test_what_is_no_path_is_left_alone(data, home):
    assert located(TABLE | {"data": data}, home) == TABLE | {"data": data}


def test_other_kinds_of_file_are_still_named(home):
    with pytest.raises(ConfigError, match="expected a file in .safetensors or .npz"):
        load_data("tensors", path="x.csv")
