"""Registries, how errors are worded, and citations."""

import importlib
import sys
import types

import pytest

from spikeloom.base import registry as registry_module
from spikeloom.base.citation import Citation
from spikeloom.base.errors import (
    ConfigError,
    DataError,
    NumericalError,
    ShapeError,
    SpikeloomError,
    UnsupportedNet,
    unknown_name,
)
from spikeloom.base.registry import Registry
from spikeloom.data import DATA
from spikeloom.encoders import ENCODERS
from spikeloom.heads.base import HEADS
from spikeloom.neurons.base import UNITS
from spikeloom.neurons.surrogate import SURROGATES
from spikeloom.rules.base import RULES

EMPTY_FOLDER = "spikeloom.base"  # its files register nothing


class Point:
    """An entry point of another package."""

    def __init__(self, load):
        self.load = load


@pytest.fixture
def points(monkeypatch):
    """Entry points by group, instead of those installed."""
    found: dict[str, list[Point]] = {}
    monkeypatch.setattr(registry_module, "entry_points", lambda group: found.get(group, []))
    return found


def test_files_of_sub_folders_are_found(tmp_path, monkeypatch, points):
    top = tmp_path / "shelf_of_things"
    member = "from shelf_of_things import THINGS\nTHINGS.register('{}')(object())\n"
    for folder, name in ((top, "near"), (top / "inner" / "deep", "far"), (top / "_own", "hidden")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(member.format(name))
    for folder in (top / "inner", top / "inner" / "deep", top / "_own"):
        (folder / "__init__.py").touch()
    home = "from spikeloom.base.registry import Registry\nTHINGS = Registry('thing', __name__)\n"
    (top / "__init__.py").write_text(home)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert importlib.import_module("shelf_of_things").THINGS.names() == ("far", "near")
    finally:
        for name in [name for name in sys.modules if name.startswith("shelf_of_things")]:
            del sys.modules[name]


def test_members_are_found_by_name_and_listed_sorted():
    family: Registry[type] = Registry("thing", EMPTY_FOLDER)

    @family.register("zebra")
    class Zebra:
        pass

    @family.register("ant")
    class Ant:
        pass

    assert family.names() == ("ant", "zebra")
    assert family.find("zebra") is Zebra and family.find("ant") is Ant
    assert Ant.__name__ == "Ant"  # the decorator gives the class back


def test_a_name_is_taken_once():
    family: Registry[type] = Registry("thing", EMPTY_FOLDER)
    family.register("one")(int)
    with pytest.raises(ValueError, match="thing 'one' is registered twice; choose another name"):
        family.register("one")(float)
    assert family.find("one") is int


def test_a_member_has_what_the_family_needs():
    family: Registry[type] = Registry("thing", EMPTY_FOLDER, ("bit_length", "weight"))
    with pytest.raises(ConfigError, match="thing 'one': expected bit_length, weight, got .*'int'"):
        family.register("one")(int)
    assert family.names() == ()


@pytest.mark.parametrize("family", [RULES, HEADS, ENCODERS, DATA, UNITS, SURROGATES])
def test_an_unusable_member_of_a_plugin_is_left_out(family, points, caplog, monkeypatch):
    """It is refused where it is registered: listings and later lookups never meet it."""
    before = family.names()
    monkeypatch.setattr(family, "_loaded", False)
    points[family.package] = [Point(lambda: family.register("unusable")(object()))]
    monkeypatch.setattr(registry_module, "_failed", set())
    assert family.names() == before
    assert f"{family.kind} 'unusable': expected {', '.join(family.needs)}, got" in caplog.text


def test_an_unknown_name_meets_the_nearest_one():
    family: Registry[type] = Registry("thing", EMPTY_FOLDER)
    family.register("hammer")(int)
    family.register("saw")(float)
    with pytest.raises(ConfigError) as error:
        family.find("hamer")
    message = str(error.value)
    assert message.startswith("spikeloom.base: unknown thing 'hamer'; did you mean 'hammer'? ")
    assert message.endswith("known: hammer, saw.")
    with pytest.raises(ConfigError, match=r"^stages.0.tool: unknown thing 'xyz'; known: hammer"):
        family.find("xyz", "stages.0.tool")


def test_files_of_the_folder_are_imported_at_the_first_lookup(monkeypatch, tmp_path):
    package = tmp_path / "loom_folder"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text(
        "from spikeloom.base.registry import Registry\nTHINGS = Registry('thing', __package__)\n"
    )
    line = "from loom_folder.base import THINGS\nTHINGS.register({!r})(object)\n"
    (package / "first.py").write_text(line.format("first"))
    (package / "_private.py").write_text(line.format("private"))
    for folder in ("second", "_hidden", "second/deeper", "not_a_package"):
        (package / folder).mkdir()
        (package / folder / "rule.py").write_text(line.format(folder))
        if folder != "not_a_package":
            (package / folder / "__init__.py").write_text("")
    (package / "second" / "_part.py").write_text(line.format("part"))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        from loom_folder.base import THINGS  # noqa: PLC0415

        assert not THINGS._members
        assert THINGS.names() == ("first", "second", "second/deeper")
    finally:
        for name in [key for key in sys.modules if key.startswith("loom_folder")]:
            del sys.modules[name]


def test_another_package_adds_members_by_entry_point(points):
    family: Registry[type] = Registry("thing", EMPTY_FOLDER)
    family.register("own")(int)
    loads = []

    def load():
        loads.append(1)
        module = types.ModuleType("plugin")
        module.member = family.register("theirs")(float)
        return module

    points[EMPTY_FOLDER] = [Point(load)]
    assert family.names() == ("own", "theirs")
    assert family.find("theirs") is float
    assert family.names() == ("own", "theirs") and loads == [1]  # loaded once


def test_a_plugin_may_not_take_a_name_of_ours(points, caplog):
    family: Registry[type] = Registry("thing", EMPTY_FOLDER)
    family.register("own")(int)
    points[EMPTY_FOLDER] = [Point(lambda: family.register("own")(float))]
    assert family.names() == ("own",) and family.find("own") is int
    assert "thing 'own' is registered twice" in caplog.text


BROKEN = {
    "a name of ours": "FAMILY.register('own')(float)",
    "an error": "1 / 0",
    "two lines": "assert 0, 'a\\nb'",
    "no Python": "def (:",
    "a missing dependency": "import nothing_of_this_name",
    "an end": "raise SystemExit(3)",
    "an exit": "import sys; sys.exit()",
    "an exception of its own": "class Own(BaseException): pass\nraise Own",
    "a recursion": "def f(): f()\nf()",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_plugin_that_raises_is_named_once_and_left_out(fault, monkeypatch, tmp_path, caplog):
    """Installed as packages are: other plug-ins work, and nothing of the broken one is kept."""
    name = "plug_" + fault.replace(" ", "_")
    group = f"spikeloom.{name}"
    begin = f"from {name}_home import FAMILY, OTHER\nFAMILY.register('theirs')(int)\n"
    begin += "OTHER.register('theirs')(int)\n"
    (tmp_path / f"{name}_home.py").write_text(
        "from spikeloom.base.registry import Registry\n"
        f"FAMILY, OTHER = (Registry('thing', '{EMPTY_FOLDER}') for _ in range(2))\n"
    )
    modules = {
        f"{name}_bad": begin + BROKEN[fault],
        f"{name}_good": begin.replace("theirs", "good"),
    }
    for module, text in modules.items():
        (tmp_path / f"{module}.py").write_text(text + "\n")
        about = tmp_path / f"{module}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: {module}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[{group}]\nx = {module}\n")
    monkeypatch.syspath_prepend(tmp_path)
    real = registry_module.entry_points
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: real(group=f"spikeloom.{name}")
    )
    home = importlib.import_module(f"{name}_home")
    home.FAMILY.register("own")(int)
    assert home.FAMILY.names() == ("good", "own")
    assert home.OTHER.names() == ("good",)
    (line,) = [one.getMessage() for one in caplog.records]
    assert line.startswith(f"plug-in '{name}_bad' of {EMPTY_FOLDER}: expected an import without")
    assert line.endswith("it is left out; repair or remove it.") and "\n" not in line


