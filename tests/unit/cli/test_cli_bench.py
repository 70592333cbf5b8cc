"""bench, from the command line: a quick run through real processes, and wrong options."""

import json
from pathlib import Path

import pytest
from clikit import command


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *words: command(monkeypatch, capsys, "bench", *words)


@pytest.mark.slow
def test_a_quick_run_prints_and_writes(call):
    size = "--quick --workloads mlp --contenders bptt --precision fp32 --rounds 1 --steps 1"
    done = call(*size.split(), "--no-growth", "--quiet", "--out", "pages", "--json", "b.json")
    assert done.code == 0, done.err
    assert "BPTT: time" in done.out and "(best ANN)" in done.out and "have no meaning" in done.out
    (page,) = Path("pages").glob("*_speed_*-core-cpu.md")
    assert "# Speed and memory" in page.read_text("utf-8")
    record = json.loads(Path("b.json").read_text("utf-8"))
    names = {row["contender"] for row in record["found"]["rows"]}
    assert names == {"ann-fold", "ann-loop", "ann-single", "bptt"}
    assert record["neuron"]["neuron"] and record["machine"]["cores"] and record["figures"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workloads", "mpl"], "--workloads: unknown workload 'mpl'; did you mean 'mlp'?"),
        (["--contenders", "bttp"], "--contenders: unknown contender 'bttp'"),
        (["--precision", "fp8"], "--precision: unknown precision 'fp8'"),
        (["--rounds", "0"], "--rounds: expected 1 or more, got 0"),
        (["--threads", "0"], "--threads: expected 1 or more, got 0"),
        (["--python", "norse"], "--python: expected NAME=PATH"),
        (["--python", "norse=/none"], "--python norse: expected an interpreter"),
        (["--out", "page.html"], "--out page.html: expected a folder or a file .md"),
    ],
)
def test_mistakes_are_one_line(call, words, message):
    call(*words).refused(message)
