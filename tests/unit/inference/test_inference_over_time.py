"""Answers over time: one pass says what separate runs of 1, 2, ... T steps say."""

from dataclasses import replace

import pytest
import torch

from spikeloom.base.errors import ConfigError, NumericalError, ShapeError
from spikeloom.data import splits_from_tensors
from spikeloom.inference import over_time
from spikeloom.inference.early_exit import Exit, run_until
from spikeloom.inference.evaluate import evaluate, predict
from spikeloom.inference.over_time import (
    answers,
    begins_alike,
    check_steps,
    predict_over_time,
    reads_early,
    score_over_time,
    settled,
)
from spikeloom.measure.costs import measure_net
from spikeloom.program.setup import set_up
from spikeloom.records.progress import Progress
from trainkit import NETS, active, bench, recipe, tiny


class TestOnePass:
    @pytest.mark.parametrize("encoder", ["constant", "poisson"])
    @pytest.mark.parametrize("net", NETS.values(), ids=NETS)
    def test_row_t_is_a_run_of_t_steps(self, net, encoder):
        one = active(net | {"encoder": encoder})
        index = torch.arange(12)
        test = one.splits.test
        given = answers(one, one.batch(test, index, epoch=0, part="test"), range(1, 6))
        for t in range(1, 6):
            short = replace(one, steps=t)
            batch = short.batch(test, index, epoch=0, part="test")
            with torch.no_grad():
                _, logits = predict(short, batch)
            assert torch.allclose(given.logits[t - 1], logits, rtol=0, atol=1e-6), t
            assert torch.equal(given.spikes[t - 1], answers(short, batch, [t]).spikes[0])
        assert (given.spikes.diff(dim=0) >= 0).all() and given.spikes[-1].min() > 0

    @pytest.mark.parametrize("net", NETS.values(), ids=NETS)
    def test_the_last_row_is_what_evaluate_says(self, net):
        one = active(net)
        score = evaluate(one, one.splits.test, "test")
        rows = score_over_time(one, one.splits.test, "test")
        assert rows.steps == (1, 2, 3, 4, 5) and rows.at == 5
        assert rows.accuracy[-1] == score.accuracy
        assert rows.loss[-1] == pytest.approx(score.loss, rel=1e-5)
        assert rows.confusion.sum() == rows.samples == len(one.splits.test)
        assert rows.confusion.diagonal().sum() / rows.samples == pytest.approx(score.accuracy)

    def test_longer_than_the_run(self):
        one = active({"net": "c4 P f3", "encoder": "poisson"})
        rows = score_over_time(one, one.splits.test, "test", steps=(9, 2))
        longer = evaluate(replace(one, steps=9), one.splits.test, "test")
        assert rows.steps == (2, 9) and rows.at == 2
        assert rows.accuracy[1] == longer.accuracy

    def test_rows_of_a_part(self):
        one = active({})
        picked = torch.tensor([3, 11, 17])
        rows = score_over_time(one, one.splits.test, "test", rows=picked)
        with torch.no_grad():
            batch = one.batch(one.splits.test, picked, epoch=0, part="test")
            hits = predict(one, batch)[1].argmax(1) == batch.target
        assert rows.samples == 3
        assert rows.accuracy[-1] == pytest.approx(hits.double().mean().item())

    def test_a_net_without_time(self):
        one = active({"stages.0.rule": "ann"})
        rows = score_over_time(one, one.splits.test, "test")
        assert rows.steps == (1,) and rows.spikes == (0.0,)
        with pytest.raises(ConfigError, match="expected none for a net without time"):
            score_over_time(one, one.splits.test, "test", steps=(1, 2))

    def test_some_numbers_of_steps(self):
        one = active({})
        rows = score_over_time(one, one.splits.test, "test", steps=(2, 4))
        every = score_over_time(one, one.splits.test, "test").accuracy
        assert len(every) == 5 and rows.accuracy == (every[1], every[3])

    def test_modes_do_not_matter(self):
        one = active(NETS["norm"])
        one.net.train()
        first = score_over_time(one, one.splits.test, "test")
        assert first.loss == score_over_time(one, one.splits.test, "test").loss

    def test_weights_that_overflow_are_named(self):
        one = bench()
        with torch.no_grad():
            one.head.site.synapse.weight.fill_(float("nan"))
        with pytest.raises(NumericalError, match="test: expected a finite loss"):
            score_over_time(one, one.splits.test, "test")


class Heard(Progress):
    """Remembers what it was told."""

    def __init__(self):
        self.said = []

    def phase(self, name, total, unit="images"):
        self.said.append((name, total))

    def advance(self, count, **figures):
        self.said.append(count)

    def close(self):
        self.said.append("close")


