"""Of what kind the operands of every synapse are, said by the layout of a net, never by values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from spikeloom.nets.module.build import Block, Pass
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site

Operands = Literal["input", "spikes", "real"]

READOUT = "readout"
"""Key of what the head reads."""


@dataclass(frozen=True)
class Signal:
    """What flows between layers.

    Args:
        operands: "spikes" of neurons, pooled, joined or amplified at most; "input", into which the
            network's own input goes as well, whose kind its encoder says; or "real" values: of
            analog units, of layers without a unit, and means over time.
        amplitude: size of one spike, pools aside.
        smooth: a low-pass lies on the way, so that values are no spikes of one step.
        static: under a constant input the same at every step.
    """

    operands: Operands
    amplitude: Tensor | float = 1.0
    smooth: bool = False
    static: bool = False


def signals(net: SpikingNet) -> dict[str, Signal]:
    """Return what arrives at each site, by name, and under `READOUT` what the head reads."""
    arriving: dict[str, Signal] = {}
    smooth = net.spec.input_psp is not None
    signal = Signal("input", smooth=smooth, static=not smooth)
    outputs: list[Signal] = []
    for block in net.plan.blocks:
        if block.number == net.spec.tail:
            signal = Signal("real")  # the time mean
        for row, turn in enumerate(block.passes):
            if row > 0:
                signal = _fitted(signal, block)
            signal = _through_pass(block, turn, signal, arriving)
        outputs.append(signal)
    arriving[READOUT] = signal
    for edge in net.plan.edges:
        _through(edge.sites, replace(outputs[edge.spec.source], static=False), arriving)
    return arriving


def _through_pass(block: Block, turn: Pass, signal: Signal, arriving: dict[str, Signal]) -> Signal:
    join, tapped = block.spec.join, block.spec.tap == "input"
    start = signal
    for site in turn.sites:
        arriving[site.name] = signal
        signal = _passed(site, signal)
        if not tapped and site.unit is not None:
            start, tapped = signal, True
    if join == "none":
        return signal
    shortcut = _through(turn.shortcut, start, arriving)
    return signal if join == "before_unit" else _joined(join, signal, shortcut)


def _through(sites: Sequence[Site], signal: Signal, arriving: dict[str, Signal]) -> Signal:
    for site in sites:
        arriving[site.name] = signal
        signal = _passed(site, signal)
    return signal


def _passed(site: Site, signal: Signal) -> Signal:
    smooth = site.spec.psp is not None
    if site.unit is not None and site.unit.spiking:
        return Signal("spikes", site.amplitude(), smooth, site.static)
    if site.unit is not None or site.spec.weighted or site.norm is not None:
        return Signal("real", static=site.static)
    amplitude = signal.amplitude * site.amplitude()
    return Signal(signal.operands, amplitude, smooth or signal.smooth, site.static)


def _joined(join: str, signal: Signal, shortcut: Signal) -> Signal:
    """Return a join; branches whose spikes differ in size make real values of no common unit."""
    both = (signal, shortcut)
    static = signal.static and shortcut.static
    agreed = _alike(signal.amplitude, shortcut.amplitude)
    agreed = agreed and (join == "add" or _alike(signal.amplitude, 1.0))
    if not agreed or any(branch.operands == "real" for branch in both):
        return Signal("real", static=static)
    own = all(branch.operands == "spikes" for branch in both)
    smooth = any(branch.smooth for branch in both)
    return Signal("spikes" if own else "input", signal.amplitude, smooth, static)


def _fitted(signal: Signal, block: Block) -> Signal:
    """Return a pass's output fitted to the next; an amplitude per channel loses its channels."""
    same = block.in_shape[0] == block.passes[0].sites[-1].out_shape[0]
    per_channel = isinstance(signal.amplitude, Tensor) and signal.amplitude.numel() > 1
    return Signal("real", static=signal.static) if per_channel and not same else signal


def _alike(one: Tensor | float, other: Tensor | float) -> bool:
    return one is other or (
        isinstance(one, float | int) and isinstance(other, float | int) and one == other
    )
