"""Runs that survive: killed anywhere, stopped, resumed, refused; always the same end to the bit."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spikeloom.base.errors import ConfigError, DataError, NumericalError, Stopped
from spikeloom.records import checkpoint, names, storage
from spikeloom.records.run import RunRecord
from spikeloom.train import loop_stage, runs
from spikeloom.train.loop import train
from spikeloom.train.state import Stored
from trainkit import recipe, same, tiny, without_times

pytestmark = pytest.mark.long

TWO_STAGES = {
    "net": 'c4{norm = "batch_step", dropout = 0.2} P f3',
    "encoder": "poisson",
    "head": "stochmax",
    "stages": [
        {"rule": "ann", "epochs": 2, "batch": 20, "select": "best"},
        {
            "rule": {"name": "sltt", "k_steps": 2},
            "steps": 3,
            "epochs": 3,
            "batch": 16,
            "optimizer": {"name": "radam", "lr": 0.02},
            "schedule": {"name": "cosine", "warmup": 1.5},
            "clip": 0.5,
        },
    ],
}
SGD = {"stages.0.optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "stages.0.epochs": 3}
ONLINE = {"stages.0.rule": {"name": "ottt", "update": "online"}, "stages.0.steps": 3}
CASES = {"two stages": TWO_STAGES, "sgd": SGD, "online": ONLINE}


def run(changes, out=None, **options):
    return train(recipe(changes), out, splits=tiny(), **options)


def end_of(folder: Path) -> tuple[dict, dict]:
    record = storage.read_json(folder / names.RESULT)
    assert storage.read_lines(folder / names.METRICS) == record["curve"]
    return without_times(record), checkpoint.read_tensors(folder / names.WEIGHTS)[0]


def assert_same_end(folder: Path, other: Path) -> None:
    (record, weights), (record2, weights2) = end_of(folder), end_of(other)
    assert same(weights, weights2)
    assert record == record2


def in_child(work) -> int:
    """Run something in a process of its own; return the signal that killed it, 0 for none."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # whatever it is, the child must not return into pytest
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the run failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


