"""Running comparisons: real runs on a tiny set, and the bookkeeping around a stand-in."""

import json

import pytest
from filelock import FileLock

from comparekit import ENTRIES, HEAD, FakeTraining, loads, row, two, written
from spikeloom.base.errors import ConfigError, DataError, NumericalError, ShapeError, Stopped
from spikeloom.compare import run as compare
from spikeloom.compare.plan import Plan, read_comparison
from spikeloom.compare.run import run_comparison
from spikeloom.compare.tuning import Tune
from spikeloom.data import DATA, DataInfo
from spikeloom.records import storage
from spikeloom.records.comparison import ComparisonRecord, FailureRecord
from spikeloom.records.files import open_record, open_run
from spikeloom.records.progress import Progress
from spikeloom.report.table import entry_rows
from spikeloom.train import loop_stage
from spikeloom.train.loop import train
from trainkit import tiny, without_times

pytestmark = pytest.mark.usefixtures(loads.__name__)
LR = "stages.0.optimizer.lr"
TUNE = Tune(epochs=1, values={LR: [0.1, 0.2, 0.4]})


@pytest.fixture
def fake(monkeypatch):
    stand_in = FakeTraining()
    monkeypatch.setattr(compare, "train", stand_in)
    return stand_in


class Told(Progress):
    """Remembers what it is told."""

    def __init__(self):
        self.notes, self.warnings, self.phases, self.closed = [], [], [], 0

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def phase(self, name, total, unit="images", *, done=0):
        self.phases.append(name)

    def close(self):
        self.closed += 1


