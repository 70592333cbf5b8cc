"""The units a second time, slowly: one neuron, one step, one number after the other.

Written from the docstrings and the method cards, without tensors. `forward` computes in exact
fractions; `backward` is derived by hand from the equations, branch by branch.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass
class Tape:
    """What one neuron did: potentials at the threshold test, spikes, potentials left behind."""

    u: list = field(default_factory=list)
    s: list = field(default_factory=list)
    left: list = field(default_factory=list)
    i: list = field(default_factory=list)
    before: list = field(default_factory=list)
    ready: list = field(default_factory=list)
    held: list = field(default_factory=list)


def forward(unit, currents, v_th=None, alpha=None) -> Tape:
    """Run one neuron over a list of exactly representable currents."""
    th = Fraction(unit.v_th if v_th is None else v_th)
    a = Fraction(unit.alpha if alpha is None else alpha)
    beta, v_reset = Fraction(unit.beta), Fraction(unit.v_reset)
    level = Fraction(unit.fire_fraction) * th
    v, i, fired, wait = Fraction(unit.v_init), Fraction(0), 0, 0
    tape = Tape()
    for c in map(Fraction, currents):
        i = beta * i + (1 - beta if unit.scale_current and unit.beta else 1) * c
        drive = (1 - a) * i if unit.scale_input else i
        ready = wait == 0
        if not ready:
            drive = Fraction(0)
        tape.before.append(v)
        tape.ready.append(ready)
        if unit.order == "after_fire":
            u = a * v + drive
        elif unit.reset == "soft":
            u = a * v - th * fired + drive
        elif unit.reset == "hard":
            u = (v_reset if fired else a * v) + drive
        else:
            u = a * v + drive
        levels = 0  # level, level + th, level + 2 th, ... that are reached
        while levels != unit.max_spikes and ready:
            next_level = level + levels * th
            if not (u > next_level if unit.fires == ">" else u >= next_level):
                break
            levels += 1
        fired = levels
        if unit.order == "next_step" or unit.reset == "none":
            v = u
        elif unit.reset == "soft":
            v = u - th * fired
        else:
            v = v_reset if fired else u
        held = unit.v_min is not None and v <= Fraction(unit.v_min)
        v = Fraction(unit.v_min) if held else v
        wait = unit.refractory if fired else max(wait - 1, 0)
        tape.held.append(held)
        tape.u.append(u)
        tape.s.append(fired)
        tape.left.append(v)
        tape.i.append(i)
    return tape


def backward(unit, currents, upstream, v_th=None, alpha=None):
    """Return dL/dcurrent per step, dL/dv_th and dL/dalpha for dL/ds = upstream."""
    tape = forward(unit, currents, v_th, alpha)
    th = float(unit.v_th if v_th is None else v_th)
    a = float(unit.alpha if alpha is None else alpha)
    steps = len(upstream)
    slopes = [float(slope_of(unit.surrogate, float(u) - unit.fire_fraction * th, th))
              for u in tape.u]  # fmt: skip
    attached = not unit.detach_reset
    grads, d_th, d_a, d_i = [0.0] * steps, 0.0, 0.0, 0.0
    d_left = 0.0  # dL/d(potential handed to the next step)
    d_fired = 0.0  # dL/ds that reaches this step's spike through the next step's reset
    for t in reversed(range(steps)):
        u, s, old = float(tape.u[t]), tape.s[t], float(tape.before[t])
        d_s = upstream[t] + d_fired
        d_left = 0.0 if tape.held[t] else d_left
        if unit.order == "next_step" or unit.reset == "none":
            d_u = d_left
        elif unit.reset == "soft":
            d_u = d_left
            d_th -= d_left * s
            d_s -= d_left * th if attached else 0.0
        else:
            d_u = d_left * (1 - s)
            d_s += d_left * (unit.v_reset - u) if attached else 0.0
        slope = slopes[t] if tape.ready[t] else 0.0
        d_u += slope * d_s
        d_th -= unit.fire_fraction * slope * d_s
        last = tape.s[t - 1] if t else 0
        d_fired, hard = 0.0, unit.reset == "hard" and unit.order == "next_step"
        if unit.order == "next_step" and unit.reset == "soft":
            d_th -= d_u * last
            d_fired = -th * d_u if attached else 0.0
        elif hard:
            d_fired = d_u * (unit.v_reset - a * old) if attached else 0.0
        open_gate = (1 - last) if hard else 1
        d_left = d_u * a * open_gate
        d_a += d_u * old * open_gate
        d_drive = d_u if tape.ready[t] else 0.0
        if unit.scale_input:
            d_a -= d_drive * float(tape.i[t])
            d_drive *= 1 - a
        d_i = unit.beta * d_i + d_drive
        grads[t] = d_i * (1 - unit.beta if unit.scale_current and unit.beta else 1)
    return grads, d_th, d_a


def slope_of(surrogate, u: float, v_th: float) -> float:
    """Return the slope of a triangle or a rectangle, in plain numbers."""
    if type(surrogate).__name__ == "Periodic":
        at = [u - n * v_th for n in range(1 + max(0, math.ceil(u / v_th)))]
        return slope_of(surrogate.base, min(at, key=abs), v_th)
    if type(surrogate).__name__ == "Triangle":
        width = surrogate.width * (v_th if surrogate.relative else 1)
        return surrogate.gamma * max(0.0, 1 - abs(u) / width)
    assert type(surrogate).__name__ == "Rectangle"
    return surrogate.height if abs(u) <= surrogate.width / 2 else 0.0
