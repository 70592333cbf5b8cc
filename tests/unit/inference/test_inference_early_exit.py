"""Early exit: who leaves, when, with which answer, and at what cost."""

import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.inference.early_exit import Exit, clearness, run_until, score_exits, step_latency
from spikeloom.inference.evaluate import evaluate, predict
from spikeloom.inference.over_time import answers, score_over_time
from spikeloom.nets.walk.events import EventEngine
from trainkit import NETS, active, bench


def batch_of(one, count=9):
    return one.batch(one.splits.test, torch.arange(count), epoch=0, part="test")


class TestClearness:
    def test_by_hand(self):
        logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 1.0]]).log_softmax(1)
        p = logits.exp()
        assert clearness(logits).tolist() == pytest.approx([0, float(p[1, 1] - p[1, 2])])
        assert clearness(logits, "confidence").tolist() == pytest.approx([1 / 3, float(p[1, 1])])
        assert clearness(logits, "logit").tolist() == pytest.approx([0, 2], abs=1e-6)

    def test_two_classes(self):
        assert clearness(torch.tensor([[1.0, 1.0]])).item() == 0


class TestLeaving:
    @pytest.mark.parametrize("case", NETS)
    @pytest.mark.parametrize("encoder", ["constant", "poisson"])
    def test_nobody_leaves_above_one(self, case, encoder):
        one = active(NETS[case] | {"encoder": encoder})
        batch = batch_of(one)
        done = run_until(one, batch, Exit(1.01))
        whole = answers(one, batch, (5,))
        assert done.steps.tolist() == [5] * 9
        assert torch.allclose(done.logits, whole.logits[-1], rtol=1e-5, atol=1e-6)
        assert torch.equal(done.spikes, whole.spikes[-1])
        again = run_until(one, batch, Exit(None))
        assert torch.equal(again.logits, done.logits)

    @pytest.mark.parametrize("case", NETS)
    def test_all_leave_at_once_at_zero(self, case):
        one = active(NETS[case])
        batch = batch_of(one)
        done = run_until(one, batch, Exit(0.0))
        first = answers(one, batch, (1,))
        assert done.steps.tolist() == [1] * 9
        assert torch.allclose(done.logits, first.logits[0], rtol=1e-5, atol=1e-6)
        assert torch.equal(done.spikes, first.spikes[0])

    @pytest.mark.parametrize("by", ["margin", "confidence", "logit"])
    @pytest.mark.parametrize("case", NETS)
    @pytest.mark.parametrize("encoder", ["constant", "poisson"])
    def test_each_leaves_at_its_own_time_with_its_answer_then(self, case, encoder, by):
        one = active(NETS[case] | {"encoder": encoder})
        batch = batch_of(one)
        given = answers(one, batch, range(1, 6))
        clear = torch.stack([clearness(logits, by) for logits in given.logits])  # [T, B]
        values = clear[:4].flatten().sort().values
        gap = (values[1:] - values[:-1]).argmax()
        level = float((values[gap] + values[gap + 1]) / 2)  # far from any value
        done = run_until(one, batch, Exit(level, by))
        for place in range(9):
            left = [t for t in range(5) if t == 4 or clear[t, place] >= level][0]
            assert done.steps[place] == left + 1
            assert torch.allclose(
                done.logits[place], given.logits[left, place], rtol=1e-5, atol=1e-6
            )
            assert done.spikes[place] == given.spikes[left, place]

    def test_the_work_drops(self):
        """A sample that has left is not computed any more."""
        one = active({"encoder": "poisson"})
        batch = batch_of(one, 30)
        clear = clearness(answers(one, batch, (1,)).logits[0])
        sizes = []

        class Watch:
            def see(self, site, x_in, current, s_out):
                if site.name == "0.0.0":
                    sizes.append(s_out.shape[1])

        level = float(clear.median()) + 1e-9
        with one.net.observe(Watch()):
            done = run_until(one, batch, Exit(level))
        assert sum(sizes) == int(done.steps.sum()) < 30 * 5
        assert sizes == sorted(sizes, reverse=True)

    def test_with_events(self):
        one = active({"encoder": "poisson"})
        batch = batch_of(one)
        dense = run_until(one, batch, Exit(0.3))
        found = run_until(one, batch, Exit(0.3), ops=EventEngine(limit=1.0).ops)
        assert torch.equal(found.steps, dense.steps)
        assert torch.allclose(found.logits, dense.logits)


class TestScores:
    def test_ends_of_the_curve(self):
        one = active({"encoder": "poisson"})
        test = one.splits.test
        never, at_once = score_exits(one, test, "test", (Exit(None), Exit(0.0)))
        scores = score_over_time(one, test, "test", steps=(1, 5))
        assert (never.steps, at_once.steps) == (5, 1)
        assert (at_once.accuracy, never.accuracy) == pytest.approx(scores.accuracy)
        assert (at_once.spikes, never.spikes) == pytest.approx(scores.spikes)
        assert never.seconds.fastest > 0 and never.seconds.rounds >= 5 and never.exit == Exit(None)

    def test_some_rows(self):
        one = active({})
        (score,) = score_exits(
            one, one.splits.test, "test", [Exit(None)], rows=torch.tensor([3, 5])
        )
        assert score.accuracy in (0.0, 0.5, 1.0)

    def test_latency(self):
        one = active({})
        for count, frames in ((3, 2 * one.steps), (1, one.steps)):  # the first of 3 warms up
            timing = step_latency(one, one.splits.test, "test", rows=torch.arange(count))
            assert timing.rounds == frames and timing.fastest > 0


class TestEvents:
    """Evaluation with an engine: the same scores."""

    def test_evaluate_and_over_time(self):
        one = active({"encoder": "poisson"})
        ops, test = EventEngine(limit=1.0).ops, one.splits.test
        assert evaluate(one, test, "test", ops=ops) == evaluate(one, test, "test")
        found = score_over_time(one, test, "test", ops=ops)
        expected = score_over_time(one, test, "test")
        assert found.accuracy == expected.accuracy and found.spikes == expected.spikes
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)

    @pytest.mark.parametrize("case", NETS)
    def test_answers(self, case):
        one = active(NETS[case] | {"encoder": "poisson"})
        batch, engine = batch_of(one), EventEngine(limit=1.0)
        found = answers(one, batch, (2, 5), engine.ops)
        expected = answers(one, batch, (2, 5))
        assert torch.allclose(found.logits, expected.logits, rtol=1e-6)
        assert torch.equal(found.spikes, expected.spikes)
        with torch.no_grad():
            assert torch.allclose(
                predict(one, batch, engine.ops)[1], predict(one, batch)[1], rtol=1e-6
            )
        assert "readout" in engine.used


@pytest.mark.parametrize(
    ("level", "by", "message"),
    [
        (-0.1, "margin", "exit.level: expected 0 or more, got -0.1"),
        (float("nan"), "margin", "exit.level: expected a finite number, got nan"),
        (float("inf"), "margin", "exit.level: expected a finite number, got inf"),
        (0.5, "entropy", "exit.by: expected one of margin, confidence, logit, got 'entropy'"),
    ],
)
def test_wrong_exits(level, by, message):
    with pytest.raises(ConfigError, match=message):
        Exit(level, by)


def test_a_net_without_time():
    one = bench({"stages.0.rule": "ann"})
    with pytest.raises(ConfigError, match="exit: expected a net with time, got rule 'ann' without"):
        score_exits(one, one.splits.test, "test", [Exit(0.5)])
