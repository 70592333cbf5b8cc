"""LIF as a user might write it: under other names, with and without a word about itself."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from spikeloom.check.toy import Case, Toy
from spikeloom.neurons.declared import (
    NoRateClamp,
    Outputs,
    RateClamp,
    StepOperations,
)
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.spike import spike
from spikeloom.neurons.surrogate import Surrogate, Triangle

LEAK, BAR = 0.75, 0.5


class Charge(NamedTuple):
    """A state of one potential."""

    q: Tensor


@dataclass(frozen=True)
class Bare:
    """LIF under other names, without a word about itself."""

    leak: float = LEAK
    bar: float = BAR
    slope: Surrogate = dataclasses.field(default_factory=Triangle)
    learn: tuple[str, ...] = ()
    per_channel: bool = False

    spiking: ClassVar[bool] = True
    stateful: ClassVar[bool] = True

    def init(self, current):
        return self.packed(torch.zeros_like(current))

    def step(self, state, current, theta):
        bar, leak = theta.get("bar", self.bar), theta.get("leak", self.leak)
        u = self.above(self.unpacked(state), current, leak)
        out = spike(u - 1.0 * bar, self.slope, v_th=bar)
        rest = u - bar * out if isinstance(bar, Tensor) else torch.sub(u, out, alpha=bar)
        return out, self.packed(rest)

    @staticmethod
    def above(q, current, leak):
        trained = isinstance(leak, Tensor)
        return leak * q + current if trained else torch.add(current, q, alpha=leak)

    packed = staticmethod(Charge)

    @staticmethod
    def unpacked(state):
        return state.q


@dataclass(frozen=True)
class Told(Bare):
    """It says all there is to say."""

    def rate(self, current, theta):
        return (current / theta.get("bar", self.bar)).clamp(0, 1)

    @property
    def trace_decay(self):
        return None if "leak" in self.learn else self.leak

    @property
    def rate_clamp(self):
        return NoRateClamp("a fixed leak", "a trained one") if "leak" in self.learn else RateClamp()

    @property
    def firing_drive(self):
        return (3 - self.leak) * self.bar

    @property
    def step_operations(self):
        return StepOperations(multiplies=1, adds=1, compares=1)

    outputs: ClassVar[Outputs] = Outputs()
    trained_bounds: ClassVar[dict[str, tuple[float, float]]] = {"bar": (0.125, 2.0)}

    def firing_threshold(self, theta):
        return theta.get("bar", self.bar)

    def firing_level(self, theta):
        return self.firing_threshold(theta)

    def most_firings(self, steps):
        return steps

    def charged(self, state, current, theta):
        return self.above(self.unpacked(state), current, theta.get("leak", self.leak))


@dataclass(frozen=True)
class Misnamed(Told):
    """It has all attributes of LIF, and they mean other things."""

    alpha: float = 7.0
    beta: float = 1.8
    v_th: float = -3.0
    v_min: str = "deep"
    v_init: float = 9.0
    v_reset: str = "north"
    v_th_min: float = 100.0
    fire_fraction: float = 40.0
    scale_input: bool = True
    scale_current: bool = True
    refractory: str = "off"
    max_spikes: str = "many"
    reset: str = "often"
    order: str = "ascending"
    threshold: str = "of sleep"


@dataclass(frozen=True)
class BareMisnamed(Bare):
    alpha: float = 7.0
    beta: float = 1.8
    v_th: float = -3.0
    scale_input: bool = True
    refractory: str = "off"
    max_spikes: str = "many"
    v_min: str = "deep"


class InDict(Told):
    packed = staticmethod(lambda q: {"q": q})
    unpacked = staticmethod(lambda state: state["q"])


class InList(Told):
    packed = staticmethod(lambda q: [q])
    unpacked = staticmethod(lambda state: state[0])


@dataclass
class Held:
    q: Tensor


class InDataclass(Told):
    packed = staticmethod(Held)


class Faster(LIF):
    """Another equation than its parent's, of which it says nothing."""

    def step(self, state, current, theta):
        return super().step(state, 2 * current, theta)


OURS = LIF(alpha=LEAK, v_th=BAR)


def learned(case: Case, unit: Any, like: LIF = OURS) -> dict[str, Tensor]:
    """Return all gradients of one batch, from the weights of a net of `like`."""
    toy = Toy(case, unit=unit)
    values = Toy(case, unit=like).net.state_dict()
    if case.rule.facts.spiking:
        toy.net.load_state_dict(values, strict=False)
    toy.learn()
    return {name: p.grad for name, p in toy.parameters().items() if p.grad is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() and any(bool(grad.any()) for grad in one.values())
    for name, grad in one.items():
        assert torch.equal(grad, other[name]), name
