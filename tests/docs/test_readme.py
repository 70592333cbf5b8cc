"""README: short, in the order a newcomer needs, and its commands run as they are pasted."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for line in TEXT.splitlines() if line.startswith("spikeloom ")]


def test_it_is_short_and_in_order():
    assert len(TEXT.splitlines()) <= 150
    titles = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert titles[:5] == [
        "Install",
        "First command",
        "Your own comparison",
        "Your own data",
        "As a library",
    ]


def test_it_has_commands():
    assert len(COMMANDS) >= 3 and "spikeloom compare demo" in COMMANDS


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_as_pasted(command, tmp_path):
    """In an empty folder, but for the pictures that one command asks for."""
    rng = np.random.default_rng(0)
    for label, level in (("dark", 60), ("middle", 130), ("light", 200)):
        folder = tmp_path / "my_pictures" / label
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(level - 40, level + 40, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    words = [sys.executable, "-m", *shlex.split(command)]
    environment = os.environ | {"SPIKELOOM_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "controls: " in done.stdout and "written: " in done.stdout
