"""Output to where there is no Unicode: every command, no error, columns as wide as they were."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from clikit import RECIPE, command
from PIL import Image
from runkit import make_run

from spikeloom.cli.plain import NEAR, plain_output

ENCODINGS = ("ascii", "cp1252", "cp437", "latin-1", "utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "snn")
    Image.new("L", (8, 8), 90).save(folder / "ünï→.png")
    (folder / "r.toml").write_text(RECIPE)
    return folder


COMMANDS = {
    "help": ["--help"],
    "help of a command": ["train", "--help"],
    "rules": ["list", "rules"],
    "nets": ["list", "nets"],
    "data": ["list", "data"],
    "evaluate": ["evaluate", "snn", "--exit-margin", "0.1"],
    "predict": ["predict", "snn", "ünï→.png", "--over-time"],
    "profile": ["profile", "snn", "--samples", "20"],
    "report": ["report", "snn", "--out", "page.html"],
    "train": ["train", "r.toml", "--out", "t→", "--force"],
    "a mistake": ["train", "nö→.toml"],
}


class Stream(io.TextIOWrapper):
    """Standard output into a pipe of some encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", newline="")

    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [(name, one) for name in COMMANDS for one in ENCODINGS if name != "train" or one == "ascii"],
)
def test_every_command(name, encoding, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    out, err = Stream(encoding), Stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    done = command(monkeypatch, capsys, *COMMANDS[name])
    assert done.code == (2 if name == "a mistake" else 0), err.text()
    assert out.text() or err.text()
    assert "Traceback" not in err.text()


def written(text: str, encoding: str, monkeypatch) -> str:
    stream = Stream(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    plain_output()
    stream.write(text)
    return stream.text()


def test_columns_stand(monkeypatch):
    table = "  98.0 ± 0.3  x\n 100.0 ± 1.2  y\n   7 → 3     z\n  ████▌       end ±\n"
    plain = "  98.0 +-0.3  x\n 100.0 +-1.2  y\n   7 > 3     z\n  ####=       end +-\n"
    assert written(table, "ascii", monkeypatch) == plain
    assert written(table, "cp1252", monkeypatch) == plain.replace("+-0.3", "± 0.3").replace(
        "+-1.2", "± 1.2"
    ).replace("end +-", "end ±")
    assert written(table, "utf-8", monkeypatch) == table


def test_other_signs(monkeypatch):
    assert written("naïve Zürich 漢字 \udcff ß", "ascii", monkeypatch) == "naive Zurich ?? ? ?"
    assert written("a \udcff b", "utf-8", monkeypatch) == "a ? b"


def test_signs_stand_for_one_another_in_width():
    assert all(near.isascii() for near in NEAR.values())
    assert [sign for sign, near in NEAR.items() if len(near) != 1] == ["±"]


def test_signs_of_the_commands_are_known():
    """What the commands print beyond ASCII has something near it, not a question mark."""
    package = Path(plain_output.__code__.co_filename).parents[1]
    files = [*(package / "cli").glob("*.py"), package / "report" / "table.py"]
    signs = {sign for file in files for sign in file.read_text("utf-8") if not sign.isascii()}
    assert signs <= set(NEAR)


@pytest.mark.slow
def test_a_real_pipe(tmp_path):
    script = "import sys; from spikeloom.cli.main import main; sys.argv = ['s', 'list', 'nets']; "
    script += "main()"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", script],
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii() and b"preact-resnet18" in done.stdout
