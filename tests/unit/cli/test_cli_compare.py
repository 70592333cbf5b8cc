"""compare, from the command line to the files."""

import json
import os
import signal

import pytest
from clikit import RECIPE, command

from spikeloom.base.errors import NumericalError, Stopped
from spikeloom.compare import run as running
from spikeloom.records import storage

SMALL = ["--set", "data.train_size=40", "--set", "stages.0.epochs=1", "--set", "stages.0.steps=2"]
SMALL_NET = ["--net", "c4 P f10", "--data", "digits", "--no-controls", *SMALL]
RULES = ["--rules", "ann,bptt", "--seeds", "0", "--out", "x"]

TUNED = """
name = "tuned"
seeds = [0]
[[entries]]
label = "BPTT"
[tune]
values = { "stages.0.batch" = [10, 20] }
"""


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder that holds one recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "r.toml").write_text(RECIPE)
    return lambda *words: command(monkeypatch, capsys, *words)


@pytest.fixture
def fault(monkeypatch):
    """Let runs whose folder ends in a name end as a function says."""
    run, faults = running.train, {}

    def checked(recipe, folder, *others, **more):
        if folder.parent.name in faults:
            faults[folder.parent.name]()
        return run(recipe, folder, *others, **more)

    monkeypatch.setattr(running, "train", checked)
    return faults


def raising(error):
    def end():
        raise error

    return end


def results(folder):
    return json.loads((folder / "results.json").read_text())


class TestFolder:
    def test_is_named_after_what_is_compared(self, call, tmp_path):
        words = ["compare", *SMALL_NET, "--seeds", "0", "--quiet"]
        assert call(*words, "--rules", "ann").code == 0
        assert call(*words, "--rules", "ann,bptt").code == 0  # another comparison, nobody's folder
        sets = "data.train_size-40_stages.0.epochs-1_stages.0.steps-2"
        runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
        assert len(runs) == 2 and runs[0].startswith("digits_c4-P-f10_ann")
        assert all(sets[:20] in name for name in runs)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
        assert call(*words, "--rules", "ann,bptt").code == 0  # the same command goes on
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_out_takes_more_rules(self, call, tmp_path):
        words = ["compare", *SMALL_NET, "--seeds", "0", "--out", "x", "--quiet"]
        assert call(*words, "--rules", "ann").code == 0
        first = (tmp_path / "x" / "ann" / "seed0" / "result.json").stat().st_mtime_ns
        assert call(*words, "--rules", "ann,bptt").code == 0
        assert (tmp_path / "x" / "ann" / "seed0" / "result.json").stat().st_mtime_ns == first