class Bomb:
    """Kills its own process at the n-th event: a batch, or a moment of writing a file."""

    def __init__(self, fuse: int) -> None:
        self.fuse = fuse

    def tick(self) -> None:
        self.fuse -= 1
        if self.fuse < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def plant(self) -> None:
        fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

        def before_sync(number):
            self.tick()
            fsync(number)
            self.tick()

        def around_replace(path, target):
            replace(path, target)
            self.tick()

        def around_unlink(path, missing_ok=False):
            unlink(path, missing_ok=missing_ok)
            self.tick()

        os.fsync, Path.replace, Path.unlink = before_sync, around_replace, around_unlink


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The end of each case when nobody disturbs it."""
    folders = {}
    for name, changes in CASES.items():
        folders[name] = tmp_path_factory.mktemp("whole")
        run(changes, folders[name])
    return folders


@pytest.mark.parametrize(
    ("case", "stride"),
    [
        *(("two stages", 11), ("sgd", 7), ("online", 7)),
        pytest.param("two stages", 1, marks=pytest.mark.slow),
    ],
)
def test_killed_at_every_moment_of_writing(tmp_path, whole, case, stride):
    """At some of them by default, and at all of them where time does not matter."""
    fuse, deaths = 0, 0
    while True:
        folder = tmp_path / str(fuse)
        bomb = Bomb(fuse)

        def first(bomb=bomb, folder=folder):
            bomb.plant()
            run(CASES[case], folder, stop=lambda: bool(bomb.tick()), final=False)

        if in_child(first) == 0:
            break
        deaths += 1
        run(CASES[case], folder, resume=True, final=False)
        (record, weights), (record2, weights2) = end_of(folder), end_of(whole[case])
        assert same(weights, weights2)
        assert record.pop("final") is False
        assert record == {key: record2[key] for key in record}
        assert not list(folder.glob(".*.tmp"))
        fuse += stride
    assert deaths > 4


@pytest.mark.parametrize("case", CASES)
def test_killed_again_and_again_at_random(tmp_path, whole, case, monkeypatch):
    """Every batch is saved, and each life is short; no life undoes what an earlier one did."""
    monkeypatch.setattr(loop_stage, "SAVE_SECONDS", 0.0)
    draw = random.Random(case)
    lives = 0
    while True:
        bomb = Bomb(draw.randrange(25, 60))

        def life(bomb=bomb):
            bomb.plant()
            run(CASES[case], tmp_path, resume=True, stop=lambda: bool(bomb.tick()))

        lives += 1
        if in_child(life) == 0:
            break
        assert lives < 100
    assert lives > 1
    assert_same_end(tmp_path, whole[case])


def test_killed_by_the_clock(tmp_path, whole):
    """Real signals at real times, wherever they hit."""
    draw = random.Random(0)
    for number in range(4):
        folder = tmp_path / str(number)
        child = os.fork()
        if child == 0:
            try:
                run(TWO_STAGES, folder)
            finally:
                os._exit(0)
        time.sleep(draw.uniform(0, 0.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        run(TWO_STAGES, folder, resume=True)
        assert_same_end(folder, whole["two stages"])


class TestStop:
    @pytest.mark.parametrize("after", [0, 1, 3, 5, 8, 12, 14, 16, 17])
    def test_saves_and_says_how_to_go_on(self, tmp_path, whole, after):
        asked = iter([False] * after + [True] * 99)
        with pytest.raises(Stopped, match=f"go on with: spikeloom train --resume {tmp_path}"):
            run(TWO_STAGES, tmp_path, stop=lambda: next(asked))
        assert not (tmp_path / names.RESULT).exists()
        run(TWO_STAGES, tmp_path, resume=True)
        assert_same_end(tmp_path, whole["two stages"])

    def test_one_batch_a_life(self, tmp_path, whole):
        lives = 0
        while not (tmp_path / names.RESULT).exists():
            asked = iter([False, True])
            try:
                run(TWO_STAGES, tmp_path, resume=True, stop=lambda asked=asked: next(asked))
            except Stopped:
                lives += 1
            assert lives < 60
        assert lives > 15
        assert_same_end(tmp_path, whole["two stages"])

    def test_before_the_first_batch(self, tmp_path, monkeypatch):
        monkeypatch.setattr(loop_stage, "memory_warning", lambda *_: "too much.")
        with pytest.raises(Stopped):
            run({}, tmp_path, stop=lambda: True)
        record = run({}, tmp_path, resume=True).record
        assert record.warnings == ("too much.",)
        assert record.costs.training.predicted_bytes > 0

    def test_without_a_folder(self):
        with pytest.raises(Stopped, match=r"stopped in epoch 1 after batch 0\.$"):
            run({}, stop=lambda: True)


class TestResume:
    def test_begins_in_an_empty_folder(self, tmp_path, whole):
        run(SGD, tmp_path, resume=True)
        assert_same_end(tmp_path, whole["sgd"])

    def test_a_finished_run_is_returned_as_it_is(self, tmp_path, monkeypatch):
        record = run({}, tmp_path).record
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        monkeypatch.setattr(loop_stage, "learn", None)
        again = run({}, tmp_path, resume=True)
        assert again.record == record and again.bench is None
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def test_of_another_recipe_is_refused(self, tmp_path):
        run({}, tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ConfigError, match=r"differs in stages.0.steps \(2 there, 5 here\)"):
            run({"stages.0.steps": 5}, tmp_path, resume=True)
        with pytest.raises(ConfigError, match="differs in seed"):
            run({"seed": 5}, tmp_path, resume=True)
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def test_an_unfinished_run_is_not_replaced_unasked(self, tmp_path):
        asked = iter([False] * 4 + [True])
        with pytest.raises(Stopped):
            run({}, tmp_path, stop=lambda: next(asked))
        with pytest.raises(ConfigError, match="found an unfinished run; go on with --resume"):
            run({}, tmp_path)
        run({"seed": 3}, tmp_path, overwrite=True)
        assert storage.read_json(tmp_path / names.RESULT)["seed"] == 3

    def test_on_other_software_is_said(self, tmp_path):
        asked = iter([False] * 4 + [True])
        with pytest.raises(Stopped):
            run({}, tmp_path, stop=lambda: next(asked))
        environment = storage.read_json(tmp_path / names.ENVIRONMENT)
        environment["packages"]["torch"] = "1.0"
        storage.write_record(tmp_path / names.ENVIRONMENT, environment)
        record = run({}, tmp_path, resume=True).record
        (warning,) = record.warnings
        assert warning.startswith("resumed with other torch (1.0, now ")

    def test_a_trial_becomes_a_run(self, tmp_path):
        trial = run({}, tmp_path, final=False).record
        assert not isinstance(trial, RunRecord) and trial.val_accuracy >= 0
        assert run({}, tmp_path, resume=True, final=False).bench is None
        record = run({}, tmp_path, resume=True).record
        assert record.val_accuracy == trial.val_accuracy and record.test_samples == 30


class TestDamage:
    @pytest.fixture
    def stopped(self, tmp_path):
        asked = iter([False] * 4 + [True])
        with pytest.raises(Stopped):
            run({}, tmp_path, stop=lambda: next(asked))
        return tmp_path

    @pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04\x95cposix\nsystem\n"])
    def test_a_foreign_state_is_one_error(self, stopped, content):
        (stopped / names.STATE).write_bytes(content)
        with pytest.raises(DataError, match="state.safetensors: expected a safetensors file"):
            run({}, stopped, resume=True)
        assert (stopped / names.STATE).read_bytes() == content

    def test_a_state_of_another_recipe(self, stopped, tmp_path):
        other = tmp_path / "other"
        asked = iter([False] * 4 + [True])
        with pytest.raises(Stopped):
            run({"seed": 1}, other, stop=lambda: next(asked))
        (stopped / names.STATE).write_bytes((other / names.STATE).read_bytes())
        with pytest.raises(ConfigError, match="got one of another recipe"):
            run({}, stopped, resume=True)

    @pytest.mark.parametrize("lost", ["weights.net", "optimizer.0", "generator", "weights.head"])
    def test_a_tensor_that_is_gone(self, stopped, lost):
        tensors, extra = checkpoint.read_tensors(stopped / names.STATE)
        kept = {name: one for name, one in tensors.items() if not name.startswith(lost)}
        assert len(kept) < len(tensors)
        save_file(kept, stopped / names.STATE, metadata=extra)
        with pytest.raises(DataError, match="by their checksum"):
            run({}, stopped, resume=True)

    def test_a_single_bit(self, stopped):
        content = bytearray((stopped / names.STATE).read_bytes())
        content[-40] ^= 1  # in the last tensor
        (stopped / names.STATE).write_bytes(content)
        with pytest.raises(DataError, match="by their checksum"):
            run({}, stopped, resume=True)

    def test_a_newer_format(self, stopped):
        tensors, extra = checkpoint.read_tensors(stopped / names.STATE)
        checkpoint.write_weights(stopped / names.STATE, tensors, extra | {"format": "99"})
        with pytest.raises(DataError, match="at most, got 99 from a newer spikeloom"):
            run({}, stopped, resume=True)

    def test_a_full_disk_leaves_the_last_good_state(self, tmp_path, monkeypatch, whole):
        sync, left = os.fsync, 9

        def full(number):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(28, "No space left on device")
            sync(number)

        monkeypatch.setattr(storage.os, "fsync", full)
        with pytest.raises(ConfigError, match="'No space left on device'; .* free some space"):
            run(SGD, tmp_path)
        monkeypatch.setattr(storage.os, "fsync", sync)
        assert not list(tmp_path.glob(".*.tmp"))
        assert Stored(tmp_path / names.STATE, recipe(SGD)).state.epoch > 0
        run(SGD, tmp_path, resume=True)
        assert_same_end(tmp_path, whole["sgd"])

    def test_two_runs_in_one_folder(self, tmp_path):
        half = tmp_path / f".{names.STATE}.1.tmp"  # the other one is just writing
        with runs.locked(tmp_path):
            half.touch()
            with pytest.raises(ConfigError, match="found one in use"):
                run({}, tmp_path)
            assert half.exists()
        run({}, tmp_path)
        assert not half.exists()

    def test_a_value_that_blows_up_keeps_the_state(self, tmp_path, monkeypatch):
        calls = iter(range(99))
        step = torch.optim.AdamW.step

        def poisoned(self, closure=None):
            step(self, closure)
            if next(calls) == 4:
                with torch.no_grad():
                    self.param_groups[0]["params"][0].fill_(float("nan"))

        monkeypatch.setattr(torch.optim.AdamW, "step", poisoned)
        with pytest.raises(
            NumericalError, match=r"epoch 2: .* layer 0.0.0, step 0; .*keeps epoch 1\."
        ):
            run({}, tmp_path)
        monkeypatch.setattr(torch.optim.AdamW, "step", step)
        whole = run({}).record
        assert without_times(run({}, tmp_path, resume=True).record) == without_times(whole)
