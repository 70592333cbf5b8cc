r"""Weight initialisation, chosen so that all layers fire.

Weights are drawn from a normal distribution with mean 0 and standard deviation
:math:`k / \sqrt{n}`, n the fan-in. Biases are 0. k depends on what the current drives:

=========================  =========================================================
unit with `firing_drive`   what it declares: for IF and LIF :math:`(3 - \alpha)\,v_{th}`, divided by
                           :math:`1 - \alpha` if the unit scales its input by that factor
other spiking unit         3, as for a threshold of 1 without memory
ReLU, other analog unit    :math:`\sqrt 2` (He et al. 2015)
linear layer, readout      1
feedback edge              0.5, low enough that activity does not sustain itself; or 0
=========================  =========================================================

Standardised weights have standard deviation :math:`g / \sqrt n`, whatever they were drawn with.
Their trained gain g starts at 1.5 k, or at 1.5 in nets with amplified spikes (gain 2.74). Published
nets of the latter kind start at g = 1; then the last layers, after average pools, do not fire at
first.

A binary input of rate p has second moment p, so currents have standard deviation
:math:`k \sqrt p`. The membrane adds what it keeps from earlier steps, more for larger alpha. With
this k the firing rates of plain nets of up to seven layers, with average pools between them, lie
between 0.08 and 0.35 for every alpha from 0 to 1 at T = 6. Tests check this for nets and presets.
"""

import torch
from torch import nn

from spikeloom.nets.module.site import Site
from spikeloom.nets.module.weight import Standardised
from spikeloom.neurons.declared import DRIVE, FIRING_DRIVE

CENTRED = 1.5
"""Extra gain of standardised weights. Their rows sum to 0, so the mean of the spikes, which are all
positive, adds nothing to the current; the larger gain makes up for it."""


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
    """Return k for a site, from the table in this module's docstring."""
    if site.role == "feedback":
        return 0.5
    unit = site.unit
    if unit is None:
        return 1.0
    drive = FIRING_DRIVE.of(unit)
    if drive is not None:
        return drive
    return DRIVE if unit.spiking else 2.0**0.5