class TestRunning:
    def test_every_row_with_every_seed(self, tmp_path, loads):
        plan, told = read_comparison(written(tmp_path, HEAD + ENTRIES)), Told()
        results = run_comparison(plan, tmp_path / "out", progress=told)
        assert [note.split(" (about")[0] for note in told.notes] == [
            "[1/4] ANN, seed 3",
            "[2/4] SLTT-K (K = 1), seed 3",
            "[3/4] ANN, seed 1",
            "[4/4] SLTT-K (K = 1), seed 1",
        ]
        assert "(about 1 s left)" in told.notes[-1] and "left" not in told.notes[0]
        assert storage.read_json(tmp_path / "out" / "results.json") == results.table()
        assert (results.format, results.seeds, results.tune) == (3, (3, 1), None)
        assert loads == [None]  # read once
        for entry, one in zip(results.entries, plan.rows, strict=True):
            assert (entry.label, entry.slug) == (one.label, one.slug)
            assert entry.error is None and entry.errors == () and entry.tuning is None
            assert [run.seed for run in entry.runs] == [3, 1]
            for run in entry.runs:
                folder = tmp_path / "out" / one.slug / f"seed{run.seed}"
                assert storage.read_json(folder / "result.json") == run.table()
        assert [entry.block for entry in results.entries] == ["common", "control"]
        assert results.entries[1].differences == (
            "net.gain = 2",
            "stages.0.rule = sltt",
            "stages.0.rule.k_steps = 1",
        )
        rows = entry_rows(results.entries)
        assert [one[0] for one in rows][2:] == ["SLTT-K (K = 1)"]

    def test_a_row_is_the_run_of_its_recipe(self, tmp_path):
        plan = read_comparison(written(tmp_path, HEAD + ENTRIES))
        results = run_comparison(plan, tmp_path / "out")
        alone = train(plan.rows[1].recipe.with_seed(1), splits=tiny()).record
        assert without_times(results.entries[1].runs[1]) == without_times(alone)

    def test_a_row_that_does_not_fit_stops_before_the_first_run(self, tmp_path):
        rows = (row("good"), row("bad", {"net": "c4 P P P f3"}))
        with pytest.raises(ShapeError, match="^'bad': net layer 3.0.0"):
            run_comparison(Plan("x", rows, (0,)), tmp_path / "out")
        huge = row("huge", {"net": "c4 U100000 f3"})
        with pytest.raises(ConfigError, match="^'huge': net layer 1.0.0: expected maps of"):
            run_comparison(Plan("x", (rows[0], huge), (0,)), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_refusal_is_a_row_and_no_error(self, tmp_path):
        net = {"net": "c4 M c4 f3"}
        rows = (row("bptt", net), row("ottt", net | {"stages.0.rule": "ottt"}))
        results = run_comparison(Plan("x", rows, (0,), TUNE), tmp_path)
        fine, refused = results.entries
        assert fine.refusal is None and len(fine.runs) == 1
        assert refused.refusal.startswith("rules.ottt: expected a linear path")
        assert refused.runs == () and refused.error is refused.tuning is None
        assert not (tmp_path / "ottt").exists()
        assert entry_rows(results.entries)[2][:3] == ("ottt", "refused", "-")

    def test_a_refusal_of_any_stage(self, fake, tmp_path):
        stages = [{"rule": "ottt", "epochs": 1}, {"rule": "bptt", "epochs": 1}]
        rows = (row("fine"), row("two stages", {"net": "c4 M c4 f3", "stages": stages}))
        results = run_comparison(Plan("x", rows, (0,)), tmp_path)
        assert results.entries[1].refusal.startswith("rules.ottt: expected a linear path")
        assert fake.calls == ["fine/seed0"]

    def test_data_is_read_once_for_each_setting(self, tmp_path, loads):
        rows = (
            row("a"),
            row("b", {"data": {"name": "tiny", "train_size": 40}}),
            row("c", {"stages.0.rule": "sltt"}),
        )
        run_comparison(Plan("x", rows, (0, 1)), tmp_path)
        assert loads == [None, 40]

    def test_another_test_part_is_refused(self, tmp_path, monkeypatch):
        def load(root=None, *, train_size: int | None = None):
            splits = tiny()
            if train_size:
                splits.test.y.add_(1).remainder_(3)
            return splits

        info = DataInfo("three stripes", (1, 4, 4), 3, load)
        monkeypatch.setitem(DATA._members, "tiny", info)
        rows = (row("a"), row("b", {"data": {"name": "tiny", "train_size": 40}}))
        with pytest.raises(DataError, match="'b': data: expected the test part of the rows before"):
            run_comparison(Plan("x", rows, (0,)), tmp_path)


class TestFailures:
    def test_the_others_go_on(self, tmp_path, monkeypatch):
        def fails(one, batch, commit, **options):
            if one.rule.facts.memory == "constant" and one.recipe.seed == 1:
                raise NumericalError("training: expected a finite loss, got nan; x.")
            return learn(one, batch, commit, **options)

        learn = loop_stage.learn
        monkeypatch.setattr(loop_stage, "learn", fails)
        told = Told()
        results = run_comparison(two((0, 1, 2)), tmp_path, progress=told)
        good, bad = results.entries
        assert [run.seed for run in good.runs] == [0, 1, 2] and good.error is None
        assert [run.seed for run in bad.runs] == [0, 2]
        why = "epoch 1: training: expected a finite loss, got nan; x."
        assert bad.errors == (FailureRecord(seed=1, error=why),)
        assert bad.error == f"1 of 3 runs failed: {why}"
        assert told.warnings == [f"SLTT, seed 1 failed: {why}"]
        assert "(1 of 3 failed)" in entry_rows(results.entries)[2][1]
        monkeypatch.setattr(loop_stage, "learn", learn)
        again = run_comparison(two((0, 1, 2)), tmp_path)
        assert again.entries[1].error is None and len(again.entries[1].runs) == 3

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (MemoryError(), "memory: expected a run that fits, got 'no memory'"),
            (RuntimeError("CUDA out of memory.\nTried"), "got 'CUDA out of memory.'; make net"),
            (RuntimeError("surprise"), "RuntimeError: surprise (unexpected; see "),
        ],
    )
    def test_of_any_kind(self, fake, tmp_path, error, text):
        fake.faults = {"bptt/seed0": error}
        results = run_comparison(two(), tmp_path)
        assert text in results.entries[0].error
        assert [len(entry.runs) for entry in results.entries] == [1, 2]
        trace = tmp_path / "bptt" / "seed0" / "traceback.txt"
        assert trace.exists() == ("surprise" in text)
        if trace.exists():
            assert "comparekit.py" in trace.read_text()

    @pytest.mark.parametrize("end", [Stopped("enough"), KeyboardInterrupt()])
    def test_a_stop_is_no_failure(self, fake, tmp_path, end):
        fake.faults = {"sltt/seed0": end}
        with pytest.raises(type(end)):
            run_comparison(two(), tmp_path)
        results = open_record(tmp_path / "results.json", ComparisonRecord)
        assert [len(entry.runs) for entry in results.entries] == [1, 0]
        fake.faults = {}
        done = run_comparison(two(), tmp_path)
        assert [len(entry.runs) for entry in done.entries] == [2, 2]
        assert fake.calls == ["bptt/seed0", "sltt/seed0", "sltt/seed0", "bptt/seed1", "sltt/seed1"]


