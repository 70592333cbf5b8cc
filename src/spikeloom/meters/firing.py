"""Neurons that never fire, and neurons that always do."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom.meters.base import BatchMeter
from spikeloom.nets.module.site import Site
from spikeloom.neurons.declared import MOST_FIRINGS, OUTPUTS

ALWAYS = 0.95
"""Share of the samples from which on a neuron counts as full on all of them."""


@dataclass(frozen=True)
class SiteFiring:
    """Firing of the neurons of one population.

    Args:
        name: of the site.
        spiking: whether outputs are spikes; else "fires" means an output other than 0.
        neurons: of the population.
        samples: number of samples seen.
        rate_per_step: share of the steps of all neurons with an output other than 0, in [0, 1].
        silent: neurons that fired on no sample.
        full: neurons that fired as often as they could, on `ALWAYS` of the samples: at every step
            but refractory ones, and with `IF.max_spikes` spikes in each. A unit of your own says
            by `most_firings` and `outputs` how often that is; where it does not, at every step.
    """

    name: str
    spiking: bool
    neurons: int
    samples: int
    rate_per_step: float
    silent: int
    full: int

    @property
    def silent_share(self) -> float:
        """Share of the neurons that never fired."""
        return self.silent / self.neurons

    @property
    def full_share(self) -> float:
        """Share of the neurons that fired without a pause whatever the sample."""
        return self.full / self.neurons


class FiringMeter(BatchMeter):
    """Follows every neuron of every site with a unit, passes apart.

    Example:
        >>> from spikeloom.meters.base import watch
        >>> from spikeloom.nets.module.net import SpikingNet
        >>> net, meter = SpikingNet("f4 f2", (1,)), FiringMeter()
        >>> with watch(net, torch.zeros(3, 5, 1), meter):
        ...     features = net(torch.zeros(3, 5, 1))
        >>> meter.read()[0].silent_share
        1.0
    """

    def __init__(self) -> None:
        super().__init__("meters.firing")
        self._batch: dict[str, tuple[Site, Tensor, Tensor, int]] = {}
        self._sites: dict[str, Site] = {}
        self._fired: dict[str, Tensor] = {}
        self._full: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Count the outputs of one call of a site; see `BatchMeter.see`."""
        self._check(site, current)
        if site.unit is None:
            return
        fired = s_out.flatten(2).count_nonzero(0)  # [B, N]
        full, steps = _full(site, s_out, fired), s_out.shape[0]
        if site.name in self._batch:
            _, fired_before, full_before, ran = self._batch[site.name]
            fired, full, steps = fired_before + fired, full_before + full, ran + steps
        self._batch[site.name] = (site, fired, full, steps)

    def read(self) -> tuple[SiteFiring, ...]:
        """Return one entry per site, in the order of the net; see `BatchMeter.read`."""
        self._closed()
        return tuple(self._entry(name) for name in self._in_order(self._sites))

    def _entry(self, name: str) -> SiteFiring:
        fired, unit = self._fired[name], self._sites[name].unit
        assert unit is not None
        return SiteFiring(
            name=name,
            spiking=unit.spiking,
            neurons=len(fired),
            samples=self.samples,
            rate_per_step=int(fired.sum()) / (len(fired) * self._steps[name]),
            silent=int((fired == 0).sum()),
            full=int((self._full[name] >= ALWAYS * self.samples).sum()),
        )

    def _fold(self, steps: int, samples: int) -> None:
        for name, (site, fired, full, ran) in self._batch.items():
            assert site.unit is not None
            firings = MOST_FIRINGS.of(site.unit)
            possible = ran if firings is None else firings(ran)
            self._sites[name] = site
            self._fired[name] = self._fired.get(name, 0) + fired.sum(0).cpu()
            self._full[name] = self._full.get(name, 0) + (full >= possible).sum(0).cpu()
            self._steps[name] = self._steps.get(name, 0) + ran * samples
        self._clear()


def _full(site: Site, s_out: Tensor, fired: Tensor) -> Tensor:
    """Return the number of steps, [B, N], in which nothing more could be fired."""
    assert site.unit is not None
    outputs = OUTPUTS.of(site.unit)
    if outputs is None or outputs.largest == 1:
        return fired
    if outputs.largest is None:
        return torch.zeros_like(fired)
    return (s_out.flatten(2).abs() >= outputs.largest).sum(0)
