"""Tasks by hand: figures from sums, exact however batches are cut, and targets refused."""

from math import log

import pytest
import torch

from spikeloom.base.errors import DataError
from spikeloom.inference.evaluate import added
from spikeloom.tasks.base import TASKS
from spikeloom.tasks.classify import Classify
from spikeloom.tasks.metric import ACCURACY, Metric, named
from spikeloom.tasks.regress import Regress


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


class TestClassify:
    ANSWERS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]]).double()
    LABELS = torch.tensor([0, 1, 1])

    def test_right_answers_are_counted(self):
        task = Classify()
        sums = task.sums(self.ANSWERS, self.LABELS)
        assert sums == [2, 3]
        assert task.figures(sums) == {"accuracy": 2 / 3}

    def test_the_loss_is_the_cross_entropy(self):
        expected = log(1 + torch.e**-2) + log(1 + torch.e**-1) + log(1 + torch.e**2)
        task = Classify()
        assert task.loss(self.ANSWERS, self.LABELS) == pytest.approx(expected, abs=1e-14)
        assert float(task.losses(self.ANSWERS, self.LABELS).sum()) == pytest.approx(expected)

    def test_confusion_counts_labels_by_answers(self):
        table = Classify().confusion(self.ANSWERS, self.LABELS)
        assert table.tolist() == [[1, 0], [1, 1]]

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            (torch.tensor([0.5]), r"class numbers, int64 \[N\], got torch.float32 \[1\]"),
            (torch.tensor([[0]]), r"class numbers, int64 \[N\], got torch.int64 \[1, 1\]"),
            (torch.tensor([0, 2]), r"labels in 0\.\.1, got 2 at row 1"),
            (torch.tensor([0, -1]), r"labels in 0\.\.1, got -1 at row 1"),
        ],
    )
    def test_what_is_no_class_is_refused(self, target, words):
        with pytest.raises(DataError, match=rf"^data\.x: expected {words}"):
            Classify().check("data.x", target, 2)


class TestRegress:
    def test_figures_are_those_of_their_equations(self):
        answers, target = drawn(7, 3), drawn(7, 3, seed=1)
        gap = answers - target
        spread = (target - target.mean(0)).square().sum()
        found = Regress().figures(Regress().sums(answers, target))
        assert found["mae"] == pytest.approx(float(gap.abs().mean()), abs=1e-14)
        assert found["r2"] == pytest.approx(float(1 - gap.square().sum() / spread), abs=1e-12)
        losses = Regress().losses(answers, target)
        assert torch.allclose(losses, gap.square().mean(1), rtol=0, atol=1e-15)
        assert Regress().loss(answers, target) == pytest.approx(float(losses.sum()))

    def test_the_mean_answer_explains_nothing_and_the_target_all(self):
        target = drawn(9, 2)
        mean = target.mean(0).expand(9, 2)
        task = Regress()
        assert task.figures(task.sums(mean, target))["r2"] == pytest.approx(0, abs=1e-12)
        assert task.figures(task.sums(target, target)) == {"mae": 0, "r2": 1}

    def test_equal_targets_have_nothing_to_explain(self):
        target = torch.full((5, 1), 1e6 / 3).double()
        task = Regress()
        assert task.figures(task.sums(target + 1, target)) == {"mae": pytest.approx(1), "r2": 0}

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            (torch.tensor([1, 2]), r"real numbers \[N, 2\], got torch.int64 \[2\]"),
            (torch.zeros(4, 3), r"real numbers \[N, 2\], got torch.float32 \[4, 3\]"),
            (torch.tensor([[0, 0], [0, torch.inf]]), r"finite targets, got NaN or infinity at row"),
        ],
    )
    def test_what_are_no_numbers_is_refused(self, target, words):
        with pytest.raises(DataError, match=rf"^data\.x: expected {words}"):
            Regress().check("data.x", target, 2)


@pytest.mark.parametrize("name", ["classify", "regress"])
def test_figures_do_not_depend_on_how_samples_are_cut(name):
    task = TASKS.find(name)()
    answers = drawn(23, 4)
    target = torch.arange(23) % 4 if task.labels else drawn(23, 4, seed=1)
    whole = task.figures(task.sums(answers, target))
    for size in (1, 2, 5, 22):
        parts = zip(answers.split(size), target.split(size), strict=True)
        sums = added(*(task.sums(*part) for part in parts), [])
        assert task.figures(sums) == pytest.approx(whole, abs=1e-12)
    # a mean of the means of unequal parts is another number
    halves = [task.figures(task.sums(answers[a:b], target[a:b])) for a, b in ((0, 3), (3, 23))]
    metric = task.first.name
    assert sum(one[metric] for one in halves) / 2 != pytest.approx(whole[metric], abs=1e-6)


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_judges_by_what_it_says(name):
    task = TASKS.find(name)()
    answers = drawn(6, 2)
    target = torch.arange(6) % 2 if task.labels else drawn(6, 2, seed=1)
    figures = task.figures(task.sums(answers, target))
    assert list(figures) == [metric.name for metric in task.metrics]
    assert all(metric.allows(figures[metric.name]) for metric in task.metrics)
    assert task.first is task.metrics[0]


class TestMetric:
    LOW = Metric("mae", "MAE", best="low", least=0)

    def test_directions(self):
        assert max((0.3, 0.1, 0.2), key=ACCURACY.rank) == 0.3
        assert max((0.3, 0.1, 0.2), key=self.LOW.rank) == 0.1

    def test_words_and_units(self):
        assert (ACCURACY.word, ACCURACY.written(ACCURACY.shown(0.5))) == ("accuracy", "50.00")
        assert (self.LOW.word, self.LOW.written(0.123456)) == ("MAE", "0.1235")
        assert (ACCURACY.gained(3.04), self.LOW.gained(0.05)) == ("3.0 points", "0.05")

    def test_ranges(self):
        assert ACCURACY.allows(1)
        assert not ACCURACY.allows(1.01)
        assert not self.LOW.allows(-0.1)
        assert not ACCURACY.allows(float("nan"))
        assert named("accuracy") is ACCURACY
        assert named("psnr") == Metric("psnr")
