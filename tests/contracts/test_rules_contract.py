"""Every registered rule through the battery, with every unit, surrogate, head and encoder."""

import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from rule_battery import BATTERY, NETS, OPTIONS, VARIANTS, Case, Setup, T, cases

from spikeloom.base.citation import Citation
from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.base.seeding import SampleRng
from spikeloom.base.types import Batch
from spikeloom.encoders import ENCODERS
from spikeloom.heads.base import HEADS
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.grammar import parse
from spikeloom.nets.net import SpikingNet
from spikeloom.nets.ops import Ops
from spikeloom.neurons.base import UNITS, detach_state
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import SURROGATES
from spikeloom.rules.ann import Ann
from spikeloom.rules.base import RULES, LearningRule, RuleFacts, RuleReport
from spikeloom.rules.bptt import Bptt
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

every_case = pytest.mark.parametrize("case", cases(), ids=str)

SURROGATE_OPTIONS = {"fast_sigmoid": {"k": 2.0}}  # the default is steep: slopes of 1e-3 at rest
ENCODER_SAMPLES = {"frames": lambda x: x.unsqueeze(1).expand(-1, T, -1)}  # has its own time


@every_case
@pytest.mark.parametrize("check", BATTERY, ids=lambda check: check.__name__)
def test_battery(check, case):
    check(case)


def healthy(one: Setup) -> None:
    """Require gradients that are finite everywhere and reach every layer's weights."""
    one.clear()
    report = one.learn()
    assert bool(torch.isfinite(report.loss))
    for name, grad in one.grads().items():
        assert bool(torch.isfinite(grad).all()), name
        assert not name.startswith("net.") or bool(grad.any()), name
    assert all(p.grad is not None for p in one.net.parameters())


@every_case
@pytest.mark.parametrize("name", UNITS.names())
def test_every_unit(name, case):
    kind = UNITS.find(name)
    trainable = getattr(kind, "learnable", ())
    healthy(Setup(case, unit=kind()))
    for quantity in trainable:
        unit = kind(learn=(quantity,))
        if quantity == "alpha" and getattr(case.rule, "trace_decay", 0) is None:
            with pytest.raises(UnsupportedNet, match="a trained alpha; set trace_decay"):
                Setup(case, unit=unit)
        else:
            healthy(Setup(case, unit=unit))


@every_case
@pytest.mark.parametrize("name", SURROGATES.names())
def test_every_surrogate(name, case):
    surrogate = SURROGATES.find(name)(**SURROGATE_OPTIONS.get(name, {}))
    healthy(Setup(case, unit=LIF(alpha=0.5, surrogate=surrogate)))


@every_case
@pytest.mark.parametrize("name", HEADS.names())
def test_every_head(name, case):
    one = Setup(case, head=HEADS.find(name))
    healthy(one)
    before = one.learn().loss
    one.train(30)
    assert one.learn().loss < before


@every_case
@pytest.mark.parametrize("name", ENCODERS.names())
def test_every_encoder(name, case):
    one = Setup(case)
    steps = len(one.xs)
    sample = one.xs[0]
    if name in ENCODER_SAMPLES:
        sample = ENCODER_SAMPLES[name](sample)[:, :steps]
    rng = SampleRng(0, 0, one.rows)
    xs = ENCODERS.find(name)().encode(sample, steps, rng)
    batch = Batch(xs, one.target, rng)
    assert bool(torch.isfinite(one.learn(batch).loss))
    assert all(bool(torch.isfinite(grad).all()) for grad in one.grads().values())
    assert any(bool(grad.any()) for grad in one.grads().values())


TAIL = 'c4 c4{unit="relu"} G f2'
REFUSALS = [
    (Ann(), "c4 f2", 1, "rules.ann: expected a net without spiking units, got one; build it from"),
    (Ann(), 'c4{unit="relu"} f2', 2, "rules.ann: expected T = 1, got 2; set steps = 1"),
    (Bptt(loss="step"), TAIL, T, "rules.bptt: expected features at every step, but block 1 reads"),
    (Sltt(), TAIL, T, "rules.sltt: expected features at every step, but block 1 reads"),
    (Ottt(), TAIL, T, "rules.ottt: expected features at every step, but block 1 reads"),
    (Ottt(), "c4 M c4 f2", T, "rules.ottt: expected a linear path into layer 2.0.0, got a max po"),
    (Ottt(), "c4 c4 M f2", T, "rules.ottt: expected a linear path into layer readout, got a max"),
    (
        Ottt(),
        'c4{unit={name="lif",learn=["alpha"]}} c4 f2',
        T,
        "rules.ottt: expected a fixed decay of the neurons before layer",
    ),
]


def arrange(text, steps):
    net = SpikingNet(parse(text), (2, 4, 4))
    rng = SampleRng(0, 0, torch.arange(2))
    batch = Batch(torch.rand(steps, 2, 2, 4, 4), torch.tensor([0, 1]), rng)
    return net, Softmax.of(net), batch


@pytest.mark.parametrize(("rule", "text", "steps", "message"), REFUSALS)
def test_refuses_nets_it_cannot_train(rule, text, steps, message):
    net, head, batch = arrange(text, steps)
    with pytest.raises(UnsupportedNet, match=f"^{re.escape(message)}"):
        rule.prepare(net, head.sites, batch)


@pytest.mark.parametrize("head", HEADS.names())
def test_the_max_pool_before_any_map_of_a_head_is_seen(head):
    net, _, batch = arrange("c4 c4 M f2", T)
    for site in HEADS.find(head).of(net).sites:
        with pytest.raises(UnsupportedNet, match=f"layer {site.name}, got a max pool"):
            Ottt().prepare(net, (site,), batch)


