"""Stopping and going on from the command line, with real signals."""

import signal
import subprocess
import sys
import time

import pytest
from clikit import RECIPE, command

from spikeloom.records import storage
from spikeloom.train import loop, loop_stage

LONG = RECIPE.replace("epochs = 1", "epochs = 40")


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "r.toml").write_text(RECIPE)
    return lambda *words: command(monkeypatch, capsys, *words)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_saves_and_the_run_goes_on(call, monkeypatch, tmp_path, number):
    before = signal.getsignal(number)
    call("train", "r.toml", "--set", "stages.0.epochs=3", "--out", "whole")
    learn, batches = loop_stage.learn, []

    def signalled(*args, **options):
        batches.append(1)
        if len(batches) == 4:
            signal.raise_signal(number)
        return learn(*args, **options)

    monkeypatch.setattr(loop_stage, "learn", signalled)
    done = call("train", "r.toml", "--set", "stages.0.epochs=3", "--out", "x")
    assert done.code == 130
    asked, stopped = done.err.strip().splitlines()
    assert asked == "stopping after this batch; press again to stop at once."
    assert stopped == ("stopped in epoch 2 after batch 2; go on with: spikeloom train --resume x")
    assert signal.getsignal(number) is before
    done = call("train", "--resume", "x")
    assert done.code == 0 and "run folder: x" in done.out
    one, other = (storage.read_json(tmp_path / name / "result.json") for name in ("x", "whole"))
    for key in ("test_accuracy", "test_loss", "val_loss", "recipe"):
        assert one[key] == other[key]
    one, other = (tmp_path / name / "weights.safetensors" for name in ("x", "whole"))
    assert one.read_bytes() == other.read_bytes()


def test_the_second_signal_stops_at_once(call, monkeypatch):
    def twice(*_, **__):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop_stage, "learn", twice)
    done = call("train", "r.toml")
    assert done.code == 130
    assert (
        done.err.splitlines()[-1]
        == "stopped at once; `train --resume` or the same `compare` goes on from there."
    )


class TestRefusals:
    def test_nothing_to_train(self, call):
        call("train").refused("expected a recipe file or --resume RUN, got none")

    def test_resume_and_another_place(self, call):
        call("train", "--resume", "x", "--out", "y").refused("--resume without --out and --force")

    def test_resume_and_changes(self, call):
        call("train", "r.toml", "--out", "x")
        for change in (["--set", "seed=3"], ["--seed", "3"], ["--precision", "64-true"]):
            call("train", "--resume", "x", *change).refused("a resumed run keeps its recipe")

    def test_resume_with_other_processes(self, call, monkeypatch):
        call("train", "r.toml", "--out", "x")
        call("train", "--resume", "x", "--devices", "2").refused("expected 1 as --devices")
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        monkeypatch.setenv("WORLD_SIZE", "2")
        call("train", "--resume", "x").refused("with which the run began, got 2")
        done = call("train", "r.toml", "--devices", "1")
        done.refused("one process for each that torchrun started, 2, got 1")

    def test_resume_of_nothing(self, call, tmp_path):
        call("train", "--resume", "x").refused("x: expected the folder of a run, found no recipe")
        assert not (tmp_path / "x").exists()

    def test_resume_with_another_recipe(self, call):
        call("train", "r.toml", "--out", "x")
        done = call("train", "r.toml", "--resume", "x", "--seed", "4")
        done.refused("differs in seed (0 there, 4 here)")

    def test_resume_with_the_same_recipe(self, call):
        first = call("train", "r.toml", "--out", "x")
        again = call("train", "r.toml", "--resume", "x")
        assert again.code == 0
        assert again.out.splitlines()[0] == "nothing left to do: the run is finished."
        assert again.out.splitlines()[1:] == first.out.splitlines()[7:]

    def test_more_processes_than_cores(self, call):
        done = call("train", "r.toml", "--device", "cpu", "--devices", "1000", "--out", "x")
        done.refused("processor cores of this machine, got 1000; use fewer")

    def test_a_record_that_is_none(self, call, tmp_path):
        call("train", "r.toml", "--out", "x")
        for content in ("{}", '{"format": 2, "seed": 0}'):
            (tmp_path / "x" / "result.json").write_text(content)
            call("train", "--resume", "x").refused("x/result.json: expected a run of spikeloom")

    def test_a_recipe_in_the_folder_that_is_damaged(self, call, tmp_path):
        call("train", "r.toml", "--out", "x")
        (tmp_path / "x" / "recipe.json").write_text("{")
        call("train", "--resume", "x").refused("x/recipe.json: expected a JSON record")


