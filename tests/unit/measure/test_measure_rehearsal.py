"""Every refusal that can be known is known before anything trains, in `train` and in `compare`."""

import re

import pytest
import torch

from comparekit import FakeTraining, row
from spikeloom.base.errors import ConfigError, SpikeloomError
from spikeloom.compare import run as compare
from spikeloom.compare.plan import Plan
from spikeloom.compare.run import run_comparison
from spikeloom.compare.tuning import Tune
from spikeloom.data import DATA, DataInfo, splits_from_tensors
from spikeloom.measure import rehearsal
from spikeloom.measure.rehearsal import essence
from spikeloom.measure.unchanged import one_call, unchanged
from spikeloom.meters.peak import peak_allocated
from spikeloom.program.setup import set_up
from spikeloom.records.progress import Progress
from spikeloom.rules.base import RULES
from spikeloom.rules.bptt import Bptt
from spikeloom.train.loop import train
from trainkit import recipe, registered, tiny

ALL_STEPS = {"net": 'c4{norm = "batch_all"} P f3'}
LOOP = {"net": '{feedback = [{source = 0, target = 0, layers = "c4"}]} c4 P f3'}
TWO = [{"rule": "bptt", "epochs": 1, "batch": 20}, {"rule": "sltt", "epochs": 1, "batch": 20}]


def streams(**options):
    """Series [N, 3, 4] with the class in one channel."""
    x = torch.rand(90, 3, 4, generator=torch.Generator().manual_seed(0))
    return splits_from_tensors(x, torch.arange(90) % 3, test=30, validation=15, time=True)


def bright(**options):
    """The tiny set with one value above 1, in the test part alone."""
    splits = tiny()
    splits.test.store[splits.test.rows[7]] = 1.5
    return splits


REFUSED = [  # by a rule, whose row stands in the table
    (ALL_STEPS | {"stages.0.rule": "sltt"}, "net layer 0.0.0: expected norm 'batch_step'"),
    (ALL_STEPS | {"stages.0.rule": "ottt"}, "net layer 0.0.0: expected norm 'batch_step'"),
    (ALL_STEPS | {"stages": TWO}, "net layer 0.0.0: expected norm 'batch_step'"),
    (
        {"net": '{feedback = [{source = 0, target = 0, layers = "c4"}]} c4{norm = "batch_all"} f3'},
        "net layer 0.0.0: expected norm 'batch_step'",
    ),
    ({"net": 'c4 P f8{unit = "relu"} f3', "stages.0.rule": "sltt"}, "rules.sltt: expected feat"),
    ({"net": "c4 M c4 f3", "stages.0.rule": "ottt"}, "rules.ottt: expected a linear path"),
    (LOOP | {"stages.0.rule": "dsr"}, "rules.dsr: expected a net without feedback"),
    ({"stages.0.rule": "ide"}, "rules.ide: expected a net with feedback"),
    ({"net": 'c4{norm = "batch_step"} f3', "stages.0.rule": "spide"}, "rules.spide: expected lin"),
    ({"stages.0.rule": "ide", "stages.0.epochs": 5}, "rules.ide: expected a net with feedback"),
]
UNFIT = [  # whatever the rule: nothing is run at all
    ({"net": "c4 P f10"}, "expected a last layer of 3 neurons"),
    ({"net": "c4 P [f3]"}, "head: expected a net that ends with its classes"),
    ({"head": "rates"}, "head: expected a net that ends with a population"),
    ({"net": "c4 P P P f3"}, "net layer 3.0.0"),
    ({"encoder": "frames"}, "encoder 'frames' with rule 'bptt', T = 2"),
    ({"stages.0.rule": {"name": "sltt", "k_steps": 3}}, "at most T = 2, got 3"),
    ({"stages.0.rule": {"name": "sltt", "given": [2]}}, "steps from 0 to 1"),
    ({"net": 'f4{norm = "batch_step"} f3', "stages.0.batch": 1}, "stages.0.batch: expected 2"),
    ({"net": "c4 P f400000000 f3"}, "that fit into the"),
    ({"augment": {"crop": 9}}, None),
    ({"augment": {"cutout": 99}}, None),
    ({"device": "cuda"}, "device: expected a CUDA device"),
    ({"devices": 1000}, None),
    ({"data": "bright", "encoder": "latency"}, "data.tensors.test, from row 0: encoders.latency"),
    ({"data": "streams"}, "encoder 'constant': expected data without a time axis"),
    ({"data": "streams", "encoder": "frames"}, "set steps = 3"),
]


class Told(Progress):
    """Remembers what it is told, in order."""

    def __init__(self):
        self.news = []

    def note(self, text):
        self.news.append(text)

    warn = note


@pytest.fixture
def sets():
    """Three data sets."""
    with (
        registered(DATA, "tiny", DataInfo("x", None, 3, lambda root=None: tiny())),
        registered(DATA, "bright", DataInfo("x", None, 3, lambda root=None: bright())),
        registered(DATA, "streams", DataInfo("x", None, 3, lambda root=None: streams())),
    ):
        yield