def test_progress_is_told():
    one, heard = bench(), Heard()
    score_over_time(one, one.splits.test, "test", progress=heard)
    assert heard.said == [("test", 30), 30, "close"]
    heard = Heard()
    measure_net(one, samples=12, progress=heard)
    assert heard.said == [("costs", 12), 12]


def test_costs_without_training():
    record = measure_net(bench(), samples=5)
    assert record.training is None and record.metered_samples == 5


class TestCodes:
    def test_constant_and_poisson_begin_alike_latency_does_not(self):
        found = {
            name: begins_alike(bench({"encoder": name}), tiny().test, "test", 2, 5)
            for name in ("constant", "poisson", "latency")
        }
        assert found == {"constant": True, "poisson": True, "latency": False}

    def test_latency_is_read_early_but_never_longer(self):
        one = active({"encoder": "latency"})
        test = one.splits.test
        assert reads_early(one, test, "test")
        rows = score_over_time(one, test, "test", steps=(2, 5))
        assert rows.accuracy[1] == evaluate(one, test, "test").accuracy
        with pytest.raises(ConfigError, match="5 at most, .* 'latency' changes with T, got 6"):
            score_over_time(one, test, "test", steps=(6,))

    def test_frames_end_where_the_data_end(self):
        x = torch.rand(60, 4, 6)
        splits = splits_from_tensors(x, torch.arange(60) % 3, test=20)
        one = set_up(recipe({"net": "f6 f3", "encoder": "frames", "stages.0.steps": 4}), splits)
        assert not reads_early(one, splits.test, "test")
        assert len(score_over_time(one, splits.test, "test").accuracy) == 4
        with pytest.raises(ShapeError, match=r"with T = 6, got .*; set steps = 4"):
            score_over_time(one, splits.test, "test", steps=(6,))

    def test_one_step_is_never_early(self):
        assert not reads_early(bench({"encoder": "latency", "stages.0.steps": 1}), tiny().test, "t")

    @pytest.mark.parametrize("steps", [(), (0,), (-1, 2)])
    def test_impossible_steps(self, steps):
        with pytest.raises(ConfigError, match="steps: expected numbers of 1 or more"):
            score_over_time(bench(), tiny().test, "test", steps=steps)


class TestPredict:
    @pytest.mark.parametrize("encoder", ["constant", "poisson"])
    def test_a_sample_alone_and_in_company(self, encoder):
        one = active({"encoder": encoder})
        test = one.splits.test
        many, spikes = predict_over_time(one, test)
        assert many.shape == (30, 5, 3) and spikes.shape == (30, 5)
        assert torch.allclose(many.sum(2), many.new_ones(30, 5))
        first, count = predict_over_time(one, test.select(torch.arange(1)))
        assert torch.allclose(first[0], many[0], atol=1e-6) and torch.equal(count[0], spikes[0])

    def test_labels_do_not_matter(self):
        one = active({})
        blank = replace(one.splits.test, y=torch.zeros(30, dtype=torch.int64))
        first, second = predict_over_time(one, blank), predict_over_time(one, one.splits.test)
        assert torch.equal(first[0], second[0])


@pytest.mark.parametrize(
    ("tops", "row"), [([3], 0), ([3, 3, 3], 0), ([3, 8, 3], 2), ([8, 3, 3], 1), ([3, 3, 8], 2)]
)
def test_settled(tops, row):
    assert settled(tops) == row


def test_logits_keep_the_precision_of_the_run():
    """Under 64-true they are those of a net in float64, however they are read."""
    one = bench({"precision": "64-true"})
    batch = one.batch(one.splits.test, torch.arange(9), epoch=0, part="test")
    with torch.no_grad():
        expected = one.head.logits(one.head.reduced(one.net.eval()(batch.xs)))
    assert expected.dtype == torch.float64 and not torch.equal(expected, expected.float().double())
    _, logits = predict(one, batch)
    assert torch.equal(logits, expected)
    for given in (answers(one, batch, [2]).logits[-1], run_until(one, batch, Exit(None)).logits):
        assert given.dtype == torch.float64 and torch.allclose(given, expected, rtol=1e-14, atol=0)


def test_steps_beyond_all_memory_are_refused_at_once(monkeypatch):
    one = bench({"stages.0.steps": 2})
    monkeypatch.setattr(over_time, "total_bytes", lambda device: 30 * 4 * 4 * 4 * 4 * 999)
    with pytest.raises(ConfigError, match=r"^steps: expected what fits into .* at T = 1000;"):
        score_over_time(one, one.splits.test, "test", steps=(1, 1000))
    monkeypatch.setattr(over_time, "total_bytes", lambda device: None)
    assert check_steps(one, one.splits.test, "test", (1, 1000)) == (1, 1000)