def test_a_folder_in_use(call, tmp_path):
    (tmp_path / "long.toml").write_text(LONG.replace("train_size = 40", "train_size = 1000"))
    words = [sys.executable, "-m", "spikeloom", "train", "long.toml", "--out", "x"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL) as other:
        while not (tmp_path / "x" / "recipe.json").exists():
            time.sleep(0.05)
            assert other.poll() is None
        try:
            call("train", "--resume", "x").refused("found one in use; wait for it")
            call("train", "r.toml", "--out", "x", "--force").refused("found one in use")
        finally:
            other.kill()
    done = call("train", "r.toml", "--out", "x", "--force")
    assert done.code == 0


class TestBeforeTraining:
    """The first signal ends the command at once, where nothing could be lost."""

    BEFORE = "stopped before training began: nothing is lost, the same command begins again.\n"

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("place", ["load", "set_up_first", "environment"])
    def test_while_it_is_prepared(self, call, monkeypatch, tmp_path, number, place):
        monkeypatch.setattr(loop, place, lambda *_, **__: signal.raise_signal(number))
        done = call("train", "r.toml", "--out", "x")
        assert (done.code, done.err) == (130, self.BEFORE)
        assert not (tmp_path / "x" / "recipe.json").exists()
        monkeypatch.undo()

    @pytest.mark.parametrize("place", ["predict_memory", "learn"])
    def test_while_kernels_are_compiled_for_the_first_batch(self, call, monkeypatch, place):
        monkeypatch.setattr(loop_stage, place, lambda *_, **__: signal.raise_signal(signal.SIGINT))
        done = call("train", "r.toml", "--out", "x")
        assert done.code == 130
        assert done.err == (
            "stopped at once; `train --resume` or the same `compare` goes on from there.\n"
        )

    def test_between_two_runs_of_a_comparison(self, call, monkeypatch, tmp_path):
        real, builds = loop.set_up_first, []

        def second(*args, **options):
            builds.append(1)
            if len(builds) == 2:
                signal.raise_signal(signal.SIGTERM)
                builds.append(1)  # it did not end there
            return real(*args, **options)

        monkeypatch.setattr(loop, "set_up_first", second)
        words = ["--net", "c4 P f10", "--data", "digits", "--rules", "bptt", "--seeds", "0,1"]
        small = ["--set", "data.train_size=40", "--set", "stages.0.epochs=1", "--quiet"]
        done = call("compare", *words, *small, "--out", "x")
        assert done.code == 130 and len(builds) == 2
        assert done.err == (
            "stopped; finished runs are in x, the same command goes on from there.\n"
        )
        assert (tmp_path / "x" / "bptt" / "seed0" / "result.json").exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_while_libraries_are_imported(self, number):
        """No exception passes through them: the process ends."""
        script = (
            "import signal, sys\n"
            "class Library:\n"
            "    def find_spec(self, name, *_):\n"
            "        if name == 'typer':\n"
            "            try:\n"
            f"                signal.raise_signal({int(number)})\n"
            "            except BaseException:\n"
            "                print('swallowed')\n"
            "sys.meta_path.insert(0, Library())\n"
            "from spikeloom.__main__ import main\n"
            "main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"stopped.\n")

    def test_another_command(self, call, monkeypatch):
        call("train", "r.toml", "--out", "x")
        monkeypatch.setattr(
            "spikeloom.inference.opening.open_run",
            lambda *_, **__: signal.raise_signal(signal.SIGTERM),
        )
        done = call("evaluate", "x")
        assert (done.code, done.err) == (130, "stopped.\n")
