"""A comparison killed at any moment and started again ends as one that ran through."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import spikeloom
from trainkit import without_times

pytestmark = pytest.mark.long

FILE = """
name = "k"
seeds = [0, 1]
[base]
net = "c4 P f10"
data = { name = "digits", train_size = 200 }
[[base.stages]]
rule = "bptt"
steps = 3
epochs = 4
batch = 10
[tune]
epochs = 1
values = { "stages.0.optimizer.lr" = [1e-3, 1e-2] }
[[entries]]
label = "BPTT"
[[entries]]
label = "SLTT"
set = { "stages.0.rule" = "sltt" }
"""
WITH_TORCH_LOADED = """
import sys, torch
torch.set_num_threads(1)
from spikeloom.cli.main import main
print("ready", flush=True)
sys.argv[0] = "spikeloom"
main()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """Start the command and wait until its libraries are loaded."""
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_TORCH_LOADED, "compare", "k.toml", "--out", "x"],
        cwd=folder,
        env={"PYTHONPATH": str(Path(spikeloom.__file__).parents[1]), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def ended(folder: Path) -> list[dict]:
    """Run the command to its end; return its entries."""
    process = start(folder)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return json.loads((folder / "x" / "results.json").read_text())["entries"]


def comparable(entry: dict) -> dict:
    return entry | {"runs": [without_times(run) for run in entry["runs"]]}


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    (whole := tmp_path / "whole").mkdir()
    (parts := tmp_path / "parts").mkdir()
    for folder in (whole, parts):
        (folder / "k.toml").write_text(FILE)
    begun = time.perf_counter()
    expected = ended(whole)
    lasted = time.perf_counter() - begun
    moments, kills = random.Random(0), 0
    for _ in range(8):
        process = start(parts)
        try:
            process.wait(moments.uniform(0.05, 0.5) * lasted)
        except subprocess.TimeoutExpired:
            kills += 1
        process.kill()
        process.communicate()
        stored = parts / "x" / "results.json"
        if stored.exists():
            assert json.loads(stored.read_text())["format"] == 2
    assert kills >= 1
    times = {path: path.stat().st_mtime_ns for path in (parts / "x").glob("**/result.json")}
    entries = ended(parts)
    assert [*map(comparable, entries)] == [*map(comparable, expected)]
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())  # not trained again
