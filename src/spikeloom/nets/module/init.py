r"""Weight initialisation: chosen so that layers fire.

Every weight is normal with mean 0 and standard deviation :math:`k / \sqrt{n}`, n the fan-in, and
every bias is 0. k depends on what the current drives:

=========================  =========================================================
unit with `firing_drive`   what it declares: of IF and LIF :math:`(3 - \alpha)\,v_{th}`, over
                           :math:`1 - \alpha` where the unit scales its input so
other spiking unit         3, as for a threshold of 1 without memory
ReLU, other analog unit    :math:`\sqrt 2` (He et al. 2015)
linear layer, readout      1
feedback edge              0.5, below the gain at which activity feeds itself; or 0
=========================  =========================================================

Standardised weights have deviation :math:`g / \sqrt n` whatever they were drawn with, so their
trained gain g starts at 1.5 k, or at 1.5 in nets that amplify their spikes (gain 2.74). Published
nets of the latter kind start at 1: behind average pools their last layers are then silent at first.

A binary input of rate p has second moment p, so currents have standard deviation
:math:`k \sqrt p`; what the membrane keeps from earlier steps adds to that, the more the larger
alpha is. With this k the rates of plain nets of up to seven layers lie between 0.08 and 0.35 at
every alpha from 0 to 1 at T = 6, average pools between (the
tests hold nets and presets to it).
"""

import torch
from torch import nn

from spikeloom.nets.module.site import Site
from spikeloom.nets.module.weight import Standardised
from spikeloom.neurons.declared import DRIVE, FIRING_DRIVE

CENTRED = 1.5
"""Standardised rows sum to 0 and do not see that spikes are all positive: this makes up for it."""


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
        draw = torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu")
        weight.copy_(draw * (0.0 if site.synapse.zero else scale))
        if site.synapse.bias is not None:
            nn.init.zeros_(site.synapse.bias)
        if isinstance(site.synapse.shaping, Standardised):
            k = weight_scale(site) if site.spec.gain == 1 else 1.0
            site.synapse.shaping.gain.fill_(CENTRED * k)
        site.synapse.bound()


def weight_scale(site: Site) -> float:
    """Return k of the table above."""
    if site.role == "feedback":
        return 0.5
    unit = site.unit
    if unit is None:
        return 1.0
    drive = FIRING_DRIVE.of(unit)
    if drive is not None:
        return drive
    return DRIVE if unit.spiking else 2.0**0.5
