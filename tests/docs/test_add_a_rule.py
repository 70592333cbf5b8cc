"""The page on adding a rule: its complete rule passes the battery and is compared."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from spikeloom.cli.main import main
from spikeloom.rules.base import RULES

PAGE = (Path(__file__).parents[2] / "docs/howto/add_a_rule.md").read_text(encoding="utf-8")
CODE = [
    one
    for one in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if '@RULES.register("dfa")' in one
]
COMMANDS = re.findall(r"^spikeloom (.*dfa\.py.*)$", PAGE, re.MULTILINE)
SMALL = ("--set", "stages.0.epochs=1", "--set", "data.train_size=64", "--seeds", "0")


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """The command, in a folder with the page's file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "dfa.py").write_text(*CODE, encoding="utf-8")

    def words(*more):
        monkeypatch.setattr(sys, "argv", ["spikeloom", *more])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert end.value.code in (None, 0), said.out + said.err
        return said.out

    yield words
    RULES._members.pop("dfa", None)
    sys.modules.pop("_file_dfa", None)


def test_its_commands_run(call):
    check, compare = COMMANDS
    assert check == "check rule ./dfa.py"
    assert re.search(r"^\d+ ok, 0 failed, \d+ skipped$", call(*shlex.split(check)), re.MULTILINE)
    table = call(*shlex.split(compare), *SMALL, "--no-controls")
    for name in ("bptt", "dfa", "dfa:pull=0.01"):
        assert re.search(rf"^{re.escape(name)} +\d", table, re.MULTILINE), table
