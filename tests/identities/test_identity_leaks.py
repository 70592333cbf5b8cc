"""Rate rules on leaky units: how far the clamp is off, by simulation, and what users are told."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from rate_nets import Problem

from spikeloom.base.errors import UnsupportedNet
from spikeloom.heads.softmax import Softmax
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import run_train
from spikeloom.rules.dsr import Dsr
from spikeloom.rules.ide import Ide
from spikeloom.rules.leaks import clamp_error, discounted
from spikeloom.rules.spide import Spide

F64 = torch.float64
LATERAL = '{feedback = [{source = 1, target = 1, layers = "f8", restrict = 0.5}]} f12 f8 f4'
NETS = {Dsr: "f12 f8 f4", Ide: LATERAL, Spide: LATERAL}
CURRENTS = torch.linspace(-0.25, 3.0, 3251, dtype=F64)
SETTLE, COUNT = 200, 400


def steady(unit, currents):
    """Count the spikes of neurons that have settled, each under its own constant current."""
    xs = currents.expand(SETTLE + COUNT, 1, -1)
    spikes, _ = run_train(unit, xs, {}, kernels="reference")
    return spikes[SETTLE:, 0].mean(0)


@pytest.mark.parametrize("f", [0.3, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
def test_the_bound_is_reached_and_never_passed(alpha, f):
    """Currents are 0.001 apart and rates 1 / 400, so it is reached within 0.005."""
    unit = LIF(alpha=alpha, fire_fraction=f)
    off = (steady(unit, CURRENTS) - CURRENTS.clamp(0, 1)).abs().max().item()
    assert off == pytest.approx(clamp_error(unit), abs=0.005)
    assert clamp_error(unit) == pytest.approx(min(1, (1 - alpha) * max(f, 1 - f)), rel=1e-12)


@pytest.mark.parametrize("slope", ["limit", "exact"])
@pytest.mark.parametrize(("alpha", "f"), [(0.5, 1.0), (0.5, 0.5), (0.9, 0.1), (0.951229, 0.3)])
def test_so_it_is_where_the_input_is_scaled(alpha, f, slope):
    unit = LIF(alpha=alpha, fire_fraction=f, scale_input=True, v_th=0.5)
    q = -math.log(alpha) if slope == "limit" else 1 - alpha
    currents = CURRENTS * 0.5 / (1 - alpha)
    off = (steady(unit, currents) - (q * currents / 0.5).clamp(0, 1)).abs().max().item()
    bound = clamp_error(unit, q)
    assert off == pytest.approx(bound, abs=0.006)
    assert slope == "limit" or bound == pytest.approx((1 - alpha) * max(f, 1 - f), rel=1e-12)


def test_integrate_and_fire_has_no_such_error():
    for f in (0.5, 1.0):
        unit = IF(fire_fraction=f)
        assert clamp_error(unit) == clamp_error(LIF(alpha=1.0, fire_fraction=f)) == 0
        off = (steady(unit, CURRENTS) - CURRENTS.clamp(0, 1)).abs().max().item()
        assert off <= (1 + f) / COUNT


def test_half_of_the_demos_linear_part_never_fires():
    unit = LIF(alpha=0.5)
    inside = CURRENTS[(CURRENTS > 0) & (CURRENTS < 1)]
    silent = (steady(unit, inside) == 0).double().mean().item()
    assert silent == pytest.approx(0.5, abs=0.002)
    assert clamp_error(unit) == 0.5 and clamp_error(LIF(alpha=0.5, fire_fraction=0.5)) == 0.25


@pytest.mark.parametrize("rule", NETS)
class TestCautions:
    def lines(self, rule, unit, reduce="mean", decay=0.5, steps=8):
        one = Problem(NETS[rule], unit, steps=steps, head=Reads(reduce, decay))
        objective = one.head.bind(one.batch.target, one.batch.rng)
        report = rule().learn(one.net, one.batch, objective, lambda: None)
        leaks = [line for line in rule().cautions(one.net, steps) if "alpha" in line]
        means = [line for line in report.cautions if "head's mean" in line]
        return leaks, means

    def test_a_leak_is_said_with_its_number(self, rule):
        name = rule.__name__.lower()
        (line,), _ = self.lines(rule, LIF(alpha=0.5))
        assert line.startswith(f"rules.{name}: alpha = 0.5 in layer 0.0.0 and 1 more:")
        assert "off by up to 0.5 " in line and "below 0.5 v_th" in line
        (line,), _ = self.lines(rule, LIF(alpha=0.9, fire_fraction=0.5))
        assert "off by up to 0.05 " in line and "fire_fraction" not in line
        assert self.lines(rule, IF()) == self.lines(rule, LIF(alpha=1.0)) == ([], [])

    def test_a_head_that_reads_another_mean_is_named_with_the_gap(self, rule):
        _, (line,) = self.lines(rule, LIF(alpha=0.5))
        rate = discounted(0.5, 8)
        apart = sum(abs(1 / 8 - weight) for weight in rate) / 2
        assert f"can differ by {apart:.2g}:" in line and "head.decay = 0.5" in line
        assert self.lines(rule, LIF(alpha=0.5), "weighted")[1] == []
        assert len(self.lines(rule, LIF(alpha=0.5), "weighted", 0.75)[1]) == 1
        assert len(self.lines(rule, LIF(alpha=0.5), "last")[1]) == 1

    def test_a_unit_with_a_step_of_its_own_is_refused(self, rule):
        one = Problem(NETS[rule], Adaptive())
        with pytest.raises(
            UnsupportedNet, match="declare rate_clamp.* in layer 0.0.0, got Adaptive"
        ):
            one.learn(rule())


def test_dsrs_factor_is_the_one_it_says():
    """The head's own mean makes gradients of the body c times as large, as in the authors' code."""
    parts = []
    for head in (Reads("mean", 0.5), Reads("weighted", 0.5)):
        one = Problem("f12 f8 f4", LIF(alpha=0.5), head=head)
        parts.append(one.learn(Dsr(), Constant(one.net.features, one.head)))
    c = 8 * sum(weight**2 for weight in discounted(0.5, 8))
    for name, grad in parts[0].items():
        assert torch.allclose(c * grad, parts[1][name], rtol=1e-12, atol=1e-15)
    one = Problem("f12 f8 f4", LIF(alpha=0.5))
    objective = one.head.bind(one.batch.target, one.batch.rng)
    (line,) = Dsr().learn(one.net, one.batch, objective, lambda: None).cautions
    assert f"gradients are 1/{c:.3g} of" in line


def test_where_j_is_taken_is_said_for_several_layers_with_norm():
    text = '{feedback = [{source = 1, target = 0, layers = "f12", restrict = 0.5}]} %s f8 f4'
    said = {}
    for norm in ("none", "batch_step"):
        net = Problem(text % f'f12{{norm = "{norm}"}}', IF(v_th=2.0)).net
        for linearise in ("rates", "map"):
            lines = Ide(linearise=linearise).cautions(net, 8)
            said[norm, linearise] = any("linearise = 'map'" in line for line in lines)
    assert said == {key: key == ("batch_step", "rates") for key in said}
    lateral = '{feedback = [{source = 0, target = 0, layers = "f8", restrict = 0.5}]} f8%s f4'
    net = Problem(lateral % '{norm = "batch_step"}', IF(v_th=2.0)).net
    assert not any("linearise" in line for line in Ide().cautions(net, 8))


class Reads:
    """Makes softmax heads that read a mean of their own."""

    def __init__(self, reduce, decay):
        self.options = {"reduce": reduce, "decay": decay}

    def of(self, net):
        return Softmax.of(net, **self.options)


class Constant:
    """A loss that is linear in what the head reads, so that only its mean over time matters."""

    def __init__(self, features, head):
        self.head = head
        self.direction = torch.linspace(-1, 1, features, dtype=F64)

    def over(self, hs, ops=None):
        h = self.head.reduced(hs)
        return h, (h * self.direction).sum()

    def weights(self, steps):
        return self.head.weights(steps)


@dataclass(frozen=True)
class Adaptive(LIF):
    """A derived unit whose rate is not LIF's any more."""

    spiking: ClassVar[bool] = True

    def step(self, state, current, theta):
        return super().step(state, current / (1 + state.v.abs()), theta)
