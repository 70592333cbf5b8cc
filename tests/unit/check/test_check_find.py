"""Which rules `check rule` finds, by name, by file, in the package."""

from pathlib import Path

import pytest

import spikeloom.rules.sltt
from spikeloom.base.errors import ConfigError
from spikeloom.check.find import find_cases
from spikeloom.check.scaffold import new_rule
from spikeloom.rules.base import RULES


@pytest.fixture(autouse=True)
def forgotten():
    """Rules registered by a test are gone after it."""
    known = set(RULES.names())
    yield
    for name in set(RULES.names()) - known:
        del RULES._members[name]


def test_a_name():
    assert {case.name for case in find_cases("sltt")} == {"sltt"}


def test_a_file_of_the_package_is_not_registered_twice():
    path = str(Path(spikeloom.rules.sltt.__file__))
    assert [case.rule for case in find_cases(path)] == [case.rule for case in find_cases("sltt")]


def test_a_file_with_two_rules_and_a_module_beside_it(tmp_path):
    text = new_rule(tmp_path, "nova")[0].read_text()
    (tmp_path / "beside_nova.py").write_text("TITLE = 'a title from elsewhere'\n")
    mine = tmp_path / "mine.py"
    one = text.replace('title="nova, a rule still to be named in full"', "title=TITLE")
    two = text.replace('"nova"', '"nova_two"').replace("class Nova(", "class NovaTwo(")
    mine.write_text("from beside_nova import TITLE\n" + one + two)
    cases = find_cases(str(mine))
    assert [(case.name, type(case.rule).__name__) for case in cases] == [
        ("nova", "Nova"),
        ("nova_two", "NovaTwo"),
    ]
    assert cases[0].rule.facts.title == "a title from elsewhere"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "expected a file that registers a rule, got none in"),
        ("x = = 1", "expected a file that can be imported, got SyntaxError in"),
        ("import nothing_of_this_name", "got ModuleNotFoundError in"),
        ("raise SystemExit(0)", "got SystemExit in"),
        (
            "from spikeloom.rules.base import RULES\nRULES.register('sltt')(int)",
            "learning rule 'sltt' is registered twice",
        ),
        (
            "from spikeloom.rules.base import RULES\nRULES.register('integer')(int)",
            "learning rule 'integer': expected facts, trials, prepare, learn, got <class 'int'> "
            "without facts",
        ),
    ],
)
def test_files_that_do_not_do(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as error:
        find_cases(str(tmp_path / "mine.py"))
    assert message in str(error.value)


def test_what_is_neither_name_nor_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown learning rule 'slt'; did you mean 'sltt'\?"):
        find_cases("slt")
    with pytest.raises(ConfigError, match=r"^check rule: expected a Python file, got 'no.py'"):
        find_cases("no.py")
    with pytest.raises(ConfigError, match=r"^check rule: expected a Python file, got 'no/where'"):
        find_cases("no/where")
    Path("slt.py").write_text("")
    with pytest.raises(ConfigError, match=r"which is no rule; for the file write \./slt\.py"):
        find_cases("slt")
