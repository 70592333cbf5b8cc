"""Several processes: the same weights as one, and a clean end when one of them is lost."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from two_processes import EVERY, REST, SOME, train_all, trained

from forked import Pair
from spikeloom import __main__ as program
from spikeloom.base.errors import ConfigError, NumericalError
from spikeloom.inference import evaluate
from spikeloom.program.fabric import PlainProcess, make_fabric
from spikeloom.program.processes import Team
from spikeloom.program.setup import set_up
from spikeloom.records import checkpoint, storage
from spikeloom.records.files import open_epochs
from spikeloom.rules.bptt import Bptt
from trainkit import bench, recipe, tiny

pytestmark = pytest.mark.long

LONG = """
name = "long"
net = "c4 P f10"
data = { name = "digits", train_size = 300 }
device = "cpu"
devices = 2
[[stages]]
rule = "sltt"
steps = 2
epochs = 30
batch = 20
"""


def in_two(out: Path, names: list[str]) -> Path:
    """Train cases in two processes."""
    both = Pair(lambda: train_all(out, names), out)
    _, err = both.communicate(timeout=1200)
    assert both.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def some_in_two(tmp_path_factory):
    return in_two(tmp_path_factory.mktemp("some"), SOME)


@pytest.fixture(scope="module")
def rest_in_two(tmp_path_factory):
    return in_two(tmp_path_factory.mktemp("rest"), REST)


@pytest.mark.parametrize("name", SOME)
def test_weights_equal_those_of_one_process(some_in_two, name):
    assert_equal_to_one(some_in_two, name, SOME.index(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", REST)
def test_weights_of_every_other_rule_and_net_do_too(rest_in_two, name):
    assert_equal_to_one(rest_in_two, name, REST.index(name))


def assert_equal_to_one(folder: Path, name: str, number: int) -> None:
    """float64: to 1e-12 over 15 commits, bptt over 100; float32: one commit to 1e-6."""
    bound = 1e-12 if name.startswith("64") else 1e-6
    weights, state = trained(name, None)
    start = trained_from_nothing(name)
    for rank in (0, 1):
        other = checkpoint.read_tensors(folder / f"{number}.{rank}")[0]
        assert other.keys() == weights.keys()
        for key, tensor in weights.items():
            gap = (tensor.double() - other[key].double()).abs().max().item()
            assert gap <= bound * max(1.0, tensor.double().abs().max().item()), (key, gap)
    assert any(not torch.equal(start[key], weights[key]) for key in weights)
    curve = open_epochs(folder / f"{number}.curve")
    for one, other in zip(state.curve, curve, strict=True):
        assert one.accuracy == other.accuracy
        assert one.val_accuracy == other.val_accuracy
        assert one.loss == pytest.approx(other.loss, rel=1e-4 if bound > 1e-9 else 1e-9)


def trained_from_nothing(name: str) -> dict[str, torch.Tensor]:
    return set_up(recipe(EVERY[name]), tiny()).modules().state_dict()


class Alone:
    global_rank, world_size, device = 0, 1, torch.device("cpu")


class TestTeamOfOne:
    team = Team(Alone())  # pyright: ignore[reportArgumentType]

    def test_takes_everything(self):
        index = torch.arange(5)
        assert self.team.share(index) is index
        assert self.team.sums(1, 2.5) == [1, 2.5] and self.team.any(True, False) == [True, False]
        assert self.team.gather({"a": 1}) == [{"a": 1}]

    def test_raises_its_own_errors(self):
        self.team.agree(None)
        with pytest.raises(NumericalError, match="^here$"):
            self.team.agree(NumericalError("here"))


def test_a_fault_in_an_evaluation_keeps_all_in_step(monkeypatch):
    """The others ask at every batch whether to stop; who fails must go on asking with them."""

    def fails(*_):
        raise NumericalError("here")

    monkeypatch.setattr(evaluate, "check_loss", fails)
    monkeypatch.setattr(evaluate, "EVALUATION_BATCH", 10)
    one, polls = bench(), []
    with pytest.raises(NumericalError, match="^here$"):
        evaluate.evaluate(one, one.splits.test, "test", poll=lambda: polls.append(1))
    assert len(polls) == 3


class TestTooMany:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="counts processes on the CPU")
    def test_for_the_machine(self):
        with pytest.raises(ConfigError, match="devices: expected at most the .* got 1000; use few"):
            make_fabric(recipe({"devices": 1000}))

    @pytest.mark.parametrize(("batch", "size"), [(1, 2), (3, 4)])
    def test_for_the_smallest_batch(self, monkeypatch, batch, size):
        monkeypatch.setattr(PlainProcess, "world_size", size)
        one = recipe({"stages.0.batch": batch})
        with pytest.raises(ConfigError, match=f"at most {batch} processes for batches of {batch}"):
            set_up(one, tiny(), fabric=make_fabric(one, processes=1))

    def test_for_a_rule_that_is_not_linear_in_the_batch(self, monkeypatch):
        monkeypatch.setattr(PlainProcess, "world_size", 2)
        monkeypatch.setattr(Bptt, "facts", replace(Bptt.facts, linear_in_batch=False))
        with pytest.raises(ConfigError, match="expected 1 process for rule 'bptt'"):
            set_up(recipe(), tiny(), fabric=make_fabric(recipe(), processes=1))

    def test_for_a_solver_whose_samples_a_norm_couples(self, monkeypatch):
        """Each would take as many products as its own samples need, and wait for the others."""
        monkeypatch.setattr(PlainProcess, "world_size", 2)
        net = (
            '{feedback = [{source = 1, target = 0, layers = "c4"}]} '
            'c4{norm = "batch_step"} c4{norm = "batch_step"} P f3'
        )
        one = recipe({"net": net, "stages.0.rule": "ide"})
        with pytest.raises(ConfigError, match=r"inside a feedback loop \(layer 1.0.0\), got 2"):
            set_up(one, tiny(), fabric=make_fabric(one, processes=1), prepared=False)


class TestWorkers:
    @pytest.fixture
    def start(self, tmp_path):
        (tmp_path / "long.toml").write_text(LONG)
        started = []

        def run(*words, wait=True, forked=True):
            def command():
                sys.argv = ["spikeloom", "train", *words]
                program.main()

            process = Pair(command, tmp_path) if forked else as_command(tmp_path, *words)
            started.append(process)
            if wait:
                deadline = time.monotonic() + 6000
                while not (tmp_path / "x" / "state.safetensors").exists():
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.05)
            return process

        yield run
        for process in started:
            process.kill()

    def test_a_killed_worker_ends_the_run_and_it_resumes(self, start, tmp_path):
        main = start("long.toml", "--out", "x")
        (worker,) = children(main.pid)
        os.kill(worker, signal.SIGKILL)
        out, err = main.communicate(timeout=600)
        assert main.returncode == 2, err
        assert err.count("\n") == 1 and err.startswith("error: processes: expected all of them")
        assert "go on with --resume" in err and "Traceback" not in out
        assert not (tmp_path / "x" / "result.json").exists()
        again = start("--resume", "x", wait=False)
        out, err = again.communicate(timeout=600)
        assert again.returncode == 0 and not err, err
        record = storage.read_json(tmp_path / "x" / "result.json")
        assert record["processes"] == 2 and record["epochs"] == 30

    @pytest.mark.slow
    def test_a_killed_worker_changes_no_bit_of_the_end(self, start, tmp_path):
        main = start("long.toml", "--out", "x")
        os.kill(children(main.pid)[0], signal.SIGKILL)
        main.communicate(timeout=600)
        start("--resume", "x", wait=False).communicate(timeout=600)
        start("long.toml", "--out", "y", wait=False).communicate(timeout=600)
        one, other = (tmp_path / name / "weights.safetensors" for name in "xy")
        assert one.read_bytes() == other.read_bytes()

    def test_a_killed_first_process_leaves_no_worker_behind(self, start):
        main = start("long.toml", "--out", "x", forked=False)
        (worker,) = children(main.pid)
        main.kill()
        deadline = time.monotonic() + 600
        while alive(worker):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def test_an_interrupt_saves_once_for_all(self, start, tmp_path):
        main = start("long.toml", "--out", "x")
        main.send_signal(signal.SIGTERM)
        _, err = main.communicate(timeout=600)
        assert main.returncode == 130 and err.count("stopped") == 1
        assert err.strip().endswith("go on with: spikeloom train --resume x")
        assert (tmp_path / "x" / "state.safetensors").exists()


def as_command(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start the command itself, whose second process is a command too."""
    paths = os.pathsep.join(filter(None, sys.path))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "spikeloom", "train", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        text=True,
        **pipes,
    )


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
