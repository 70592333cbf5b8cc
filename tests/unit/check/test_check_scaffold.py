"""A new rule: right in form at once, complete once its equation is written."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import spikeloom
from spikeloom.base.errors import ConfigError
from spikeloom.check.scaffold import in_checkout, new_rule
from spikeloom.cli.main import main
from spikeloom.rules.base import RULES

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
PACKAGE = Path(spikeloom.__file__).parent
LEARNING = "learns what frozen layers cannot"
EMIT = re.compile(r"        def emit\(.*?return [^\n]*\n\n", re.DOTALL)

BY_NAME = """
import sys
from spikeloom.check import battery
from spikeloom.cli.main import main

battery.BATTERY = battery.BATTERY[:2]  # the whole one passes the same rule in TestOutside
for words in ("check rule nova", "list rules"):
    sys.argv = ["spikeloom", *words.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code
"""


def python(folder, *words, source=PACKAGE.parent):
    """Run this Python with this package (or another in `source`) in a folder."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(source)},
    )


def command(folder, *words, **options):
    return python(folder, "spikeloom", *words, **options)


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return the command in this process; rules that it registers are gone after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    known = set(RULES.names())

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["spikeloom", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr().out

    yield run
    for name in set(RULES.names()) - known:
        del RULES._members[name]


def pytest_in(folder, test, **options):
    return python(folder, "pytest", "-q", "-p", "no:cacheprovider", str(test), **options)


def ruff_finds_nothing(folder):
    for words in (["check"], ["format", "--check"]):
        done = python(folder, "ruff", *words, "--no-cache", ".")
        assert done.returncode == 0, done.stdout


def write_equation(path):
    """Do what the scaffold asks for: here, drop the seam that holds credit back."""
    text, changed = EMIT.subn("", path.read_text())
    text = text.replace("Ops(emit=emit)", "Ops()").replace("Ops(carry=cut, emit=emit)", "Ops(cut)")
    text = text.replace("Ops(cut)", "Ops(carry=cut)")
    assert changed == 1 and "emit" not in text
    path.write_text(text)


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like the project's root, with a rules room of its own."""
    for folder in ("src/spikeloom/rules", "docs/rules", "tests/identities"):
        (tmp_path / folder).mkdir(parents=True)
    package = tmp_path / "src" / "spikeloom"
    for part in (*PACKAGE.iterdir(), *(PACKAGE / "rules").iterdir()):
        if part.name not in ("rules", "__pycache__"):
            (package / part.relative_to(PACKAGE)).symlink_to(part)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


class TestOutside:
    @pytest.mark.parametrize("order", ["time", pytest.param("layer", marks=pytest.mark.slow)])
    def test_exactly_the_learning_check_fails_until_the_equation_is_written(
        self, tmp_path, call, order
    ):
        assert call("new", "rule", "nova", "--order", order)[0] == 0
        rule = tmp_path / "nova.py"
        code, out = call("check", "rule", "./nova.py")
        failed = [line for line in out.splitlines() if line.startswith("  FAILED")]
        assert code == 1 and len(failed) == 1 and LEARNING in failed[0], out
        line = rule.read_text().splitlines().index("    def learn(") + 1
        assert f"write the rule's equation in learn, nova.py:{line}" in " ".join(out.split())
        assert "\n1. layers 0.0.0, 1.0.0: expected changes" in out and "\n2. " not in out
        assert "by layer: 0.0.0 +0.000, 1.0.0 +0.000, readout +1.000" in out
        assert out.splitlines()[-1] == "23 ok, 1 failed, 2 skipped"
        write_equation(rule)
        second = command(tmp_path, "check", "rule", "nova.py")
        assert second.returncode == 0 and "FAILED" not in second.stdout, second.stdout
        assert " 0 failed, " in second.stdout and not second.stderr

    @pytest.mark.slow
    def test_its_test_file_fails_and_passes_likewise(self, tmp_path):
        rule, page, test = new_rule(tmp_path, "nova")
        assert {path.name for path in tmp_path.iterdir()} == {rule.name, page.name, test.name}
        first = pytest_in(tmp_path, test.name)
        assert "2 failed" in first.stdout
        assert "test_battery[learns_what_frozen_layers_cannot]" in first.stdout
        assert "test_at_one_step_it_is_bptt" in first.stdout
        write_equation(rule)
        assert pytest_in(tmp_path, test.name).returncode == 0


class TestInside:
    def test_files_go_to_their_rooms(self, checkout, call):
        assert in_checkout(checkout) and not in_checkout(checkout / "src")
        code, out = call("new", "rule", "nova", "--title", "A new star")
        assert code == 0
        for path in (
            "src/spikeloom/rules/nova.py",
            "docs/rules/nova.md",
            "tests/identities/test_identity_nova.py",
        ):
            assert (checkout / path).is_file() and path in out
        assert (checkout / "docs/rules/nova.md").read_text().startswith("# nova: A new star\n")
        assert 'title="A new star"' in (checkout / "src/spikeloom/rules/nova.py").read_text()
        assert "spikeloom check rule src/spikeloom/rules/nova.py" in out

    @pytest.mark.slow
    def test_its_file_is_checked_by_its_path(self, checkout):
        new_rule(checkout, "nova")
        checked = command(checkout, "check", "rule", "src/spikeloom/rules/nova.py")
        assert checked.returncode == 1 and checked.stdout.count("FAILED") == 1

    def test_the_package_knows_it_and_its_identities_hold_once_written(self, checkout):
        rule, _, test = new_rule(checkout, "nova")
        assert "battery" not in test.read_text()
        own = {"source": checkout / "src"}
        first = pytest_in(checkout, test, **own)
        assert first.stdout.startswith(".F") and "test_at_one_step_it_is_bptt" in first.stdout
        write_equation(rule)
        assert pytest_in(checkout, test, **own).returncode == 0
        (checkout / "by_name.py").write_text(BY_NAME)
        named = python(checkout, "by_name", **own)
        assert named.stdout.startswith("nova: Nova()\n  ok "), named
        assert named.stdout.count("\nnova ") == 1


class TestForm:
    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_ruff_finds_nothing_in_a_checkout(self, checkout, order):
        for name in ("a", "nova", "z9_" + "long_" * 5 + "ab", "citation"):
            new_rule(checkout, name, order=order)
        ruff_finds_nothing(checkout)

    @pytest.mark.parametrize("order", ["time", "layer"])
    def test_ruff_finds_nothing_elsewhere(self, tmp_path, order):
        ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
        (tmp_path / "ruff.toml").write_text(
            f"line-length = 100\n[lint]\nselect = {ours['select']}\n"
            '[lint.pydocstyle]\nconvention = "google"\n'
        )
        new_rule(tmp_path, "nova", order=order)
        ruff_finds_nothing(tmp_path)

    def test_the_types_fit(self, tmp_path):
        if importlib.util.find_spec("basedpyright") is None:
            pytest.skip("basedpyright is not installed")
        rules = [
            new_rule(tmp_path, name, order=order)[0].name
            for name, order in (("nova", "time"), ("stella", "layer"))
        ]
        (tmp_path / "pyrightconfig.json").write_text(
            f'{{"extraPaths": ["{ROOT / "src"}"], "typeCheckingMode": "standard"}}'
        )
        done = python(tmp_path, "basedpyright", "--pythonpath", sys.executable, *rules)
        assert done.returncode == 0, done.stdout

    def test_a_class_that_would_hide_an_import_gets_another_name(self, tmp_path):
        text = new_rule(tmp_path, "rule_facts")[0].read_text()
        assert "class RuleFactsRule(LearningRule):" in text


class TestRefusals:
    @pytest.mark.parametrize("name", ["", "9a", "_a", "a_", "a-b", "Nova", "class", "x" * 31, "é"])
    def test_a_name_that_does_not_do(self, tmp_path, name):
        with pytest.raises(ConfigError, match=r"^new rule: expected a name of up to 30 small"):
            new_rule(tmp_path, name)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", RULES.names())
    def test_a_rule_that_exists(self, tmp_path, name):
        with pytest.raises(ConfigError, match=f"got '{name}', which is a rule"):
            new_rule(tmp_path, name)

    @pytest.mark.parametrize("name", ["torch", "json", "steps"])
    def test_a_module_that_would_be_hidden(self, tmp_path, name):
        with pytest.raises(ConfigError, match=f"got '{name}', which is a module"):
            new_rule(tmp_path, name)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "title", ["short", 'a "quoted" one', "two\nlines", "x" * 61, "a\\b cd"]
    )
    def test_a_title_that_does_not_do(self, tmp_path, title):
        with pytest.raises(ConfigError, match=r"^new rule: expected a title of 6 to 60"):
            new_rule(tmp_path, "nova", title=title)

    @pytest.mark.parametrize("there", ["nova.py", "nova.md", "test_nova.py"])
    def test_nothing_is_overwritten(self, tmp_path, there):
        (tmp_path / there).write_text("mine")
        with pytest.raises(ConfigError, match=rf"expected no file .*{re.escape(there)}, got one"):
            new_rule(tmp_path, "nova")
        assert [path.name for path in tmp_path.iterdir()] == [there]
        assert (tmp_path / there).read_text() == "mine"

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        with pytest.raises(ConfigError, match=r"^new rule: expected a folder to write into, got"):
            (tmp_path / "file").write_text("")
            new_rule(tmp_path / "file", "nova")