class TestRunning:
    def test_rules_on_one_net(self, call, tmp_path):
        done = call(
            "compare", *SMALL_NET, "--rules", "ann,sltt:k_steps=1", "--seeds", "0,2", "--out", "x"
        )
        assert done.code == 0, done.err
        entries = results(tmp_path / "x")["entries"]
        assert [entry["label"] for entry in entries] == ["ann", "sltt:k_steps=1"]
        assert [[one["seed"] for one in e["runs"]] for e in entries] == [[0, 2]] * 2
        lines = done.out.splitlines()
        about = [line for line in lines if line.startswith(("data: ", "input: "))]
        assert len(about) == 2, "the same data are described once"
        assert lines[1:3] == about and about[0].startswith("data: digits: 40 training, 250 valid")
        assert about[1].startswith("input: [C, H, W] = [1, 8, 8]")
        del lines[1:3]
        assert [line.split(" (about")[0] for line in lines[:4]] == [
            "[1/4] ann, seed 0",
            "[2/4] sltt:k_steps=1, seed 0",
            "[3/4] ann, seed 2",
            "[4/4] sltt:k_steps=1, seed 2",
        ]
        start = next(number for number, line in enumerate(lines) if line.startswith("entry"))
        assert [line.split()[0] for line in lines[start + 2 : start + 5]] == [
            "same",
            "ann",
            "sltt:k_steps=1",
        ]
        assert "  sltt:k_steps=1  rule = sltt, rule.k_steps = 1" in lines
        assert "--explain says what they mean" in done.out and "measurement" not in done.out
        told = call("compare", *SMALL_NET, "--rules", "ann,sltt:k_steps=1", "--explain").out
        assert "ANN to compare with: " in told and "not a measurement" in told
        assert lines[-1] == "written: x/results.json, x/report.html"

    def test_controls_stand_below_the_rules(self, call, tmp_path):
        words = [word for word in SMALL_NET if word != "--no-controls"]
        done = call("compare", *words, *RULES)
        assert done.code == 0, done.err
        shown = results(tmp_path / "x")["entries"]
        assert [one["label"] for one in shown if one["control"]] == [
            "linear model",
            "hidden layers frozen",
        ]
        assert "\ncontrols: " in done.out

    def test_files(self, call, tmp_path):
        head = 'name = "two"\nseeds = [0]\n[base]\nnet = "f10"\n'
        head += 'data = { name = "digits", train_size = 40 }\n'
        head += '[[base.stages]]\nrule = "ann"\nepochs = 1\n'
        (tmp_path / "c.toml").write_text(head + "[[entries]]\nlabel = 'a'\n")
        done = call("compare", "c.toml", "r.toml", "--verbose")
        assert done.code == 0, done.err
        assert "epoch   1  loss" in done.out
        entries = results(tmp_path / "runs" / "two")["entries"]
        assert [(entry["label"], entry["block"]) for entry in entries] == [
            ("a", "common"),
            ("tiny", "native"),
        ]

    def test_tuned(self, call, tmp_path):
        base = RECIPE.replace('name = "tiny"', "[base]").replace("[[stages]]", "[[base.stages]]")
        (tmp_path / "c.toml").write_text(TUNED + base)
        done = call("compare", "c.toml", "--out", "x")
        assert done.code == 0, done.err
        assert "tuned: batch = " in done.out and "best at the edge of the grid" in done.out
        page = (tmp_path / "x" / "report.html").read_text()
        assert "best of 2 trials; best at the edge of the grid" in page

    def test_again_reads_what_is_finished(self, call, tmp_path):
        first = call("compare", *SMALL_NET, *RULES)
        before = (tmp_path / "x" / "results.json").read_bytes()
        again = call("compare", *SMALL_NET, *RULES)
        assert again.code == 0 and "[1/2]" not in again.out
        assert again.out.splitlines() == first.out.splitlines()[4:]  # two titles, data, input
        assert (tmp_path / "x" / "results.json").read_bytes() == before

    def test_a_record_that_is_none(self, call, tmp_path):
        call("compare", *SMALL_NET, *RULES)
        path = tmp_path / "x" / "ann" / "seed0" / "result.json"
        path.write_text('{"format": 2, "seed": 0, "val_accuracy": 1.0, "val_loss": 0.0}')
        done = call("compare", *SMALL_NET, *RULES)
        done.refused("x/ann/seed0/result.json: expected a run of spikeloom, got something else at ")
        assert path.exists()

    def test_a_changed_entry_needs_force(self, call, tmp_path):
        assert call("compare", *SMALL_NET, *RULES).code == 0
        changed = [*SMALL_NET, "--set", "stages.0.epochs=2", *RULES]
        call("compare", *changed).refused("got stages.0.epochs = 2; change it back")
        assert call("compare", *changed, "--force").code == 0
        assert results(tmp_path / "x")["entries"][1]["runs"][0]["epochs"] == 2

    def test_quiet(self, call):
        done = call("compare", *SMALL_NET, *RULES, "--quiet")
        assert done.code == 0 and done.out.lstrip().startswith("test ")

    def test_picks(self, call, tmp_path, monkeypatch):
        monkeypatch.setattr("spikeloom.meters.clock.WIDEST", float("inf"))  # however busy it is
        words = ["compare", *SMALL_NET, *RULES]
        done = call(*words, "--max-mb", "1000", "--max-ms", "60000")
        best = max(results(tmp_path / "x")["entries"], key=lambda e: e["runs"][0]["test_accuracy"])
        line = done.out.splitlines()[-2]
        assert line.startswith("best within 1000 MB of training memory and 60000 ms per inference")
        assert f": {best['label']} (" in line
        none = call(*words, "--max-spikes", "0.001")
        assert none.code == 0
        assert none.out.splitlines()[-2].startswith("none within 0.001 spikes per inference; near")

    def test_a_refusal_is_a_result(self, call):
        words = [
            "--net",
            "c4 M c4 f10",
            "--data",
            "digits",
            "--no-controls",
            *SMALL,
            "--seeds",
            "0",
        ]
        done = call("compare", *words, "--rules", "ann,ottt")
        assert done.code == 0 and "refused: ottt: rules.ottt: expected a linear path" in done.out
        alone = call("compare", *words, "--rules", "ottt", "--out", "y")
        assert alone.code == 1  # nothing was trained


class TestFailing:
    def test_the_others_go_on_and_the_code_is_1(self, call, fault, tmp_path):
        fault["ann"] = raising(NumericalError("training: expected a finite loss, got nan; x."))
        done = call("compare", *SMALL_NET, *RULES)
        assert (done.code, done.err) == (1, "")
        assert "ann, seed 0 failed: training: expected a finite loss, got nan; x." in done.out
        assert "failed: ann: 1 of 1 runs failed: training: expected" in done.out
        assert [len(entry["runs"]) for entry in results(tmp_path / "x")["entries"]] == [0, 1]
        fault.clear()
        again = call("compare", *SMALL_NET, *RULES)
        assert again.code == 0 and "[1/2] ann, seed 0" in again.out and "[2/2]" not in again.out

    def test_red_on_a_terminal(self, call, fault, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.delenv("NO_COLOR", raising=False)
        fault["bptt"] = raising(MemoryError())
        out = call("compare", *SMALL_NET, *RULES).out
        row = next(line for line in out.splitlines() if "bptt  " in line and "failed" in line)
        assert row.startswith("\x1b[31m") and row.endswith("\x1b[0m")


class TestStopping:
    TOLD = "stopped; finished runs are in x, the same command goes on from there.\n"

    @pytest.mark.parametrize(
        "end",
        [
            raising(KeyboardInterrupt()),
            raising(Stopped("enough")),
            lambda: os.kill(os.getpid(), signal.SIGTERM),
        ],
        ids=["interrupt", "stopped", "sigterm"],
    )
    def test_says_how_to_go_on(self, call, fault, tmp_path, end):
        before = signal.getsignal(signal.SIGTERM)
        fault["bptt"] = end
        done = call("compare", *SMALL_NET, *RULES)
        assert done.code == 130 and done.err.endswith(self.TOLD)
        assert signal.getsignal(signal.SIGTERM) == before
        assert [len(entry["runs"]) for entry in results(tmp_path / "x")["entries"]] == [1, 0]
        fault.clear()
        again = call("compare", *SMALL_NET, *RULES)
        assert again.code == 0 and again.out.startswith("[2/2] bptt, seed 0")
        assert storage.read_json(tmp_path / "x" / "bptt" / "seed0" / "result.json")

    def test_force_must_not_be_given_again(self, call, fault):
        fault["bptt"] = raising(Stopped("enough"))
        done = call("compare", *SMALL_NET, *RULES, "--force")
        assert done.err.endswith("the same command without --force goes on from there.\n")
