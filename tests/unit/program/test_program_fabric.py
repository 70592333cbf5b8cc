"""One plain process computes what Lightning Fabric computes, to the bit, and does not import it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spikeloom.base.errors import ConfigError, Stopped
from spikeloom.program import fabric as places
from spikeloom.program import setup
from spikeloom.program.fabric import PlainProcess, make_fabric
from spikeloom.records.storage import read_json, read_lines
from spikeloom.train import loop
from spikeloom.train.loop import train
from trainkit import recipe, tiny, without_times

PLAIN = {
    "float32": {"net": 'c4{norm = "batch_step", dropout = 0.2} P f3', "encoder": "poisson"},
    "float64": {"precision": "64-true", "stages.0.rule": "sltt"},
    "stochmax": {"head": "stochmax", "seed": 3, "stages.0.optimizer": {"name": "sgd", "lr": 0.1}},
}

ALONE = """
import sys
from pathlib import Path
from trainkit import recipe, tiny
from spikeloom.train.loop import train
train(recipe(), Path(sys.argv[1]), splits=tiny())
absent = {"lightning", "sklearn", "datasets", "pandas", "plotly", "pyarrow"}
print(*absent & set(sys.modules))
"""


def with_lightning(monkeypatch) -> list[object]:
    """Let runs use Lightning Fabric whatever they need; return what was made."""
    made = []

    def make(one, *, processes=None):
        del processes
        made.append(places._lightning(one, 1, cuda=False))
        return made[-1]

    monkeypatch.setattr(loop, "make_fabric", make)
    monkeypatch.setattr(setup, "make_fabric", make)
    return made


def trained(out: Path, changes: dict, *, stop_at: int | None = None) -> dict[str, object]:
    """Train, perhaps in two attempts; return all that a run leaves but times."""
    one = recipe(changes)
    if stop_at is not None:
        polls = iter(range(stop_at + 1))
        with pytest.raises(Stopped):
            train(one, out, splits=tiny(), stop=lambda: next(polls) == stop_at)
    record = train(one, out, splits=tiny(), resume=stop_at is not None).record
    curve = [
        {key: value for key, value in entry.items() if key != "seconds"}
        for entry in read_lines(out / "metrics.jsonl")
    ]
    return {
        "record": without_times(record),
        "curve": curve,
        "weights": (out / "weights.safetensors").read_bytes(),
        "environment": read_json(out / "environment.json"),
    }


@pytest.mark.parametrize("stop_at", [None, 4])
@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_process_leaves_what_fabric_leaves(name, stop_at, tmp_path, monkeypatch):
    plain = trained(tmp_path / "plain", PLAIN[name], stop_at=stop_at)
    made = with_lightning(monkeypatch)
    assert trained(tmp_path / "fabric", PLAIN[name], stop_at=stop_at) == plain
    assert {type(one).__name__ for one in made} == {"Fabric"}


class TestWhoNeedsFabric:
    def test_one_process_at_full_precision_does_not(self):
        assert make_fabric(recipe({"device": "cpu"})) == PlainProcess(torch.device("cpu"))
        double = make_fabric(recipe({"device": "cpu", "precision": "64-true"}))
        assert double == PlainProcess(torch.device("cpu"), "64-true")
        with double.autocast():
            assert torch.zeros(1).dtype is torch.float64
        assert torch.zeros(1).dtype is torch.float32

    def test_the_default_type_comes_back_after_an_error(self):
        with pytest.raises(KeyError), PlainProcess(torch.device("cpu"), "64-true").autocast():
            raise KeyError
        assert torch.get_default_dtype() is torch.float32

    def test_a_cuda_device_is_the_first(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert make_fabric(recipe()).device == torch.device("cuda", 0)
        assert make_fabric(recipe({"device": "cpu"})).device == torch.device("cpu")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"devices": 2}, r"^devices: expected the library lightning for 2 processes, got none"),
            (
                {"precision": "bf16-mixed"},
                r"^precision: expected the library lightning for bf16-mixed, got none",
            ),
        ],
    )
    def test_others_say_which_extra_brings_it(self, changes, message, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "lightning", None)
        end = r"; pip install 'spikeloom\[fabric\]'\.$"
        out = tmp_path / "run"
        with pytest.raises(ConfigError, match=message + end):
            train(recipe({"device": "cpu"} | changes), out, splits=tiny())
        assert not out.exists()

    def test_lightning_is_not_imported(self, tmp_path):
        """Nor anything else that a plain installation lacks."""
        paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        done = subprocess.run(
            [sys.executable, "-c", ALONE, str(tmp_path / "run")],
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == []
