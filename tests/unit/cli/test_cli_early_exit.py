"""evaluate with an engine and with early exit, from the command line."""

from pathlib import Path

import pytest
from clikit import command
from runkit import make_run

from spikeloom.kernels import events
from spikeloom.records import storage


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "snn", stages__0__steps=3)
    make_run(folder / "ann", stages__0__rule="ann")
    return folder


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, runs):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for one in runs.iterdir():
        (tmp_path / one.name).symlink_to(one)
    return lambda *words: command(monkeypatch, capsys, *words)


class TestEarlyExit:
    def test_the_curve(self, call):
        done = call("evaluate", "snn", "--exit-margin", "1.1,0,0.05", "--json", "e.json")
        assert done.code == 0, done.err
        record = storage.read_json(Path("e.json"))
        early = record["early_exit"]
        assert [row["level"] for row in early["rows"]] == [None, 0.0, 0.05, 1.1]
        never, at_once, _, high = early["rows"]
        assert never["accuracy"] == high["accuracy"] == pytest.approx(record["accuracy"][-1])
        assert at_once["accuracy"] == pytest.approx(record["accuracy"][0])
        assert [row["steps"] for row in (never, at_once, high)] == [3, 1, 3]
        assert never["spikes"] == pytest.approx(record["spikes"][-1])
        assert early["by"] == "margin" and early["step"]["quartiles"][0] > 0
        times = [early["step"], *(row["sample"] for row in early["rows"])]
        assert all((time["seconds"] is None) == bool(time["doubt"]) for time in times)
        assert all(time["rounds"] >= 5 for time in times[1:])
        lines = done.out.splitlines()
        assert any(line.startswith("leaves at  accuracy %  mean t") for line in lines)
        assert any(line.startswith("one frame of one sample: ") for line in lines)
        assert "choose a margin with --part validation" in " ".join(lines)
        assert max(map(len, lines)) <= 100

    def test_the_validation_part_needs_no_warning(self, call):
        done = call(
            "evaluate", "snn", "--part", "validation", "--exit-margin", "0.5", "--exit-by", "logit"
        )
        assert done.code == 0 and "choose a margin" not in done.out
        assert "the logits of its two best classes differ by this level or more" in done.out

    def test_none_asked(self, call):
        done = call("evaluate", "snn", "--json", "e.json")
        record = storage.read_json(Path("e.json"))
        assert "early_exit" not in record and record["engine"] == {"name": "dense"}
        assert "early exit" not in done.out and "engine" not in done.out


class TestEngine:
    @pytest.mark.parametrize("name", ["events", "auto"])
    def test_is_recorded_and_changes_no_answer(self, call, name):
        assert call("evaluate", "snn", "--json", "dense.json").code == 0
        done = call("evaluate", "snn", "--engine", name, "--json", "e.json")
        assert done.code == 0, done.err
        dense, record = (storage.read_json(Path(one)) for one in ("dense.json", "e.json"))
        engine = record.pop("engine")
        assert engine["name"] == name
        assert set(engine["event_shares"]) == {"0.0.0", "readout"}
        assert f"engine {name}: " in done.out
        assert record["accuracy"] == pytest.approx(dense["accuracy"], abs=0.01)

    def test_without_a_compiler(self, call, monkeypatch):
        monkeypatch.setattr(events, "helpers", lambda name: None)
        done = call("evaluate", "snn", "--engine", "events", "--json", "e.json")
        assert done.code == 0 and "no compiler found" in done.out
        assert storage.read_json(Path("e.json"))["engine"]["compiled"] is False


WRONG = [
    (("--engine", "sparse"), "engine: expected one of dense, auto, events, got 'sparse'"),
    (
        ("--exit-margin", "high"),
        "--exit-margin: expected numbers of 0 or more, separated by commas, got 'high'",
    ),
    (("--exit-margin", "-1"), "--exit-margin: expected numbers of 0 or more"),
    (("--exit-margin", "nan"), "--exit-margin: expected numbers of 0 or more"),
    (("--exit-margin", ""), "--exit-margin: expected a text, got an empty one"),
    (
        ("--exit-margin", "0.5", "--exit-by", "x"),
        "--exit-by: expected one of margin, confidence, l",
    ),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_mistakes(call, words, message):
    done = call("evaluate", "snn", *words)
    assert done.code == 2 and message in done.err
    assert len(done.err.strip().splitlines()) == 1 and not done.out


def test_a_net_without_time(call):
    done = call("evaluate", "ann", "--exit-margin", "0.5")
    assert done.code == 2 and "expected a net with time, got rule 'ann' without" in done.err
