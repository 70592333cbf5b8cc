"""One comparison with every kind of row, through every command that reads what it leaves."""

from pathlib import Path

import numpy as np
import pytest
from clikit import command

from spikeloom.records import storage

COMPARISON = """
name = "kinds"
seeds = [0]
[base]
net = "c4 M c4 f10"
data = { name = "digits", train_size = 60 }
[[base.stages]]
rule = "bptt"
steps = 2
epochs = 1
batch = 20
[tune]
seed = 9
values = { "stages.0.optimizer.weight_decay" = [0.0, 0.1] }
[[entries]]
label = "BPTT"
[[entries]]
label = "ANN"
set = { "stages.0.rule" = "ann" }
[[entries]]
label = "OTTT"
set = { "stages.0.rule" = "ottt" }
[[entries]]
label = "two stages"
set = { stages = [
    { rule = "ann", epochs = 1, batch = 20 },
    { rule = "sltt", steps = 3, epochs = 2, batch = 20, clip = 1.0, patience = 1 },
] }
[[entries]]
label = "too fast"
[entries.set]
"net.text" = 'c4{unit = "none"} c4{unit = "none"} f10'
"stages.0.optimizer" = { name = "sgd", lr = 1e6 }
"stages.0.epochs" = 9
[[entries]]
label = "frozen"
control = true
set = { "stages.0.freeze_body" = true }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def call(monkeypatch, capsys, folder):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "1000")
    (folder / "kinds.toml").write_text(COMPARISON)
    return lambda *words: command(monkeypatch, capsys, *words)


def test_compare(call):
    done = call("compare", "kinds.toml", "--out", "x")
    assert done.code == 1 and not done.err, done.err
    assert "refused: OTTT: rules.ottt: expected a linear path" in done.out
    assert "failed: too fast: " in done.out and "lower the learning rate" in done.out
    assert "tuned: optimizer.weight_decay = " in done.out
    entries = {one["label"]: one for one in storage.read_json(Path("x/results.json"))["entries"]}
    assert [len(one["runs"]) for one in entries.values()] == [1, 1, 0, 1, 0, 1]
    (stages,) = {len(run["stages"]) for run in entries["two stages"]["runs"]}
    assert stages == 2


def test_again_changes_nothing_but_tries_what_failed(call):
    before = storage.read_json(Path("x/results.json"))
    done = call("compare", "kinds.toml", "--out", "x")
    assert done.code == 1
    titles = [line for line in done.out.splitlines() if line.startswith("[")]
    assert titles and all("too fast" in title for title in titles)
    after = storage.read_json(Path("x/results.json"))
    assert [one["runs"] for one in after["entries"]] == [one["runs"] for one in before["entries"]]


def test_the_page_and_the_table(call):
    done = call("report", "x")
    assert done.code == 0 and done.out.splitlines()[-1] == "written: x/report.html"
    page = Path("x/report.html").read_text("utf-8")
    for text in ("two stages", "too fast", "expected a linear path", "lower the learning rate"):
        assert text in page


def test_records_kept_are_read_again(call):
    shown = call("report", "x", "--markdown")
    kept = call("report", "x", "--markdown", "--records", "kept")
    again = call("report", "kept", "--markdown")
    assert kept.code == again.code == 0, again.err
    assert again.out == shown.out


@pytest.mark.parametrize("run", ["bptt", "ann", "two-stages", "frozen"])
def test_the_commands_on_a_run(call, run):
    record = storage.read_json(Path("x") / run / "seed0" / "result.json")
    shown = call("evaluate", f"x/{run}/seed0", "--json", "e.json")
    assert shown.code == 0, shown.err
    assert f"{100 * record['test_accuracy']:.2f}" in shown.out
    assert call("profile", f"x/{run}/seed0", "--samples", "20").code == 0
    np.save("a.npy", np.zeros((1, 8, 8), np.uint8))
    predicted = call("predict", f"x/{run}/seed0", "a.npy")
    assert predicted.code == 0 and "a.npy" in predicted.out
    again = call("train", "--resume", f"x/{run}/seed0")
    assert again.out.startswith("nothing left to do: the run is finished.")
