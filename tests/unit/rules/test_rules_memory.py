"""Rules that say "constant in T" are, with every option of a unit, on kernels and without."""

import importlib.util
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import pytest
import torch

from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.peak import allocations, highest
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.spike import spike
from spikeloom.neurons.surrogate import Periodic, Sigmoid
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

SAMPLES, INPUTS = 4, 6
FEW, MANY = 4, 12
RULES = {
    "sltt": Sltt(),
    "sltt-k": Sltt(given=(0, 2)),
    "ottt-a": Ottt(trace_decay=0.5),
    "ottt-o": Ottt(update="online", trace_decay=0.5),
}


class Two(NamedTuple):
    """A potential, and a level that rises with each spike."""

    v: torch.Tensor
    level: torch.Tensor


@dataclass(frozen=True)
class Own:
    """A unit as a user writes it, with two states; no value decides both output and state."""

    decay: float = 0.5
    spiking: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    learn: ClassVar[tuple[str, ...]] = ()
    per_channel: ClassVar[bool] = False

    def init(self, current):
        return Two(torch.zeros_like(current), torch.zeros_like(current))

    def step(self, state, current, theta):
        v = self.decay * state.v + current
        s = spike(v - 1 - state.level, Sigmoid(2.0))
        return s, Two(v - s, 0.5 * state.level + 0.25 * s)


@dataclass(frozen=True)
class Mixing(Own):
    """A unit in which elements meet: no kernel can hold it."""

    def step(self, state, current, theta):
        return super().step(state, current - current.mean(), theta)


UNITS = {
    "if": IF(),
    "hard": LIF(reset="hard", v_reset=0.25, fires=">"),
    "no reset": LIF(reset="none", fire_fraction=0.75),
    "next step": LIF(order="next_step", scale_input=True),
    "refractory": LIF(refractory=2, detach_reset=True),
    "refractory, next step": IF(refractory=1, order="next_step"),
    "current": LIF(beta=0.5),
    "current, refractory": LIF(beta=0.5, scale_current=True, refractory=1),
    "v_th": LIF(learn=("v_th",), per_channel=True),
    "alpha": LIF(learn=("alpha",)),
    "all": LIF(
        order="next_step",
        reset="hard",
        refractory=1,
        beta=0.5,
        scale_current=True,
        scale_input=True,
        learn=("v_th", "alpha"),
    ),
    "many": LIF(max_spikes=None, v_min=-0.5, surrogate=Periodic()),
    "many, next step": IF(max_spikes=3, v_min=-0.5, order="next_step"),
    "own": Own(),
    "mixing": Mixing(),
}
ON_KERNELS = [(name, "compiled") for name in UNITS]
ON_THE_REFERENCE = [(name, "reference") for name in ("if", "all", "own")]


def peaks(calls):
    """Return the peak of each call's tensor memory, all measured by one watch."""
    mark = 1234567  # bytes: no tensor here is as large
    for call in calls:  # gradients exist, kernels are compiled
        call()

    def watched():
        for call in calls:
            torch.empty(mark, dtype=torch.uint8)
            call()
        torch.empty(mark, dtype=torch.uint8)

    changes = allocations(watched)
    marks = [place for place, change in enumerate(changes) if change == mark]
    assert len(marks) == len(calls) + 1
    return [highest(changes[before + 2 : after]) for before, after in pairwise(marks)]


def learning(net, rule, steps, *, constant):
    """Return a call of the rule; the input is there before, and belongs to the data."""
    head = Softmax.of(net)
    draw = torch.Generator().manual_seed(0)
    xs = 2 * torch.rand(1 if constant else steps, SAMPLES, INPUTS, generator=draw)
    batch = Batch.of(xs.expand(steps, SAMPLES, INPUTS), torch.arange(SAMPLES) % 2)
    objective = head.bind(batch.target, batch.rng)
    return lambda: rule.learn(net, batch, objective, lambda: None)


def growth(unit, kernels, text="f8 f6 f2"):
    """Return the peaks at few steps and at many, by rule and kind of input."""
    execution = Execution(kernels=kernels)
    net = SpikingNet(parse(text, unit=unit), (INPUTS,), execution=execution).train()
    cases = [(name, constant) for name in RULES for constant in (True, False)]
    calls = [
        learning(net, RULES[name], steps, constant=constant)
        for name, constant in cases
        for steps in (FEW, MANY)
    ]
    measured = iter(peaks(calls))
    return {case: (next(measured), next(measured)) for case in cases}


@pytest.mark.parametrize(("name", "kernels"), [*ON_KERNELS, *ON_THE_REFERENCE])
def test_every_unit_option_is_constant_in_t(name, kernels):
    if kernels == "compiled" and importlib.util.find_spec("numba") is None:
        pytest.skip("no compiler is installed")
    for case, (few, many) in growth(UNITS[name], kernels).items():
        assert 0 < many <= few, f"{case}: {few} bytes at T = {FEW}, {many} at T = {MANY}"


def test_steps_that_are_kept_are_seen():
    """The measure itself, to the byte."""

    def keep(steps):
        return [torch.zeros(100) for _ in range(steps)]

    assert peaks([lambda: keep(FEW), lambda: keep(MANY)]) == [400 * FEW, 400 * MANY]
