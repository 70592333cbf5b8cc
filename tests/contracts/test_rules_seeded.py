"""The battery sorts rules that are wrong, each in one way, from right but unusual ones."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch

from spikeloom.base.citation import Citation
from spikeloom.check.battery import BATTERY, run_check
from spikeloom.check.execution import computes_the_same_however_it_is_executed
from spikeloom.check.form import (
    adds_gradients_and_never_zeroes,
    is_deterministic_and_leaves_the_world_alone,
    is_linear_in_the_batch_where_it_says_so,
    resumes_to_the_bit,
)
from spikeloom.check.samples import (
    does_not_depend_on_the_order_of_samples,
    does_not_mind_being_watched,
    gives_the_same_for_every_sample_copied,
)
from spikeloom.check.toy import Case
from spikeloom.nets.ops import Credited, OnWeights, Ops, cut
from spikeloom.nets.walk.walk import is_constant
from spikeloom.rules.base import NO_STEPS, LearningRule, RuleFacts, RuleReport, Trials, refuse_tail
from spikeloom.rules.steps import learn_by_step

FACTS = RuleFacts("a seeded rule", Citation("Nobody", "A test", "here", 2026), "time", "constant")


@dataclass(frozen=True)
class Local(LearningRule):
    """SLTT through plain seams, with what each seed adds.

    Source:
        A test.
    """

    facts: ClassVar[RuleFacts] = FACTS
    trials: ClassVar[Trials] = Trials(refused=(NO_STEPS,))

    def prepare(self, net, head_sites, sample) -> None:
        refuse_tail(net, "local")

    def factor(self, net: Any, batch: Any) -> float:
        return 1.0

    def ops(self, net: Any, batch: Any) -> Ops:
        share = self.factor(net, batch)
        return Ops(carry=cut, emit=lambda visit, s: share * s + (1 - share) * s.detach())

    def learn(self, net, batch, objective, commit) -> RuleReport:
        ops = self.ops(net, batch)
        report = learn_by_step(
            net,
            batch,
            objective,
            ops,
            active=range(batch.steps),
            after_step=lambda: None,
            may_hold=True,
        )
        if isinstance(ops.synapse, Credited):
            ops.synapse.flush()
        commit()
        return report


class LargeBatches(Local):
    """Source: wrong only above 16,384 elements."""

    def factor(self, net, batch):
        return 2.0 if batch.xs.numel() > 1 << 14 else 1.0


class ConstantInput(Local):
    """Source: wrong only where the input is one tensor seen T times."""

    def factor(self, net, batch):
        return 2.0 if is_constant(batch.xs) else 1.0


class Watched(Local):
    """Source: wrong only under an observer."""

    def factor(self, net, batch):
        return 2.0 if net._observers else 1.0


class Order(Local):
    """Source: depends on the order of the batch."""

    def factor(self, net, batch):
        return 1.0 + float(batch.target[0])


CALLS = {"count": 0}


class Previous(Local):
    """Source: depends on what ran before it."""

    def factor(self, net, batch):
        CALLS["count"] += 1
        return 1.0 + 0.1 * (CALLS["count"] % 7)


class AcrossSamples(Local):
    """Source: a sample's error leaks into its neighbour's."""

    def ops(self, net, batch):
        def emit(visit, s):
            return s + 0.5 * (s.roll(1, 0) - s.roll(1, 0).detach())

        return Ops(carry=cut, emit=emit)


class NotAddedUp(Local):
    """Source: its own weight gradient replaces what was there."""

    def learn(self, net, batch, objective, commit):
        for parameter in net.parameters():
            parameter.grad = None
        return super().learn(net, batch, objective, commit)


@dataclass(frozen=True)
class Stale(Local):
    """Source: keeps a mean error from batch to batch and saves it nowhere."""

    kept: dict[str, float] = field(default_factory=dict, init=False, compare=False, repr=False)

    def factor(self, net, batch):
        self.kept["calls"] = self.kept.get("calls", 0.0) + 1
        return 1.0 + 0.25 * min(self.kept["calls"], 6)


WRONG = [
    (LargeBatches, gives_the_same_for_every_sample_copied, "size of the batch"),
    (ConstantInput, computes_the_same_however_it_is_executed, "copied input"),
    (Watched, does_not_mind_being_watched, "observer"),
    (Order, does_not_depend_on_the_order_of_samples, "order of the samples"),
    (Previous, is_deterministic_and_leaves_the_world_alone, "differs"),
    (AcrossSamples, is_linear_in_the_batch_where_it_says_so, "not the mean over samples"),
    (NotAddedUp, adds_gradients_and_never_zeroes, "learn must add"),
    (Stale, resumes_to_the_bit, "after resuming"),
]


class ReadsStates(Local):
    """SLTT whose errors fade with the potential of each neuron.

    Source: a test; states are read by attribute.
    """

    def ops(self, net, batch):
        last: dict[str, Any] = {}

        def carry(visit, state):
            last[visit.name] = state.v.detach() if hasattr(state, "v") else None
            return state

        def emit(visit, s):
            v = last.get(visit.name)
            gate = 1.0 if v is None or v.shape != s.shape else torch.sigmoid(v)
            return gate * s + (1 - gate) * s.detach()

        return Ops(carry=cut.then(carry), emit=emit)


class KeepsCurrents(Local):
    """SLTT whose weight gradients are made by hand from currents it keeps.

    Source: a test.
    """

    def ops(self, net, batch):
        kept = []

        def synapse(visit, x):
            current = visit.synapse(x)
            assert all(torch.equal(now, before) for now, before in kept)
            kept[:] = [(current, current.detach().clone())]
            return current

        return Ops(synapse=OnWeights(synapse), carry=cut)


class Traced(Local):
    """OTTT's gradient with a trace of its own.

    Source: a test.
    """

    def ops(self, net, batch):
        traces: dict[str, torch.Tensor] = {}

        def trace(visit, x):
            if visit.site.external:
                return x
            traces[visit.name] = 0.5 * traces.get(visit.name, 0.0) + x.detach()
            return traces[visit.name]

        return Ops(synapse=Credited(trace), carry=cut)


RIGHT = [Local, ReadsStates, KeepsCurrents, Traced]


def case_of(kind):
    frozen = kind if "__dataclass_params__" in vars(kind) else dataclass(frozen=True)(kind)
    return Case("local", frozen())


@pytest.mark.parametrize(
    ("kind", "check", "words"), WRONG, ids=lambda v: getattr(v, "__name__", "")
)
def test_wrong_rules_are_named(kind, check, words):
    result = run_check(check, case_of(kind))
    assert result.outcome == "failed" and words in result.reason, result


def slow(kind):
    """The whole battery takes ten seconds: one rule by default."""
    return pytest.param(kind, marks=[] if kind is ReadsStates else [pytest.mark.slow])


@pytest.mark.parametrize("kind", map(slow, RIGHT), ids=lambda v: v.__name__)
def test_right_rules_pass(kind):
    results = [run_check(check, case_of(kind)) for check in BATTERY]
    assert [r for r in results if r.outcome == "failed"] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind, *_ in WRONG], ids=lambda v: v.__name__)
def test_the_battery_fails_wrong_rules(kind):
    assert any(run_check(check, case_of(kind)).outcome == "failed" for check in BATTERY)
