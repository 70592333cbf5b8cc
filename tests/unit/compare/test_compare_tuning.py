"""The tuning budget: what is tried, what is chosen, what is refused."""

import pytest

from comparekit import HEAD, loads, row, two, written
from spikeloom.base.errors import ConfigError
from spikeloom.compare.plan import Plan, read_comparison
from spikeloom.compare.tuning import Tune, choose
from spikeloom.records.comparison import TrialRecord

pytestmark = pytest.mark.usefixtures(loads.__name__)
LR, BATCH = "stages.0.optimizer.lr", "stages.0.batch"


def scored(*pairs):
    return [TrialRecord(val_accuracy=accuracy, val_loss=loss) for accuracy, loss in pairs]


class TestChoosing:
    @pytest.mark.parametrize(
        ("pairs", "best"),
        [
            ([(0.5, 1.0), (0.7, 2.0), (0.6, 0.1)], 1),
            ([(0.7, 2.0), (0.7, 1.0), (0.7, 3.0)], 1),  # a tie: the lower loss
            ([(0.1, 1.0), (0.7, 1.0), (0.7, 1.0)], 1),  # a full tie: the first
        ],
    )
    def test_by_accuracy_then_loss_then_order(self, pairs, best):
        assert choose(scored(*pairs)) == best

    def test_failed_trials_are_never_chosen(self):
        assert choose([TrialRecord(error="x"), *scored((0.1, 9.0))]) == 1
        assert choose([TrialRecord(error="x"), TrialRecord(error="y")]) is None

    def test_nothing_before_the_last_trial(self):
        assert choose([*scored((0.9, 0.1)), None]) is None


class TestTune:
    TUNE = Tune(epochs=1, values={LR: [0.1, 0.2, 0.4], BATCH: [10, 20]})

    def test_the_full_product(self):
        assert self.TUNE.settings == [
            {LR: lr, BATCH: batch} for lr in (0.1, 0.2, 0.4) for batch in (10, 20)
        ]

    def test_a_trial_is_the_recipe_with_its_values(self):
        trial = self.TUNE.trial(row("x").recipe, 3)
        assert (trial.last.optimizer.lr, trial.last.batch) == (0.2, 20)
        assert (trial.seed, trial.last.epochs) == (1000, 1)
        assert Tune(values={LR: [0.1]}).trial(row("x").recipe, 0).last.epochs == 2

    def test_the_record(self):
        trials = dict(enumerate(scored(*[(0.1, 1.0)] * 5, (0.9, 1.0))))
        record = self.TUNE.record(trials)
        assert (record.seed, record.epochs) == (1000, 1)
        assert record.trials == tuple(trials.values())
        assert record.chosen == {LR: 0.4, BATCH: 20} and record.edge == (LR, BATCH)
        assert record.texts == (f"{LR} = 0.4", f"{BATCH} = 20")

    def test_before_the_end_nothing_is_chosen(self):
        record = self.TUNE.record({0: TrialRecord(error="nan")})
        assert record.chosen is None and record.edge == record.texts == ()
        assert record.trials[0].error == "nan"

    def test_epochs_of_trials_and_as_candidates(self):
        both = Tune(epochs=1, values={"stages.0.epochs": [1, 2]})
        with pytest.raises(ConfigError, match="either tune.epochs or candidates for stages.0"):
            Plan("x", two().rows, (0,), both)

    @pytest.mark.parametrize(
        ("values", "chosen", "edge"),
        [
            ([0.4, 0.1, 0.2], 0.2, False),
            ([0.4, 0.1, 0.2], 0.1, True),
            ([0.4, 0.1, 0.2], 0.4, True),
            ([0.4], 0.4, False),
            (["sgd", "adam"], "sgd", False),
            ([False, True], True, False),
        ],
    )
    def test_the_edge_of_the_grid(self, values, chosen, edge):
        assert Tune(values={"p": values}).edge({"p": chosen}) == ["p"] * edge


class TestReading:
    ENTRY = '[[entries]]\nlabel = "a"\n'

    def read(self, folder, tune):
        return read_comparison(written(folder, f"{HEAD}{self.ENTRY}[tune]\n{tune}"))

    def test_a_table_in_the_file(self, tmp_path):
        plan = self.read(tmp_path, f'seed = 5\nepochs = 2\nvalues = {{ "{LR}" = [1e-3, 1e-2] }}')
        assert plan.tune == Tune(seed=5, epochs=2, values={LR: [1e-3, 1e-2]})
        assert plan.trials == 2

    @pytest.mark.parametrize(
        ("tune", "message"),
        [
            ("seed = 5", "tune.values: expected a value, got none"),
            ("values = {}", "tune.values: expected"),
            ("values = { 'seed' = [] }", "tune.values.seed: expected 1 value or more"),
            ("values = { 'a' = 3 }", "tune.values.a: expected a list, got 3"),
            ("values = { 'a' = [1, 1] }", "values.a: expected values that differ, got [1, 1]"),
            ("epochs = 0\nvalues = { 'a' = [1] }", "tune.epochs: expected 1 or more, got 0"),
            ("trials = 3\nvalues = { 'a' = [1] }", "tune.trials: unknown key 'trials'"),
            ("seed = 3\nvalues = { 'a' = [1] }", "tune.seed: expected a seed that is not reported"),
            (
                "values = { 'stages.0.optimizer.lrr' = [1.0] }",
                "tune, 'a': stages.0.optimizer.lrr: unknown key 'lrr'; did you mean 'lr'?",
            ),
            ("values = { seed = [1, 2] }", "values.seed: expected a setting, got a run's own"),
            (f"values = {{ '{LR}' = [0.1, -0.1] }}", f"tune, 'a': {LR}: expected a number above 0"),
        ],
    )
    def test_refused_before_anything_runs(self, tmp_path, tune, message):
        with pytest.raises(ConfigError) as caught:
            self.read(tmp_path, tune)
        assert message in str(caught.value)

    def test_seeds_of_the_command_line_are_checked_too(self):
        tune = Tune(seed=7, values={LR: [0.1]})
        with pytest.raises(ConfigError, match=r"got 7 with seeds \[7\]"):
            Plan("x", two().rows, (7,), tune)