def test_an_interrupt_is_not_the_plugins(points):
    family: Registry[type] = Registry("thing", EMPTY_FOLDER)

    def load():
        raise KeyboardInterrupt

    points[EMPTY_FOLDER] = [Point(load)]
    with pytest.raises(KeyboardInterrupt):
        family.names()


def test_two_families_may_live_in_one_folder():
    assert UNITS.names() == ("if", "lif", "relu")
    assert set(UNITS.names()).isdisjoint(SURROGATES.names())
    with pytest.raises(ConfigError, match=r"unknown surrogate 'lif'"):
        SURROGATES.find("lif")


@pytest.mark.parametrize(
    "kind", [ConfigError, ShapeError, UnsupportedNet, DataError, NumericalError]
)
def test_every_error_is_a_value_error_of_one_root(kind):
    assert issubclass(kind, SpikeloomError) and issubclass(kind, ValueError)


def test_unknown_names_of_any_type_are_worded():
    assert str(unknown_name("recipe.rule", "rule", 7, ["b", "a"])) == (
        "recipe.rule: unknown rule '7'; known: a, b."
    )


def test_a_citation_reads_as_one_line():
    whole = Citation("Xiao et al.", "OTTT", "NeurIPS", 2022, "arXiv:2210.04195")
    assert str(whole) == "Xiao et al. (2022). OTTT. NeurIPS. arXiv:2210.04195"
    assert str(Citation("A", "B", "C", 1986)) == "A (1986). B. C."
    assert whole == Citation("Xiao et al.", "OTTT", "NeurIPS", 2022, "arXiv:2210.04195")
