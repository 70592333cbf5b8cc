"""How far rates are from an equilibrium, step by step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.walk.edge_rates import EdgeRates
from spikeloom.neurons.declared import RATE, TRACE_DECAY
from spikeloom.neurons.reduction import RunningMean, decay_of


@dataclass(frozen=True)
class Settling:
    r"""Residual of the rate equation :math:`a = f(a, x)` after each step.

    Args:
        residuals: mean of :math:`|f(a[t]) - a[t]|` over samples and the neurons at the starts of
            feedback edges, for t = 1..T; a[t] is the rate of the first t steps.
        rates: mean of :math:`a[t]`.
    """

    residuals: tuple[float, ...]
    rates: tuple[float, ...]


@torch.no_grad()
def settling(net: SpikingNet, xs: Tensor) -> Settling:
    r"""Run a net with feedback, and compare its rates with those they lead to at every step.

    f is one pass of the net in which every unit answers with its steady rate. Rates are discounted
    where a unit leaks, and x is the mean of the input so far. The net runs in evaluation.

    Args:
        net: with one feedback edge or more.
        xs: its input.

    Shape:
        xs: [T, B, \*in_shape].

    Raises:
        ConfigError: a unit has no steady rate.
        UnsupportedNet: a unit declares no `rate` or `trace_decay`, or trains its decay, by which
            rates would have to be discounted.

    Source:
        Xiao et al. 2021, the equilibrium of average firing rates.

    Example:
        >>> text = '{feedback = [{source = 0, target = 0, layers = "f4", restrict = 1.0}]} f4 f2'
        >>> len(settling(SpikingNet(text, (3,)), torch.ones(5, 2, 3)).residuals)
        5
    """
    for site in net.sites:
        if site.unit is None:
            continue
        RATE.needed(site.unit, "meters.settling", site.name)
        if not site.unit.stateful:
            continue
        decay = TRACE_DECAY.needed(site.unit, "meters.settling", site.name)
        if decay is None and site.unit.learn:
            raise UnsupportedNet(
                f"meters.settling: expected fixed decays in layer {site.name}, got none beside "
                f"learn = {site.unit.learn}; there is nothing to do."
            )
    modes = [(one, one.training) for one in net.modules()]
    net.eval()
    try:
        state, edges, x = None, EdgeRates(net), RunningMean(decay_of(net.sites[0].unit))
        residuals, rates = [], []
        for frame in xs:
            _, state = net.step(frame, state)
            edges.add(state)
            x.add(frame)
            at = edges.values
            _, to = net.rate_map(x.value, at)
            gaps = torch.cat([(to[number] - at[number]).flatten() for number in at])
            residuals.append(float(gaps.abs().mean()))
            rates.append(float(torch.cat([one.flatten() for one in at.values()]).mean()))
        return Settling(tuple(residuals), tuple(rates))
    finally:
        for one, training in modes:
            one.training = training