@pytest.mark.parametrize(
    ("rule", "text", "steps"),
    [
        (Bptt(), TAIL, T),
        (Bptt(), "c4 M c4 f2", T),
        (Sltt(), "c4 M c4 f2", T),
        (Ottt(), "M c4 P c4 f2", T),  # before the first neurons there is no trace
        (Ottt(trace_decay=0.5), 'c4{unit={name="lif",learn=["alpha"]}} c4 f2', T),
        (Sltt(), '[c4] [c4{unit="relu"}]{reads="step"} f2', T),
    ],
)
def test_refuses_no_more_than_it_must(rule, text, steps):
    net, head, batch = arrange(text, steps)
    rule.prepare(net, head.sites, batch)
    report = rule.learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
    assert bool(torch.isfinite(report.loss))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Bptt(loss="mean"), "rules.bptt.loss: expected end or step, got 'mean'"),
        (lambda: Sltt(k_steps=0), "rules.sltt.k_steps: expected 1 or more, got 0"),
        (lambda: Sltt(k_steps=1, given=(0,)), "rules.sltt: expected k_steps or given, got both"),
        (lambda: Ottt(update="once"), "rules.ottt.update: expected batch or online, got 'once'"),
        (lambda: Ottt(trace_decay=1.5), "rules.ottt.trace_decay: expected [0, 1], got 1.5"),
    ],
)
def test_options_out_of_range_are_refused(build, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}; "):
        build()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Sltt(k_steps=T + 1), f"rules.sltt.k_steps: expected at most T = {T}, got {T + 1}"),
        (Sltt(given=(0, T)), f"rules.sltt.given: expected steps from 0 to {T - 1}, got (0, {T})"),
        (Sltt(given=(-1,)), "rules.sltt.given: "),
        (Sltt(given=()), "rules.sltt.given: "),
    ],
)
def test_steps_that_do_not_exist_are_refused(rule, message):
    net, head, batch = arrange("c4 f2", T)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        rule.prepare(net, head.sites, batch)


@every_case
def test_rules_are_frozen_values(case):
    same = type(case.rule)(**vars(case.rule))
    assert same == case.rule and hash(same) == hash(case.rule)
    with pytest.raises(AttributeError):
        case.rule.anything = 1


@dataclass(frozen=True)
class Cutting(LearningRule):
    """Credit within a step only, by one graph over all steps.

    Source:
        this test.
    """

    facts: ClassVar[RuleFacts] = RuleFacts(
        title="a rule written in a test file",
        source=Citation("Nobody", "A rule of ten lines", "nowhere", 2024),
        order="time",
        memory="linear",
    )

    def learn(self, net, batch, objective, commit):
        ops = Ops(carry=lambda site, state: detach_state(state))
        losses = [objective(h) for h in net.run_by_time(batch.xs, ops, rng=batch.rng)]
        value = torch.stack([loss.value for loss in losses]).mean()
        value.backward()
        commit()
        logits = torch.stack([loss.logits for loss in losses]).mean(0)
        return RuleReport(value.detach(), logits.detach())


@pytest.fixture
def newcomer():
    """A rule registered from outside, gone after the test."""
    RULES.names()  # the folder is read before the newcomer comes
    RULES.register("cutting")(Cutting)
    yield "cutting"
    del RULES._members["cutting"]


def test_a_new_rule_needs_no_change_anywhere(newcomer):
    assert newcomer in RULES.names()
    (case,) = [case for case in cases() if case.name == newcomer]
    for check in BATTERY:
        check(case)


def test_the_newcomer_is_gone():
    assert "cutting" not in RULES.names()


class Lazy(Cutting):
    """A rule that trains the head alone."""

    def learn(self, net, batch, objective, commit):
        with torch.no_grad():
            features = net(batch.xs)
        loss = objective.over(features)
        loss.value.backward()
        commit()
        return RuleReport(loss.value.detach(), loss.logits.detach())


class Zeroing(Cutting):
    """A rule that throws away what others left in .grad."""

    def learn(self, net, batch, objective, commit):
        net.zero_grad()
        return super().learn(net, batch, objective, commit)


@pytest.mark.parametrize(("rule", "check"), [(Lazy(), 0), (Lazy(), 3), (Zeroing(), 3)])
def test_the_battery_catches_a_rule_that_breaks_the_contract(rule, check):
    with pytest.raises(AssertionError):
        BATTERY[check](Case("broken", rule))


def test_every_registered_member_is_covered():
    """Tables are built from registries; entries by hand must name something that exists."""
    assert {case.name for case in cases()} == set(RULES.names())
    by_hand = {
        RULES: {*OPTIONS, *NETS, *VARIANTS},
        SURROGATES: set(SURROGATE_OPTIONS),
        ENCODERS: set(ENCODER_SAMPLES),
    }
    for registry, names in by_hand.items():
        assert names <= set(registry.names()), registry.kind
    for case in cases():
        assert type(case.rule) is RULES.find(case.name)
    refusing = {type(rule) for rule, *_ in REFUSALS}
    assert refusing == {RULES.find(name) for name in RULES.names()}, "say what each rule refuses"
    for registry in (UNITS, HEADS, ENCODERS, SURROGATES):
        assert registry.names()


def test_one_member_of_each_family_has_one_name():
    for registry in (RULES, UNITS, HEADS, ENCODERS, SURROGATES):
        members = [registry.find(name) for name in registry.names()]
        assert len(set(members)) == len(members)