@pytest.fixture
def fake(monkeypatch):
    stand_in = FakeTraining()
    monkeypatch.setattr(compare, "train", stand_in)
    return stand_in


@pytest.mark.usefixtures("sets")
class TestTrain:
    @pytest.mark.parametrize(("changes", "message"), REFUSED + UNFIT)
    def test_nothing_is_trained_or_written(self, tmp_path, monkeypatch, changes, message):
        if "device" in changes and torch.cuda.is_available():
            pytest.skip("needs a machine without CUDA")
        monkeypatch.setattr("spikeloom.train.loop.StageLoop", None)  # to call it would be an error
        wrong = {"data": "tiny"} | changes
        with pytest.raises(SpikeloomError) as caught:
            train(recipe(wrong), tmp_path / "run")
        assert (message or "expected") in str(caught.value)
        assert not (tmp_path / "run").exists()

    def test_a_rehearsal_changes_no_bit(self, monkeypatch):
        """Norms, dropout and a rule that owns state: the run is the one without a rehearsal."""
        changes = {"net": 'c4{norm = "batch_step", dropout = 0.2} P f3', "stages.0.rule": "sltt"}
        with_it = train(recipe(changes), splits=tiny())
        monkeypatch.setattr(rehearsal, "rehearse", lambda bench: None)
        without = train(recipe(changes), splits=tiny())
        ours, theirs = (one.bench.modules().state_dict() for one in (with_it, without))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    def test_a_frozen_body_keeps_its_norms_and_so_may_run_in_time(self):
        changes = ALL_STEPS | {"stages.0.rule": "sltt", "stages.0.freeze_body": True}
        assert train(recipe(changes), splits=tiny()).record.epochs == 2


