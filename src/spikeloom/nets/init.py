r"""Weight initialisation: chosen so that layers fire.

Every weight is normal with mean 0 and standard deviation :math:`k / \sqrt{n}`, n the fan-in, and
every bias is 0. k depends on what the current drives:

=========================  ==========================================================
spiking unit               ``FIRING * v_th`` (times 1 / (1 - alpha) where inputs are scaled so)
ReLU                       :math:`\sqrt 2` (He et al. 2015)
linear layer, readout      1
feedback edge              0.5, below the loop gain at which activity feeds itself
=========================  ==========================================================

A binary input of rate p has second moment p, so currents have standard deviation
:math:`k \sqrt p`: with k = 2 v_th and p = 0.15 that is 0.8 v_th, which the membrane's memory
lifts above the threshold for a good share of neurons. The tests hold every preset to live layers.
"""

import torch
from torch import nn

from spikeloom.nets.site import Site

FIRING = 2.0
"""Standard deviation of a current, in thresholds, under an input of second moment 1."""


@torch.no_grad()
def initialise(sites: tuple[Site, ...], generator: torch.Generator) -> None:
    """Draw the weights of all sites, shared ones once, in order of first use."""
    done: set[int] = set()
    for site in sites:
        if not site.spec.weighted or id(site.synapse) in done:
            continue
        done.add(id(site.synapse))
        scale = weight_scale(site) / site.synapse.fan_in**0.5
        weight = site.synapse.weight
        draw = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
        weight.copy_(draw * scale)
        if site.synapse.bias is not None:
            nn.init.zeros_(site.synapse.bias)
        site.synapse.bound()


def weight_scale(site: Site) -> float:
    """Return k of the table above."""
    if site.role == "feedback":
        return 0.5
    unit = site.unit
    if unit is None:
        return 1.0
    if not unit.spiking:
        return 2.0**0.5
    scale = FIRING * getattr(unit, "v_th", 1.0)
    if getattr(unit, "scale_input", False):
        scale /= max(1 - getattr(unit, "alpha", 0.0), 1e-3)
    return scale
