"""A user's own unit, whatever its attributes are called: right with every rule, or refused by name.

What it declares must make it LIF to the bit, and what it does not declare must never be guessed.
"""

import dataclasses
from typing import Any

import pytest
import torch
from ownlif import (
    BAR,
    LEAK,
    OURS,
    Bare,
    BareMisnamed,
    Charge,
    Faster,
    InDataclass,
    InDict,
    InList,
    Misnamed,
    Told,
    learned,
    same,
)

from spikeloom.base.errors import ConfigError, SpikeloomError, UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.check.battery import all_cases
from spikeloom.check.toy import Case
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.declared import (
    NoRateClamp,
    RateClamp,
)
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.rules.clamps import Clamped, clamped
from spikeloom.rules.dsr import Dsr
from spikeloom.rules.ide import Ide
from spikeloom.rules.ottt import Ottt

CASES = all_cases()
RATES = {"dsr", "ide", "spide"}


@pytest.mark.parametrize("kernels", ["reference", "compiled"])
@pytest.mark.parametrize("unit", [Told(), Misnamed()], ids=lambda unit: type(unit).__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_unit_that_declares_is_lif_to_the_bit(case, unit, kernels):
    case = dataclasses.replace(case, kernels=kernels)
    same(learned(case, unit), learned(case, OURS))


@pytest.mark.parametrize("unit", [Bare(), BareMisnamed()], ids=lambda unit: type(unit).__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_that_declares_nothing_is_right_or_refused_by_name(case, unit):
    needed = {"ottt": "trace_decay"} | dict.fromkeys(RATES, "rate_clamp")
    fixed = isinstance(case.rule, Ottt) and case.rule.trace_decay is not None
    if case.name not in needed or fixed:
        same(learned(case, unit), learned(case, OURS))
        return
    with pytest.raises(UnsupportedNet) as refusal:
        learned(case, unit)
    text = str(refusal.value)
    assert text.startswith(f"rules.{case.name}: expected neurons ") and "\n" not in text
    assert f"declare {needed[case.name]}, " in text and " layer " in text
    assert f"got {type(unit).__name__}, which declares none for its step; add" in text


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_derived_class_with_another_step_is_not_taken_for_its_parent(case):
    unit = Faster(alpha=LEAK, v_th=BAR)
    if case.name in RATES or (case.name == "ottt" and case.rule.trace_decay is None):
        with pytest.raises(UnsupportedNet, match="got Faster, which declares none for its step"):
            learned(case, unit)
        return
    grads = learned(case, unit)
    assert case.rule.facts.spiking != all(
        map(torch.equal, grads.values(), learned(case, OURS).values())
    )


@pytest.mark.parametrize("kind", [InDict, InList, InDataclass])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_state_may_have_any_form(case, kind):
    same(learned(case, kind()), learned(case, OURS))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_trained_threshold_may_have_any_name(case):
    try:
        ours = learned(case, LIF(alpha=LEAK, v_th=BAR, learn=("v_th",)))
    except UnsupportedNet:
        with pytest.raises(UnsupportedNet, match="expected fixed thresholds"):
            learned(case, Told(learn=("bar",)))
        return
    own = learned(case, Told(learn=("bar",)))
    same({name.replace("raw_bar", "raw_v_th"): grad for name, grad in own.items()}, ours)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_trained_leak_is_refused_where_a_fixed_one_is_needed(case):
    """Ours is the logistic of its parameter, which is exact at 1/2, with slope 1/4."""
    unit, ours = Told(0.5, learn=("leak",)), LIF(alpha=0.5, v_th=BAR, learn=("alpha",))
    try:
        expected = learned(case, ours)
    except UnsupportedNet as refusal:
        with pytest.raises(UnsupportedNet, match=f"rules.{case.name}: expected a fixed"):
            learned(case, unit)
        assert "expected a fixed" in str(refusal)
        return
    for name, grad in learned(case, unit).items():
        factor = 0.25 if name.endswith("raw_leak") else 1.0
        wanted = expected[name.replace("raw_leak", "raw_alpha")]
        torch.testing.assert_close(factor * grad, wanted, rtol=1e-12, atol=1e-14)


class TestRefusals:
    """What contradicts itself, or is out of range, says so."""

    def refused(self, kind: type, **words: Any) -> str:
        unit = type("Own", (kind,), words)()
        with pytest.raises(SpikeloomError) as refusal:
            learned(Case("dsr", Dsr()), unit)
        return str(refusal.value)

    def test_a_rate_that_is_not_the_clamp(self):
        text = self.refused(Told, rate=lambda self, current, theta: (current / 2).clamp(0, 1))
        assert text.startswith("rules.dsr: expected a rate that is the clamp of Own in layer 0.0.0")
        assert "off by up to 0.62" in text  # currents of 3/2 and 3/4 thresholds of 1/2: 3/8, 3/16
        assert "expected a rate that is" in self.refused(Told, rate_clamp=RateClamp(scale=0.25))

    @pytest.mark.parametrize(
        "words",
        [
            {"trace_decay": 0.5},
            {"rate_clamp": RateClamp(level=0.5)},
            {
                "rate_clamp": RateClamp(scale=2.0),
                "rate": lambda self, c, theta: (4 * c).clamp(0, 1),
            },
            {
                "firing_threshold": lambda self, theta: 1.0,
                "rate": lambda self, c, theta: c.clamp(0, 1),
            },
            {"unpacked": staticmethod(lambda state: state.q.clamp(min=-0.125))},
            {"packed": staticmethod(lambda q: Charge(q * (q > 0)))},
        ],
        ids=list,
    )
    def test_spikes_that_are_not_those_of_the_clamp(self, words):
        text = self.refused(Told, **words)
        assert text.startswith("rules.dsr: expected spikes of Own in layer 0.0.0 as trace_decay, ")

    @pytest.mark.parametrize("start", [-0.75, 0.25, 3.0])
    def test_but_any_initial_potential_is_right(self, start):
        own = {"init": lambda self, current: Charge(torch.full_like(current, start))}
        unit = type("Own", (Told,), own)()
        ours = LIF(alpha=LEAK, v_th=BAR, v_init=start)
        for case in CASES:
            same(learned(case, unit), learned(case, ours))

    def test_a_clamp_without_decay_or_threshold(self):
        assert "expected a fixed trace_decay above 0" in self.refused(Told, trace_decay=0.0)
        assert "expected a fixed trace_decay above 0" in self.refused(Told, trace_decay=None)
        text = self.refused(Told, firing_threshold=lambda self, theta: 0.0)
        assert "expected a firing_threshold above 0 in layer 0.0.0, got 0 of Own" in text

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("trace_decay", 1.5, "expected a factor in [0, 1]"),
            ("trace_decay", "0.5", "expected a number"),
            ("rate_clamp", 1.0, "expected RateClamp or NoRateClamp, got 1.0"),
            ("firing_threshold", 0.5, "expected a method firing_threshold(theta), got 0.5"),
            ("firing_drive", -1.0, "expected a number above 0"),
        ],
    )
    def test_another_type_or_range(self, name, value, words):
        text = self.refused(Told, **{name: value})
        assert text.startswith(f"neurons.Own.{name}: ") and words in text

    def test_of_clamps(self):
        with pytest.raises(ConfigError, match=r"RateClamp.scale: expected a number above 0, got 0"):
            RateClamp(scale=0.0)
        assert isinstance(LIF(alpha=1.0, scale_input=True).rate_clamp, NoRateClamp)

    def test_a_stateless_unit_without_rate_under_ide(self):
        unit = type("Own", (Bare,), {"stateful": False, "init": lambda self, current: None})()
        net = '{feedback = [{source = 1, target = 0, layers = "f8"}]} f8 f8 f2'
        spec = parse(net, unit=unit)
        with pytest.raises(UnsupportedNet, match="rules.ide: expected neurons that declare rate,"):
            Ide().prepare(
                SpikingNet(spec, (4,)), (), Batch.of(torch.ones(2, 1, 4), torch.zeros(1).long())
            )

    def test_a_trained_quantity_without_a_start(self):
        with pytest.raises(
            ConfigError, match="expected Bare.lost, named in learn, to be the number"
        ):
            Neuron(Bare(learn=("lost",)))


def test_a_scaled_input_is_a_clamp_of_that_slope():
    """LIF that scales its input, as another's: u = leak v + (1 - leak) c."""

    class Scaled(Told):
        rate_clamp = RateClamp(scale=1 - LEAK)

        def step(self, state, current, theta):
            return super().step(state, (1 - LEAK) * current, theta)

        def rate(self, current, theta):
            return ((1 - LEAK) * current / self.bar).clamp(0, 1)

        trace_decay = LEAK
        firing_threshold = Told.firing_threshold

    ours = LIF(alpha=LEAK, v_th=BAR, scale_input=True)
    assert clamped(Scaled()) == clamped(ours) == Clamped(LEAK, 1 - LEAK, 1.0)
    for case in CASES:
        if case.name in RATES:
            same(learned(case, Scaled(), ours), learned(case, ours, ours))
