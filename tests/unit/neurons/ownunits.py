"""Units as a user writes them: some that a kernel can hold, some that it cannot."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.spike import spike
from spikeloom.neurons.surrogate import Sigmoid


class Own:
    """What all of them share."""

    spiking: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    learn: ClassVar[tuple[str, ...]] = ()
    per_channel: ClassVar[bool] = False

    def init(self, current):
        return torch.zeros_like(current)

    def rate(self, current, theta):
        return current


@dataclass(frozen=True)
class Soft(Own):
    """No step anywhere: an exponential in place of the spike, so finite differences see it."""

    learn: ClassVar[tuple[str, ...]] = ("alpha", "v_th")
    alpha: float = 0.6
    v_th: float = 1.0
    sharp: float = 2.0

    def step(self, state, current, theta):
        alpha, v_th = theta["alpha"], theta["v_th"]
        u = alpha * state + torch.tanh(current)
        out = torch.exp(-self.sharp * (u - v_th).square()) + 0.1 * torch.sigmoid(u * v_th)
        return out, u - v_th * out


class Pair(NamedTuple):
    v: Tensor
    w: Tensor


@dataclass(frozen=True)
class Adaptive(Own):
    """Two states and many operations, each of them per element."""

    rho: float = 0.9
    lowest: float = -1.5

    def init(self, current):
        return Pair(torch.zeros_like(current), torch.ones_like(current))

    def step(self, state, current, theta):
        drive = torch.where(current > 0, current, 0.25 * torch.expm1(current))
        v = (0.7 * state.v + drive).clamp(self.lowest, 4.0)
        level = torch.maximum(state.w.abs().sqrt(), torch.full_like(v, 0.5))
        fired = spike(v - level, Sigmoid(3.0))
        w = torch.addcmul(self.rho * state.w, fired, level, value=0.5) + 0.1 * torch.log1p(v * v)
        quiet = torch.logical_and(v < 0, ~(fired > 0))
        rest = torch.minimum(v, v**3 / (1 + v.pow(2))) * torch.rsqrt(1 + w * w)
        return fired, Pair(torch.where(quiet, rest, v - fired * level), w)


@dataclass(frozen=True, slots=True)
class Slotted:
    """A unit whose attributes lie in no dictionary."""

    decay: float
    surrogate: object = Sigmoid(2.0)

    spiking: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    learn: ClassVar[tuple[str, ...]] = ()
    per_channel: ClassVar[bool] = False

    def init(self, current):
        return torch.zeros_like(current)

    def step(self, state, current, theta):
        u = self.decay * state + current
        out = spike(u - 1, self.surrogate)
        return out, u - out


@dataclass(frozen=True)
class Writes(Own):
    """In-place operations on tensors of its own."""

    def step(self, state, current, theta):
        v = (0.5 * state).add_(current)
        v.mul_(0.75)
        v -= 0.125
        out = spike(v - 1, Sigmoid(1.0))
        return out, v - out


def _steps(**bodies):
    """Make a unit of each body: a function of state and current."""
    units = {}
    for name, body in bodies.items():

        def step(self, state, current, theta, body=body):
            return body(state, current)

        units[name] = type(name, (Own,), {"step": step})()
    return units


def _fire(v):
    return spike(v - 1, Sigmoid(1.0)), v


def _data_dependent(v, c):
    v = 0.5 * v + c
    return _fire(0.5 * v if v.sum() > 0 else v)


def _by_rank(v, c):
    v = 0.5 * v + c
    return _fire(v - v.mean(1, keepdim=True) if v.dim() > 1 else v)


def _written_by_another_name(v, c):
    v = 0.5 * v + c
    v.detach().add_(1.0)
    return _fire(v)


def _written_through_a_view(v, c):
    with torch.no_grad():
        v = 0.5 * v + c
        v.view(-1).mul_(2)
    return _fire(v)


def _written_in_part(v, c):
    v = 0.5 * v + c
    v[0] = 0.0
    return _fire(v)


def _one_reshaped(v, c):
    rows = (c.t() if c.dim() == 2 else c).reshape(c.shape)
    return _fire(0.5 * v + rows)


MIXING = _steps(
    mean=lambda v, c: _fire(0.5 * v + c - c.mean()),
    batch_norm=lambda v, c: _fire(0.5 * v + (c - c.mean(0)) / (c.std(0) + 1)),
    summed=lambda v, c: _fire(0.5 * v + c - 0.1 * c.sum(0, keepdim=True)),
    highest=lambda v, c: _fire(0.5 * v + c - c.max(0)[0]),
    cumulated=lambda v, c: _fire(0.5 * v + c.cumsum(0)),
    rolled=lambda v, c: _fire(0.5 * v + torch.roll(c, 1, 0)),
    flipped=lambda v, c: _fire(0.5 * v + c.flip(0)),
    sorted=lambda v, c: _fire(0.5 * v + c.sort(0)[0]),
    softmax=lambda v, c: _fire(0.5 * v + c.softmax(-1)),
    first=lambda v, c: _fire(0.5 * v + c[:1]),
    stacked=lambda v, c: _fire(torch.stack([0.5 * v, c]).sum(0)),
    reshaped=_one_reshaped,
    by_rank=_by_rank,
    by_size=lambda v, c: _fire(0.5 * v + c * c.shape[0] / c.numel()),
    data_dependent=_data_dependent,
    read_as_number=lambda v, c: _fire(0.5 * v + c * c.max().item()),
)
"""Steps in which elements meet, or whose program depends on what comes in."""

FOREIGN = _steps(
    sine=lambda v, c: _fire(0.5 * v + torch.sin(c)),
    rounded=lambda v, c: _fire(0.5 * v + torch.round(c)),
    divided_whole=lambda v, c: _fire(0.5 * v + torch.div(c, 0.3, rounding_mode="floor")),
    whole_numbers=lambda v, c: _fire(0.5 * v + (2 * c).long()),
    other_type=lambda v, c: _fire(0.5 * v + c.double().float()),
    written_by_another_name=_written_by_another_name,
    written_through_a_view=_written_through_a_view,
    written_in_part=_written_in_part,
)
"""Steps with operations that no kernel knows, or that hide what they do."""


class Weighted(Own):
    """Trains a tensor of its own, beside theta."""

    def __init__(self):
        self.factor = torch.tensor(0.5, requires_grad=True)

    def step(self, state, current, theta):
        return _fire(self.factor * state + current)


class Changing(Own):
    """A plain object whose attributes may change between calls."""

    def __init__(self, alpha, gain):
        self.alpha, self.gain = alpha, gain

    def step(self, state, current, theta):
        return _fire(self.alpha * state + self.gain * current)


class Scaled(LIF):
    """Adds what its parent, a frozen value, does not know of: two of them are equal."""

    def __init__(self, gain):
        super().__init__()
        object.__setattr__(self, "gain", gain)

    def step(self, state, current, theta):
        return super().step(state, self.gain * current, theta)


@dataclass
class Unhashable(Own):
    alpha: float = 0.5

    def step(self, state, current, theta):
        return _fire(self.alpha * state + current)


class Named(Own):
    """Keeps its state in a dict."""

    def init(self, current):
        return {"v": torch.zeros_like(current)}

    def step(self, state, current, theta):
        out, v = _fire(0.5 * state["v"] + current)
        return out, {"v": v}


class Listed(Own):
    def init(self, current):
        return [torch.zeros_like(current)]

    def step(self, state, current, theta):
        out, v = _fire(0.5 * state[0] + current)
        return out, [v]


class Counting(Own):
    """Counts its steps beside its potential."""

    def init(self, current):
        return torch.zeros_like(current), 0

    def step(self, state, current, theta):
        v, count = state
        out, v = _fire(0.5 * v + current / (1 + count))
        return out, (v, count + 1)


class Growing(Own):
    """Its first step leaves more than it found."""

    def init(self, current):
        return (torch.zeros_like(current),)

    def step(self, state, current, theta):
        out, v = _fire(0.5 * state[0] + current + (0.1 * state[1] if len(state) > 1 else 0))
        return out, (v, current)


class Broad(Own):
    """Needs a batch to start."""

    def init(self, current):
        return torch.zeros(current.shape[0], current.shape[1])

    def step(self, state, current, theta):
        return _fire(0.5 * state + current)


class Flagged(Own):
    """Carries truth values."""

    def init(self, current):
        return torch.zeros_like(current), torch.zeros_like(current, dtype=torch.bool)

    def step(self, state, current, theta):
        v, high = state
        out, v = _fire(torch.where(high, 0.5 * v, 0.9 * v) + current)
        return out, (v, v > 1)


STRANGE = [Weighted(), Unhashable(), Named(), Listed(), Counting(), Growing(), Broad(), Flagged()]
"""Units that are no frozen values with a state of tensors."""


class Slope:
    """A surrogate whose height is an attribute, which may be set."""

    def __init__(self, height):
        self.height = height

    def slope(self, u, v_th):
        return self.height * (u.abs() < 1).to(u.dtype)
