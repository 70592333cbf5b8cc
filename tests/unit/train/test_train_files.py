"""How much of the package an update runs through, once everything is compiled and decided."""

import sys
from pathlib import Path

import torch

import spikeloom
from spikeloom.data import splits_from_tensors
from spikeloom.program.learn import learn
from spikeloom.program.recipe import build_recipe
from spikeloom.program.setup import make_optimizer, set_up
from spikeloom.train.commit import TrainingCommit

ROOT = Path(spikeloom.__file__).parent
DEMO = "c16 c32 P f64 f10"


def files_of_an_update(rule):
    """Files with a function that runs between `learn` and the end of `commit`, and the calls."""
    x = torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    splits = splits_from_tensors(x, torch.arange(96) % 10, test=16, validation=16)
    net = {"text": DEMO, "unit": {"name": "lif", "alpha": 0.5}}
    stage = {"rule": rule, "steps": 8, "epochs": 1}
    table = {"name": "demo", "net": net, "data": "digits", "stages": [stage]}
    bench = set_up(build_recipe(table, "demo"), splits)
    bench.set_training()
    trained = [one for _, one in bench.parameters()]
    commit = TrainingCommit(bench, make_optimizer(bench.stage.optimizer, trained))
    seen = []

    def note(frame, event, arg):
        if event == "call":
            seen.append(frame.f_code.co_filename)

    for last in (False, False, True):
        batch = bench.batch(splits.train, torch.arange(64), epoch=0, part="train")
        commit.begin(batch, 64)
        before = sys.getprofile()
        if last:
            sys.setprofile(note)
        try:
            learn(bench, batch, commit)
        finally:
            sys.setprofile(before)
    ours = [Path(name) for name in seen if Path(name).is_relative_to(ROOT)]
    return {str(path.relative_to(ROOT)) for path in ours}, len(ours)


def test_an_update_runs_through_few_files():
    # 37 files and 733 calls before decisions lasted from call to call
    files, calls = files_of_an_update({"name": "bptt", "loss": "step"})
    assert len(files) <= 26, sorted(files)
    assert calls <= 600
    assert {"rules/bptt.py", "nets/walk/trains.py", "kernels/runs.py", "train/commit.py"} <= files
