"""What a unit says of its own equation, and OTTT, which needs one such word."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pytest
import torch

from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.base import declares
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.reduction import decay_of
from spikeloom.neurons.relu import Relu
from spikeloom.neurons.spike import spike
from spikeloom.neurons.surrogate import Sigmoid
from spikeloom.rules.ottt import Ottt


class State(NamedTuple):
    v: torch.Tensor


@dataclass(frozen=True)
class Own:
    """A user's own leaky unit, whose decay has a name of its own."""

    keep: float = 0.75

    spiking: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    learn: ClassVar[tuple[str, ...]] = ()
    per_channel: ClassVar[bool] = False

    def init(self, current):
        return State(torch.zeros_like(current))

    def step(self, state, current, theta):
        u = self.keep * state.v + current
        out = spike(u - 1, Sigmoid(4.0))
        return out, State(u - out)

    def rate(self, current, theta):
        return current.clamp(0, 1)


@dataclass(frozen=True)
class Named(Own):
    """It calls other things alpha and beta, as papers do."""

    alpha: float = 7.0
    beta: float = 1.8


@dataclass(frozen=True)
class Declared(Named):
    trace_decay: float = 0.75


@dataclass(frozen=True)
class AsProperty(Own):
    @property
    def trace_decay(self):
        return self.keep


class Changed(Declared):
    """Its step is not the one that the decay was declared for."""

    def step(self, state, current, theta):
        return super().step(state, 2 * current, theta)


class Faster(LIF):
    def step(self, state, current, theta):
        return super().step(state, 2 * current, theta)


def learned(unit, rule):
    net = SpikingNet(parse("f6 f5 f3", unit=unit), (4,)).double()
    net.load_state_dict(SpikingNet("f6 f5 f3", (4,)).state_dict(), strict=False)
    head = Softmax.of(net)
    generator = torch.Generator().manual_seed(0)
    xs = 2 * torch.rand(6, 5, 4, dtype=torch.float64, generator=generator)
    batch = Batch.of(xs, torch.arange(5) % 3)
    rule.prepare(net, head.sites, batch)
    rule.learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
    return [one.grad for one in (*net.parameters(), *head.parameters())]


@pytest.mark.parametrize("unit", [Own(), Named(), Changed(), Faster()], ids=repr)
def test_ottt_asks_for_the_decay_of_a_units_own_equation(unit):
    words = "before layer 1.0.0 that declare trace_decay.*set trace_decay of the rule"
    with pytest.raises(UnsupportedNet, match=f"rules.ottt: expected neurons {words}"):
        learned(unit, Ottt())
    learned(unit, Ottt(trace_decay=0.75))


@pytest.mark.parametrize("unit", [Declared(), AsProperty()], ids=repr)
def test_a_declared_decay_is_the_traces(unit):
    expected = learned(Own(), Ottt(trace_decay=0.75))
    for grad, same in zip(learned(unit, Ottt()), expected, strict=True):
        assert torch.equal(grad, same)
    other = learned(Own(), Ottt(trace_decay=0.0))
    assert not torch.allclose(other[2], expected[2], rtol=0.01)


@pytest.mark.parametrize("decay", [1.5, -0.1, float("nan"), "0.5", True])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises((UnsupportedNet, ConfigError), match="trace_decay"):
        learned(Declared(trace_decay=decay), Ottt())


@pytest.mark.parametrize(
    "unit", [LIF(learn=("alpha",)), LIF(alpha=0.5, beta=0.25), IF(beta=0.25)], ids=repr
)
def test_no_fixed_number_is_no_decay(unit):
    assert unit.trace_decay is None and decay_of(unit) == 1
    with pytest.raises(
        UnsupportedNet, match="expected a fixed decay of the neurons before layer 1"
    ):
        learned(unit, Ottt())


def test_decays_of_the_units_here():
    assert (IF().trace_decay, LIF(alpha=0.25).trace_decay) == (1.0, 0.25)
    assert LIF(alpha=0.25, learn=("v_th",), scale_input=True).trace_decay == 0.25
    assert decay_of(None) == decay_of(Relu()) == decay_of(Named()) == decay_of(Changed()) == 1
    assert decay_of(Declared()) == decay_of(AsProperty()) == 0.75


def test_what_is_declared_for_which_step():
    assert declares(IF(), "rate") and declares(LIF(), "rate") and declares(LIF(), "trace_decay")
    assert not declares(Faster(), "rate") and not declares(Changed(), "trace_decay")
    assert declares(Declared(), "trace_decay") and not declares(Own(), "trace_decay")
