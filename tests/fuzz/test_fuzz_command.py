"""A handful of damaged inputs through the real command: one line on standard error, exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from damage import contents

import spikeloom

RECIPE = """
name = "tiny"
net = "c2 P f10"
data = { name = "digits", train_size = 30 }
[[stages]]
rule = "bptt"
steps = 2
epochs = 1
batch = 15
"""


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(Path(spikeloom.__file__).parents[1]),
        "SPIKELOOM_DATA": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "spikeloom", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def refused(folder: Path, *words: str) -> str:
    """Run the command, which must refuse and change nothing; return its line."""
    before = contents(folder)
    done = command(folder, *words)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert contents(folder) == before
    return done.stderr


RECIPES = {
    "control characters": RECIPE.replace('"tiny"', '"a\\u001b[31m\\nb"'),
    "a deep nest": RECIPE + "x = " + "[" * 150 + "]" * 150,
    "a deeper nest": RECIPE + "x = " + "[" * 5000 + "]" * 5000,
    "a long word": RECIPE.replace("c2 P f10", "c2 " + "P" * 100_000),
    "a number beyond floats": RECIPE.replace("batch = 15", f"optimizer.lr = 1{'0' * 400}"),
    "a net beyond memory": RECIPE.replace("c2 P f10", "f999999999999 f10"),
    "NaN in a net": RECIPE.replace('"c2 P f10"', "'c2{gain = nan} P f10'"),
    "bytes": "\udcff\udcfe",
    "nothing": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_recipes(text, tmp_path):
    (tmp_path / "r.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    line = refused(tmp_path, "train", "r.toml")
    assert line.removesuffix("\n").isprintable() and len(line) < 2200


def test_a_net_text_of_control_characters(tmp_path):
    line = refused(
        tmp_path, "compare", "--net", "c2\n\x1b[2J", "--data", "digits", "--rules", "bptt"
    )
    assert "at column 4 of 'c2\\n\\x1b[2J'" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recipe.json", "result.json"])
def test_a_damaged_run(name, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    assert command(tmp_path, "train", "r.toml", "--out", "run").returncode == 0
    file = tmp_path / "run" / name
    file.write_bytes(file.read_bytes()[:-20])
    assert name in refused(tmp_path, "train", "--resume", "run")
    assert "found a finished run" in refused(tmp_path, "train", "r.toml", "--out", "run")


@pytest.mark.slow
def test_damaged_data(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04" + bytes(60))
    text = RECIPE.replace('name = "digits", train_size = 30', 'name = "tensors", path = "a.npz"')
    (tmp_path / "r.toml").write_text(text)
    assert "a.npz: expected plain arrays" in refused(tmp_path, "train", "r.toml")