class TestGoingOn:
    def test_finished_runs_are_read(self, fake, tmp_path):
        first = run_comparison(two(), tmp_path)
        assert len(fake.calls) == 4
        told = Told()
        assert run_comparison(two(), tmp_path, progress=told) == first
        assert len(fake.calls) == 4 and told.notes == [] and told.closed == 1

    def test_more_seeds_and_rows_add_to_what_is_there(self, fake, tmp_path):
        run_comparison(two((0,)), tmp_path)
        more = Plan("x", (*two().rows, row("ANN", {"stages.0.rule": "ann"})), (1, 0))
        results = run_comparison(more, tmp_path)
        assert fake.calls[2:] == ["bptt/seed1", "sltt/seed1", "ann/seed1", "ann/seed0"]
        assert [run.seed for run in results.entries[0].runs] == [1, 0]
        fewer = run_comparison(Plan("x", more.rows[1:2], (0,)), tmp_path)
        assert [entry.label for entry in fewer.entries] == ["SLTT"] and len(fake.calls) == 6
        assert (tmp_path / "bptt" / "seed0" / "result.json").exists()  # stale, kept

    def test_results_hold_what_is_finished_before_anything_runs(self, fake, tmp_path):
        run_comparison(two(), tmp_path)
        (tmp_path / "bptt" / "seed0" / "result.json").unlink()
        fake.faults = {"bptt/seed0": KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            run_comparison(two(), tmp_path)
        results = open_record(tmp_path / "results.json", ComparisonRecord)
        assert [len(entry.runs) for entry in results.entries] == [1, 2]

    @pytest.mark.parametrize("content", ["{", "{}", "[]", ""])
    def test_a_damaged_result_is_trained_again(self, tmp_path, content):
        before = run_comparison(two((0,)), tmp_path).entries[0].runs[0]
        (tmp_path / "bptt" / "seed0" / "result.json").write_text(content)
        (entry, _) = run_comparison(two((0,)), tmp_path).entries
        assert entry.error is None
        assert without_times(entry.runs[0]) == without_times(before)

    @pytest.mark.parametrize("content", [b"", b"garbage"])
    def test_a_damaged_state_begins_anew(self, tmp_path, content):
        folder = tmp_path / "bptt" / "seed0"
        before = run_comparison(two((0,)), tmp_path).entries[0].runs[0]
        (folder / "result.json").unlink()
        (folder / "state.safetensors").write_bytes(content)
        (entry, _) = run_comparison(two((0,)), tmp_path).entries
        assert entry.error is None
        assert without_times(entry.runs[0]) == without_times(before)

    def test_a_newer_result_is_kept(self, fake, tmp_path):
        run_comparison(two(), tmp_path)
        path = tmp_path / "bptt" / "seed0" / "result.json"
        path.write_text('{"format": 99}')
        with pytest.raises(DataError, match="got 99 from a newer spikeloom; update spikeloom"):
            run_comparison(two(), tmp_path)
        assert path.read_text() == '{"format": 99}'

    def test_a_changed_entry_stops_before_anything_runs(self, fake, tmp_path):
        run_comparison(two((0,)), tmp_path)
        before = (tmp_path / "results.json").read_bytes()
        changed = Plan("x", (two().rows[0], row("SLTT", {"stages.0.epochs": 7})), (0, 1))
        with pytest.raises(ConfigError) as caught:
            run_comparison(changed, tmp_path)
        message = str(caught.value)
        assert message.startswith("'SLTT': expected the recipe that ") and "--force" in message
        assert "got stages.0.rule = bptt, stages.0.epochs = 7; change it back" in message
        assert len(fake.calls) == 2 and (tmp_path / "results.json").read_bytes() == before

    def test_force_trains_all_anew(self, fake, tmp_path):
        run_comparison(two((0,)), tmp_path)
        changed = Plan("x", (two().rows[0], row("SLTT", {"stages.0.epochs": 7})), (0,))
        (tmp_path / "sltt" / "seed0" / "mine.txt").write_text("mine")
        fake.faults = {"sltt/seed0": KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            run_comparison(changed, tmp_path, overwrite=True)
        fake.faults = {}
        results = run_comparison(changed, tmp_path)  # and goes on without it
        assert fake.calls[2:] == ["bptt/seed0", "sltt/seed0", "sltt/seed0"]
        assert results.entries[1].runs[0].epochs == 7
        assert (tmp_path / "sltt" / "seed0" / "mine.txt").exists()

    def test_a_recipe_that_cannot_be_read_is_a_changed_one(self, fake, tmp_path):
        run_comparison(two((0,)), tmp_path)
        (tmp_path / "bptt" / "seed0" / "recipe.json").write_text('{"x": 1}')
        with pytest.raises(ConfigError, match="'BPTT': .* got one that cannot be read"):
            run_comparison(two((0,)), tmp_path)

    @pytest.mark.parametrize("content", ["{}", "[1]", "mine"])
    def test_a_file_that_is_not_ours_is_kept(self, fake, tmp_path, content):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(ConfigError, match="expected results of a comparison, found something"):
            run_comparison(two(), tmp_path)
        assert (tmp_path / "results.json").read_text() == content and fake.calls == []

    def test_one_comparison_at_a_time(self, fake, tmp_path):
        with (
            FileLock(tmp_path / ".lock"),
            pytest.raises(ConfigError, match="found one in use; wait for it"),
        ):
            run_comparison(two(), tmp_path)
        assert not (tmp_path / "results.json").exists()
        run_comparison(two(), tmp_path)
        assert len(fake.calls) == 4

    def test_real_runs_go_on_too(self, tmp_path):
        whole = run_comparison(two(), tmp_path / "whole")
        run_comparison(two((0,)), tmp_path / "parts")
        parts = run_comparison(two(), tmp_path / "parts")
        for one, other in zip(whole.entries, parts.entries, strict=True):
            assert [*map(without_times, one.runs)] == [*map(without_times, other.runs)]


class TestTuning:
    def test_every_row_has_the_same_trials(self, fake, tmp_path):
        fake.scores = {0.2: (0.9, 1.0)}
        told = Told()
        results = run_comparison(two((0, 1), TUNE), tmp_path, progress=told)
        trials = [f"{slug}/tune/{number}" for slug in ("bptt", "sltt") for number in range(3)]
        assert fake.calls == [*trials, "bptt/seed0", "sltt/seed0", "bptt/seed1", "sltt/seed1"]
        assert told.notes[1].startswith("[2/10] BPTT, trial 2 of 3")
        assert told.phases[0] == "[1/10] BPTT, trial 1 of 3: epoch 1/2"
        for entry in results.entries:
            assert entry.tuning.chosen == {LR: 0.2} and entry.tuning.edge == ()
            assert [one.set[LR] for one in entry.tuning.trials] == [0.1, 0.2, 0.4]
            assert [(run.lr, run.epochs) for run in entry.runs] == [(0.2, 2)] * 2
        one = storage.read_json(tmp_path / "bptt" / "tune" / "1" / "recipe.json")
        assert (one["seed"], one["stages"][0]["epochs"]) == (1000, 1)

    def test_trials_are_not_repeated(self, fake, tmp_path):
        fake.faults = {"sltt/tune/1": KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            run_comparison(two((0,), TUNE), tmp_path)
        stored = storage.read_json(tmp_path / "results.json")
        assert [len(entry["tuning"]["trials"]) for entry in stored["entries"]] == [3, 1]
        assert stored["entries"][1]["tuning"]["chosen"] is None
        fake.faults = {}
        results = run_comparison(two((0,), TUNE), tmp_path)
        assert fake.calls[5:] == ["sltt/tune/1", "sltt/tune/2", "bptt/seed0", "sltt/seed0"]
        assert run_comparison(two((0,), TUNE), tmp_path) == results and len(fake.calls) == 9

    def test_a_failed_trial_is_noted_and_tried_again(self, fake, tmp_path):
        fake.scores, fake.faults = {0.4: (0.9, 1.0)}, {"bptt/tune/2": NumericalError("nan")}
        entry = run_comparison(two((0,), TUNE), tmp_path).entries[0]
        assert entry.tuning.trials[2].error == "nan" and entry.error is None
        assert entry.tuning.chosen == {LR: 0.1} and entry.runs[0].lr == 0.1
        fake.faults, count = {}, len(fake.calls)
        entry = run_comparison(two((0,), TUNE), tmp_path).entries[0]
        assert fake.calls[count:] == ["bptt/tune/2", "bptt/seed0"]  # another choice, another run
        assert entry.tuning.edge == (LR,) and entry.runs[0].lr == 0.4

    def test_no_good_trial_no_runs(self, fake, tmp_path):
        fake.faults = {f"bptt/tune/{number}": NumericalError("nan") for number in range(3)}
        bad, good = run_comparison(two((0, 1), TUNE), tmp_path).entries
        assert bad.runs == () and len(good.runs) == 2
        assert bad.error == "2 of 2 runs failed: tuning: no trial came to its end: nan"

    def test_another_budget_is_another_comparison(self, fake, tmp_path):
        run_comparison(two((0,)), tmp_path)
        for plan in (two((0,), TUNE), two((0,), Tune(values={LR: [0.1]}))):
            with pytest.raises(ConfigError, match=r"x: expected the \[tune\] table that .*--force"):
                run_comparison(plan, tmp_path)
        results = run_comparison(two((0,), TUNE), tmp_path, overwrite=True)
        assert results.tune == json.loads(json.dumps(TUNE.model_dump(mode="json")))

    def test_a_real_trial(self, tmp_path):
        entry = run_comparison(two((0,), TUNE), tmp_path).entries[0]
        for number, trial in enumerate(entry.tuning.trials):
            folder = tmp_path / "bptt" / "tune" / str(number)
            curve = open_run(folder / "result.json").curve
            assert len(curve) == 1  # its own number of epochs
            assert trial.val_accuracy == curve[0].val_accuracy
            assert trial.val_loss == curve[0].val_loss