@pytest.mark.usefixtures("sets")
class TestCompare:
    @pytest.mark.parametrize(("changes", "message"), REFUSED)
    def test_a_refused_row_is_known_before_the_first_run(self, fake, tmp_path, changes, message):
        rows = (row("good"), row("bad", changes))
        results = run_comparison(Plan("x", rows, (0, 1)), tmp_path)
        assert message in results.entries[1].refusal
        assert fake.calls == ["good/seed0", "good/seed1"]

    @pytest.mark.parametrize(("changes", "message"), UNFIT)
    def test_a_row_that_does_not_fit_stops_all(self, fake, tmp_path, changes, message):
        if "device" in changes and torch.cuda.is_available():
            pytest.skip("needs a machine without CUDA")
        with pytest.raises(SpikeloomError) as caught:  # also in another data set, or processes
            run_comparison(Plan("x", (row("good"), row("bad", changes)), (0,)), tmp_path / "out")
        assert "'bad'" in str(caught.value) and fake.calls == []
        assert not (tmp_path / "out").exists()

    def test_a_refusal_is_told_before_the_first_run(self, fake, tmp_path):
        rows = (row("good"), row("bad", ALL_STEPS | {"stages.0.rule": "sltt"}))
        told = Told()
        run_comparison(Plan("x", rows, (0,)), tmp_path, progress=told)
        assert told.news[0].startswith("bad is refused: net layer 0.0.0: expected norm")
        assert told.news[1].startswith("[1/1] good")
        again = Told()
        run_comparison(Plan("x", rows, (0,)), tmp_path, progress=again)
        assert again.news == []  # nothing is left to do; the table says it

    def test_refused_trials_are_known_and_the_others_count(self, fake, tmp_path):
        norms = [f'c4{{norm = "{norm}"}} P f3' for norm in ("batch_all", "batch_step")]
        tune = Tune(values={"net": norms})
        rows = (row("BPTT"), row("SLTT", {"stages.0.rule": "sltt"}))
        told = Told()
        results = run_comparison(Plan("x", rows, (0,), tune), tmp_path, progress=told)
        assert fake.calls[:3] == ["bptt/tune/0", "bptt/tune/1", "sltt/tune/1"]
        assert sum("refused" in text for text in told.news) == 1
        assert told.news[0].startswith("SLTT, trial 1 of 2 is refused and counts as failed: net ")
        trials = results.entries[1].tuning.trials
        assert "expected norm 'batch_step'" in trials[0].error and trials[1].error is None
        assert results.entries[1].tuning.chosen == {"net": norms[1]}
        assert results.entries[1].error is None

    def test_a_row_all_of_whose_trials_are_refused_is_refused(self, fake, tmp_path):
        tune = Tune(values={"net": [f'c{width}{{norm = "batch_all"}} P f3' for width in (2, 4)]})
        rows = (row("BPTT"), row("SLTT", {"stages.0.rule": "sltt"}))
        results = run_comparison(Plan("x", rows, (0,), tune), tmp_path)
        assert "expected norm 'batch_step'" in results.entries[1].refusal
        assert not any(call.startswith("sltt") for call in fake.calls)

    def test_a_trial_that_does_not_fit_stops_all(self, fake, tmp_path):
        tune = Tune(values={"net": ["c4 P f3", "c4 P f7"]})
        with pytest.raises(SpikeloomError, match="^'BPTT', trial 2 of 2: net: expected a last la"):
            run_comparison(Plan("x", (row("BPTT"),), (0,), tune), tmp_path / "out")
        assert fake.calls == [] and not (tmp_path / "out").exists()

    def test_trials_train_on_their_own_data(self, tmp_path):
        sizes = []

        def load(root=None, *, train_size: int | None = None):
            x = torch.rand(90, 1, 4, 4, generator=torch.Generator().manual_seed(0))
            y = torch.arange(90) % 3
            return splits_from_tensors(x, y, test=30, validation=15, train_size=train_size)

        def note(recipe, folder, *, splits, **options):
            sizes.append(len(splits.train))
            return FakeTraining()(recipe, folder, splits=splits, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(DATA._members, "tiny", DataInfo("x", None, 3, load))
            patch.setattr(compare, "train", note)
            tune = Tune(values={"data": [{"name": "tiny", "train_size": n} for n in (20, 40)]})
            run_comparison(Plan("x", (row("BPTT"),), (0,), tune), tmp_path)
        assert sizes == [20, 40, 20]

    def test_rates_and_epochs_are_not_tried_one_by_one(self, fake, tmp_path, monkeypatch):
        tried = []
        whole = compare.refusal
        monkeypatch.setattr(compare, "refusal", lambda *one: tried.append(1) or whole(*one))
        tune = Tune(values={"stages.0.optimizer.lr": [0.1, 0.2], "stages.0.epochs": [1, 2]})
        run_comparison(Plan("x", (row("BPTT"),), (0, 1), tune), tmp_path)
        assert len(tried) == 1 and len(fake.calls) == 6

    def test_a_crash_is_no_refusal(self, tmp_path):
        """A rule of somebody's own: its row fails with a traceback, and the others train."""

        class Broken(Bptt):
            def learn(self, *args):
                raise KeyError("mine")

        with registered(RULES, "broken", Broken):
            rows = (row("BROKEN", {"stages.0.rule": "broken"}), row("BPTT"))
            results = run_comparison(Plan("x", rows, (0,)), tmp_path)
        assert "KeyError: 'mine' (unexpected" in results.entries[0].error
        assert len(results.entries[1].runs) == 1

    def test_a_place_that_cannot_be_written(self, fake, tmp_path):
        (tmp_path / "bad").write_text("mine")
        with pytest.raises(SpikeloomError, match="bad: expected a folder that can be written"):
            run_comparison(Plan("x", (row("good"), row("bad")), (0,)), tmp_path)
        assert fake.calls == []


def test_what_can_be_refused_of_a_recipe():
    one = recipe()
    for changes in (
        {"seed": 3},
        {"stages.0.epochs": 9},
        {"stages.0.optimizer.lr": 0.5},
        {"stages.0.schedule": "constant"},
        {"name": "other"},
    ):
        assert essence(recipe(changes)) == essence(one)
    for changes in ({"stages.0.batch": 1}, {"stages.0.steps": 3}, {"net": "c4 f3"}):
        assert essence(recipe(changes)) != essence(one)


def test_counts_that_are_none():
    x, y = torch.full((30, 3, 4), 0.5), torch.arange(30) % 3
    with pytest.raises(SpikeloomError, match="expected whole numbers where scale = 'counts'"):
        splits_from_tensors(x, y, test=9, scale="counts", time=True)


class TestManySteps:
    """A train that would never fit is refused before it is computed once."""

    def try_at(self, monkeypatch, share, rule="bptt", steps=4000):
        """Rehearse with a share of the memory that a batch takes; return what one takes."""
        changes = {"net": "c4 P f8 f3", "stages.0.rule": rule, "stages.0.steps": steps}
        bench = set_up(recipe(changes), tiny())
        with unchanged(bench):
            whole = peak_allocated(one_call(bench, 20)[0], torch.device("cpu"))
        sizes = []
        monkeypatch.setattr(rehearsal, "total_bytes", lambda device: int(share * whole))
        monkeypatch.setattr(
            rehearsal,
            "one_call",
            lambda bench, size, **short: sizes.append(short) or one_call(bench, size, **short),
        )
        return whole, sizes, lambda: rehearsal.rehearse(bench)

    def test_is_refused_with_what_it_would_take(self, monkeypatch):
        whole, sizes, call = self.try_at(monkeypatch, 0.8)
        with pytest.raises(ConfigError, match="stages.0: expected what fits into the ") as caught:
            call()
        number, unit = re.search(
            r"about ([\d.]+) (KB|MB) for a batch of 20 at T = 4000", str(caught.value)
        ).groups()
        told = float(number) * {"KB": 1e3, "MB": 1e6}[unit]
        assert told == pytest.approx(whole, rel=0.05)
        assert all(short["steps"] <= 256 for short in sizes)

    def test_passes_where_it_fits(self, monkeypatch):
        self.try_at(monkeypatch, 1.3)[2]()

    def test_passes_by_a_rule_that_keeps_one_step(self, monkeypatch):
        self.try_at(monkeypatch, 0.8, "sltt", steps=300)[2]()
