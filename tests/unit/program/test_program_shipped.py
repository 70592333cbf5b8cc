"""Recipes that come with the package are found by name, behind files of the user's own."""

from pathlib import Path

import pytest

from spikeloom.base.errors import ConfigError
from spikeloom.compare.plan import read_comparison
from spikeloom.program import shipped
from spikeloom.program.recipe import read_recipe
from spikeloom.program.shipped import recipe_file, shipped_folder, shipped_recipes

OWN = 'name = "own"\nnet = "f10"\ndata = "digits"\nstages = [{rule = "bptt"}]\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, and no recipe of the present folder."""
    monkeypatch.chdir(tmp_path)


def test_every_shipped_recipe_is_found_by_its_name():
    names = dict(shipped_recipes())
    assert {"demo", "bench/fashion_mlp", "ide/f400_fashion"} <= names.keys()
    for name, file in names.items():
        assert recipe_file(Path(name)) == file
        assert recipe_file(Path(f"{name}.toml")) == file
        assert recipe_file(Path("recipes") / f"{name}.toml") == file


def test_names_serve_wherever_a_recipe_is_read():
    assert read_comparison(Path("demo")).name == "demo"
    assert read_recipe(Path("ide/f400_fashion")).last.rule.name == "ide"


def test_a_file_comes_first(tmp_path):
    (tmp_path / "demo").write_text(OWN)
    assert read_recipe(Path("demo")).name == "own"
    (tmp_path / "demo").unlink()
    (tmp_path / "demo").mkdir()
    assert read_comparison(Path("demo")).name == "demo"


@pytest.mark.parametrize(
    "path", ["demos", "../demo", "/demo", "bench", "bench/demo", "", ".", "recipes", "demo.txt"]
)
def test_other_names_stay_what_they_are(path):
    assert recipe_file(Path(path)) == Path(path)


def test_a_missing_file_names_the_list():
    with pytest.raises(ConfigError, match=r"^demos: .* found none; .* `spikeloom list recipes`\.$"):
        read_recipe(Path("demos"))


class TestPlaces:
    """Inside the package, as in a wheel, or beside src, as in a checkout."""

    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        folder = tmp_path / "x" / "src" / "spikeloom"
        (folder / "train").mkdir(parents=True)
        monkeypatch.setattr(shipped, "__file__", str(folder / "train" / "shipped.py"))
        return folder

    def put(self, folder):
        folder.mkdir(parents=True)
        (folder / "demo.toml").write_text(OWN)

    def test_a_wheel(self, package):
        self.put(package / "recipes")
        assert shipped_folder() == package / "recipes"
        assert [name for name, _ in shipped_recipes()] == ["demo"]

    def test_a_checkout(self, package):
        self.put(package.parents[1] / "recipes")
        assert shipped_folder() is None  # any folder of that name may lie beside site-packages
        (package.parents[1] / "pyproject.toml").touch()
        assert shipped_folder() == package.parents[1] / "recipes"

    def test_neither(self, package):
        assert shipped_folder() is None and shipped_recipes() == []
        assert recipe_file(Path("demo")) == Path("demo")
