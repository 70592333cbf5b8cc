"""What SLTT is equal to."""

from itertools import combinations

import pytest
import torch
from rule_runs import EXACT, NETS, UNIT, Problem, T, scaled, total

from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.nets.ops import Ops
from spikeloom.neurons.base import detach_state
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Triangle
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.sltt import Sltt

every_net = pytest.mark.parametrize("name", NETS)
exact_net = pytest.mark.parametrize("name", EXACT)
both_inputs = pytest.mark.parametrize("view", [True, False], ids=["view", "copy"])


@every_net
def test_one_step_is_backpropagation(name):
    one = Problem(name, steps=1)
    sltt = one.learn(Sltt())
    one.same(sltt, one.learn(Bptt(loss="step")))
    one.same(sltt, one.learn(Bptt(loss="end")))


@both_inputs
@every_net
def test_is_bptt_with_every_edge_between_steps_cut(name, view):
    one = Problem(name, view=view)
    sltt = one.learn(Sltt())
    ops = Ops(carry=lambda visit, state: detach_state(state))
    one.clear()
    objective = one.objective()
    features = one.net.run_by_time(one.batch.xs, ops, rng=one.batch.rng)
    torch.stack([objective(h).value for h in features]).mean().backward()
    one.same(sltt, one.grads())


@exact_net
def test_layer_order_with_the_same_cuts_agrees_too(name):
    one = Problem(name)
    sltt = one.learn(Sltt())
    one.clear()
    objective = one.objective()
    ops = Ops(carry=lambda visit, state: detach_state(state))
    features = one.net.run_by_layer(one.batch.xs, ops, rng=one.batch.rng)
    torch.stack([objective(h).value for h in features]).mean().backward()
    one.same(sltt, one.grads())


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("name", ["dense", "conv", "deep", "backres"])
def test_without_memory_it_is_bptt_for_any_number_of_steps(name, detach):
    unit = LIF(alpha=0.0, surrogate=Triangle(1.0, 1.0), detach_reset=detach)
    one = Problem(name, unit=unit)
    one.same(one.learn(Sltt()), one.learn(Bptt(loss="step")))


@exact_net
def test_with_memory_it_is_not(name):
    one = Problem(name)
    sltt, bptt = one.learn(Sltt()), one.learn(Bptt(loss="step"))
    assert any(not torch.equal(sltt[key], bptt[key]) for key in sltt)


@both_inputs
@every_net
def test_k_of_t_steps_are_all_steps(name, view):
    one = Problem(name, view=view)
    whole = one.learn(Sltt())
    again = one.learn(Sltt(k_steps=T))
    given = one.learn(Sltt(given=tuple(range(T))))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert all(torch.equal(whole[key], given[key]) for key in whole)


@both_inputs
@every_net
def test_a_partition_of_the_steps_adds_up(name, view):
    one = Problem(name, view=view)
    parts = [one.learn(Sltt(given=steps)) for steps in ((0, 3), (2,), (1,))]
    one.same(one.learn(Sltt()), total(parts))


@pytest.mark.parametrize("k", [1, 2, 3])
@exact_net
def test_all_subsets_average_to_k_over_t(name, k):
    one = Problem(name)
    subsets = list(combinations(range(T), k))
    parts = [one.learn(Sltt(given=steps)) for steps in subsets]
    whole = one.learn(Sltt())
    one.same(total(parts), scaled(whole, len(subsets) * k / T))


def test_the_draw_of_steps_is_uniform_and_belongs_to_the_batch():
    one = Problem("dense")
    rule = Sltt(k_steps=2)

    def chosen(epoch, first):
        index = torch.arange(4) + first
        return rule._chosen(Batch(one.batch.xs, one.batch.target, SampleRng(0, epoch, index)))

    assert chosen(0, 0) == chosen(0, 0)
    counts: dict[frozenset, int] = {}
    for epoch in range(600):
        steps = chosen(epoch, 3 * epoch)
        assert len(steps) == 2 and steps <= set(range(T))
        counts[steps] = counts.get(steps, 0) + 1
    assert len(counts) == 6 and min(counts.values()) > 65  # 100 each; 9.1 is one deviation


def test_the_loss_reported_is_that_of_all_steps():
    one = Problem("dense")
    one.learn(Sltt())
    whole = one.report
    one.learn(Sltt(given=(2,)))
    assert torch.equal(one.report.loss, whole.loss)
    assert torch.equal(one.report.logits, whole.logits)


def test_trained_thresholds_and_decays_learn_within_a_step():
    unit = LIF(alpha=0.5, surrogate=Triangle(1.0, 1.0), learn=("v_th", "alpha"))
    one = Problem("conv", unit=unit)
    one.exact = False  # the logistic of the decay rounds
    sltt = one.learn(Sltt())
    one.clear()
    ops = Ops(carry=lambda visit, state: detach_state(state))
    objective = one.objective()
    features = one.net.run_by_time(one.batch.xs, ops)
    torch.stack([objective(h).value for h in features]).mean().backward()
    one.same(sltt, one.grads())
    assert sum("raw_" in key for key in sltt) == 4
    assert all(bool(part.any()) for key, part in sltt.items() if "raw_" in key)


def test_the_unit_of_these_tests():
    assert UNIT.alpha == 0.5 and UNIT.surrogate.slope(torch.zeros(1), 1.0).item() == 1
