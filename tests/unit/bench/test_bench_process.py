"""Real child processes: a quick run, and children that fail in every way."""

import os
import stat
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from spikeloom.base.errors import ConfigError
from spikeloom.bench.child import Host, warm_up
from spikeloom.bench.contender import CONTENDERS, Task
from spikeloom.bench.growth import measure_flatness, measure_growth
from spikeloom.bench.measure import measure
from spikeloom.bench.plan import (
    Plan,
    chosen_contenders,
    chosen_precisions,
    chosen_pythons,
    chosen_workloads,
)
from spikeloom.bench.process import Process, Refused
from spikeloom.bench.result import run
from spikeloom.bench.workloads import Workload
from spikeloom.records.progress import Progress

TINY = Workload("tiny", "conv", "c4 P f8 f10", (3, 8, 8), steps=3, batch=4)


class Ear(Progress):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def script(tmp_path, body):
    """An interpreter of sorts."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def opening(name="bptt", **changes):
    asked = {"workload": TINY.to_dict(), "precision": "fp32", "layout": None, "timed": True}
    return {"key": "k", "contender": name, **asked, **changes}


def test_rows_from_real_processes():
    plan = Plan((TINY,), ("ann-fold", "bptt"), ("fp32",), rounds=2, steps=2)
    found = measure(plan)
    assert [row.contender for row in found.rows] == list(plan.contenders) and not found.skipped
    for row in found.rows:
        assert len(row.rounds) == 2 and all(len(turn) == 2 for turn in row.rounds)
        assert min(min(turn) for turn in row.rounds) > 0 and row.peak > 0 and row.process >= 0
        assert row.backend
    bptt = found.find("tiny", "fp32", "bptt")
    assert bptt is not None
    assert bptt.loss == pytest.approx(CONTENDERS.find("bptt").build(Task(TINY)).call().item())


@pytest.mark.slow
def test_curves_and_flatness_from_real_processes(monkeypatch):
    monkeypatch.setattr("spikeloom.bench.growth.GROWING_NETS", (TINY,))
    work = replace(TINY, name="mlp")  # flatness is measured on the workloads with targets
    plan = Plan((work,), ("ann-fold", "sltt"), quick=True, steps=1)
    curves = measure_growth(plan)
    assert [(one.contender, one.axis) for one in curves] == [
        *(("sltt", "T"), ("ann-fold", "T"), ("sltt", "B"), ("ann-fold", "B")),
    ]
    assert all(one.sizes == (1, 2, 4) and min(one.seconds) > 0 for one in curves)
    ann = curves[1]
    assert ann.fixed == 4 and ann.peaks[0] < ann.peaks[1] < ann.peaks[2]
    (flat,) = measure_flatness(plan)
    assert (flat.contender, flat.workload, flat.steps) == ("sltt", "mlp", (2, 4))
    assert 0 < flat.growth < 1.2


def test_an_interrupted_run_keeps_what_it_has(monkeypatch):
    def interrupted(plan, progress):
        raise KeyboardInterrupt

    def measured(plan, progress, found):
        found.rows.append(SimpleNamespace(contender=plan.contenders[0]))

    monkeypatch.setattr("spikeloom.bench.result.measure", measured)
    monkeypatch.setattr("spikeloom.bench.result._neuron", interrupted)
    result = run(Plan((TINY,), ("bptt",), ("fp32",), rounds=1, steps=1))
    assert result.stopped and [row.contender for row in result.found.rows] == ["bptt"]


def test_what_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("spikeloom.bench.child.find_spec", lambda package: None)
    assert Host().open(opening("snntorch")) == {"skip": "snntorch is not installed"}


def test_a_child_that_cannot_be_asked_is_left_out_and_the_rest_goes_on(tmp_path):
    wrong = script(tmp_path, "raise SystemExit('no torch here')")
    ear = Ear()
    plan = Plan((TINY,), ("ann-fold", "bptt"), ("fp32",), rounds=1, pythons={"bptt": wrong})
    found = measure(plan, ear)
    assert [row.contender for row in found.rows] == ["ann-fold"]
    assert ear.warnings == ["bptt is left out of tiny fp32: no torch here"]
    assert found.skipped == {"bptt (tiny fp32)": "no torch here"}


def test_errors_of_a_child_are_one_line_and_it_goes_on():
    with Process(1) as process:
        with pytest.raises(Refused, match="unknown contender 'nobody'"):
            process.ask("open", **opening("nobody"))
        with pytest.raises(Refused, match="KeyError"):
            process.ask("turn", key="none", steps=1)
        assert process.ask("neuron", shape=(1, 1, 1), rounds=1)["bytes"] == 20


def test_a_child_that_is_late_is_ended(tmp_path):
    slow = script(tmp_path, "import time; time.sleep(60)")
    with (
        Process(1, slow, limit=0.3) as process,
        pytest.raises(Refused, match="did not answer within 0.3 s"),
    ):
        process.ask("turn")


def test_a_child_that_is_killed_says_so_whatever_it_wrote(tmp_path):
    body = (
        "import os, sys; print('a warning', file=sys.stderr, flush=True); os.kill(os.getpid(), 15)"
    )
    with Process(1, script(tmp_path, body)) as process, pytest.raises(Refused) as refused:
        process.ask("turn")
    assert str(refused.value) == "ended by signal 15"


def test_no_such_interpreter(tmp_path):
    with pytest.raises(Refused, match="No such file"):
        Process(1, str(tmp_path / "none"))


def test_another_interpreter_sees_nothing_that_lies_beside_the_library():
    """Only torch and numpy come along: a peer's environment has nothing else of ours."""
    code = (
        "import sys, spikeloom.bench.child; "
        "print(*sorted({'lightning', 'pydantic', 'typer', 'rich', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_warm_up_waits_for_compilers(monkeypatch):
    times = iter([9.0, 5.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr("spikeloom.bench.child.stopwatch", lambda call: next(times))
    assert warm_up(lambda: None) == 4


def test_names_and_numbers_are_checked():
    with pytest.raises(ConfigError, match="--workloads: unknown workload 'mpl'; did you mean"):
        chosen_workloads("mpl", quick=False)
    with pytest.raises(ConfigError, match="--contenders: unknown contender 'bttp'"):
        chosen_contenders("bttp")
    with pytest.raises(ConfigError, match="--contenders: expected a name, got none"):
        chosen_contenders(" , ")
    with pytest.raises(ConfigError, match="--precision: unknown precision 'fp8'"):
        chosen_precisions("fp8")
    with pytest.raises(ConfigError, match="--rounds: expected 1 or more, got 0"):
        Plan((TINY,), ("bptt",), rounds=0)
    with pytest.raises(ConfigError, match="--python: expected NAME=PATH"):
        chosen_pythons(["norse"])
    with pytest.raises(ConfigError, match="--python: unknown contender 'nose'"):
        chosen_pythons([f"nose={sys.executable}"])
    with pytest.raises(ConfigError, match="--python norse: expected an interpreter"):
        chosen_pythons(["norse=/none"])


def test_groups_and_interpreters_by_name():
    assert [one.name for one in chosen_workloads(None, quick=True)] == [
        *("conv", "mlp", "vgg11-ws", "long"),
    ]
    names = chosen_contenders("peers")
    assert "ann-fold" in names and "norse" in names and "bptt" not in names
    pythons = chosen_pythons(
        [f"peers={sys.executable}", f"spikingjelly={os.path.realpath(sys.executable)}"]
    )
    plan = Plan((TINY,), chosen_contenders(None), pythons=pythons)
    assert plan.python_of("norse") == sys.executable and plan.python_of("bptt") is None
    assert plan.python_of("spikingjelly-m") == os.path.realpath(sys.executable)
    assert "--python peers=PYTHON" in plan.command and sys.executable not in plan.command
