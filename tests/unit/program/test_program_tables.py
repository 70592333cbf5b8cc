"""TOML in, one path changed, models out."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.program.recipe import Recipe
from spikeloom.program.tables import build_model, override, parse_value, placed, read_toml


class TestOverride:
    def test_replaces_at_any_depth_and_leaves_the_original(self):
        table = {"a": [{"b": 1}], "c": {"d": 2}}
        assert override(table, "a.0.b", 5, "x") == {"a": [{"b": 5}], "c": {"d": 2}}
        assert override(table, "c", 5, "x") == {"a": [{"b": 1}], "c": 5}
        assert table == {"a": [{"b": 1}], "c": {"d": 2}}

    def test_makes_missing_tables(self):
        assert override({}, "a.b.c", 1, "x") == {"a": {"b": {"c": 1}}}

    @pytest.mark.parametrize(
        ("table", "path", "expected"),
        [
            ({"head": "softmax"}, "head.mse", {"head": {"name": "softmax", "mse": 1}}),
            ({"net": "c4 f2"}, "net.gain", {"net": {"text": "c4 f2", "gain": 1}}),
            ({"net": "vgg5"}, "net.classes", {"net": {"preset": "vgg5", "classes": 1}}),
            (
                {"stages": [{"rule": "sltt"}]},
                "stages.0.rule.k_steps",
                {"stages": [{"rule": {"name": "sltt", "k_steps": 1}}]},
            ),
        ],
    )
    def test_a_bare_name_opens_into_a_table(self, table, path, expected):
        assert override(table, path, 1, "x") == expected

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("a.1.b", "x: expected an index from 0 to 0 in 'a.1.b', got '1'; change it."),
            ("a.b", "got 'b'"),
            ("a.-1", "got '-1'"),
            ("a.²", "got '²'"),
            ("c.d.e", "x: expected a table at 'c.d', got 2; fix 'c.d.e'."),
            ("", "expected a path of keys"),
            ("a..b", "expected a path of keys"),
            (".", "expected a path of keys"),
        ],
    )
    def test_a_path_that_leads_nowhere(self, path, message):
        with pytest.raises(ConfigError) as caught:
            override({"a": [{"b": 1}], "c": {"d": 2}}, path, 1, "x")
        assert message in str(caught.value)

    @given(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), st.integers())
    def test_what_was_set_is_read_back(self, keys, value):
        table = override({"z": 0}, ".".join(keys), value, "x")
        assert table["z"] == 0
        for key in keys:
            table = table[key]
        assert table == value


class TestValues:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("3", 3),
            ("0.5", 0.5),
            ("true", True),
            ("[1, 2]", [1, 2]),
            ('{name = "sltt", k_steps = 2}', {"name": "sltt", "k_steps": 2}),
            ("sltt", "sltt"),
            ("'sltt'", "sltt"),
            ("c4 P f10", "c4 P f10"),
            ("", ""),
            ("1\nw = 2", "1\nw = 2"),
        ],
    )
    def test_toml_where_it_parses_else_text(self, text, value):
        assert parse_value(text, "--set x") == value


class TestFiles:
    def test_reads_toml(self, tmp_path):
        (tmp_path / "r.toml").write_text("a = 1\n[b]\nc = 'é'", encoding="utf-8")
        assert read_toml(tmp_path / "r.toml") == {"a": 1, "b": {"c": "é"}}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"a = = 3", "expected TOML, got an error: Invalid value"),
            (b"\xff\xfe", "expected a readable text file"),
            (b"\x00", "expected TOML"),
            (b"a = " + b"[" * 5000, "expected TOML"),
        ],
    )
    def test_refuses_what_is_not_toml(self, tmp_path, content, message):
        (tmp_path / "r.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_toml(tmp_path / "r.toml")

    def test_refuses_what_is_not_there(self, tmp_path):
        with pytest.raises(ConfigError, match="expected a recipe file, found none"):
            read_toml(tmp_path / "r.toml")
        with pytest.raises(ConfigError, match="got a folder"):
            read_toml(tmp_path)


def test_placed_keeps_the_class():
    with pytest.raises(DataError, match="^here: there: gone$"), placed("here"):
        raise DataError("there: gone")
    with pytest.raises(tomllib.TOMLDecodeError), placed("here"):
        tomllib.loads("=")


def test_a_type_of_error_without_words_of_ours_is_still_one_line():
    with pytest.raises(ConfigError, match="^x: name: .*, got .*; change it.$"):
        build_model(Recipe, {"name": b"\xff"}, "x")
