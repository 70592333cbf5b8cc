"""Spikes emitted, per layer and pass."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom.meters.base import BatchMeter, Spread, per_sample
from spikeloom.nets.module.site import Site


def spike_counts(s: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    r"""Count spikes: an output v is :math:`\lceil |v| \rceil` of them.

    Where a step can hold several spikes (`IF.max_spikes`), 3 stands for three; -1 is one spike.

    Args:
        s: outputs of a spiking unit, before their amplitude.
        axes: to sum over.

    Example:
        >>> spike_counts(torch.tensor([[0.0, 1.0], [3.0, -1.0]]), 1)
        tensor([1, 4])
    """
    return s.abs().ceil_().sum(axes, dtype=torch.float64).long()


@dataclass(frozen=True)
class SiteSpikes:
    r"""Spikes of one population.

    .. math::
        rate\_per\_step = \frac{spikes}{neurons \cdot sample\_steps}, \qquad
        spikes\_per\_neuron = \frac{spikes}{neurons \cdot samples}

    The second is T times the first; the literature calls either "spike rate".

    Args:
        name: of the site.
        neurons: of one pass.
        samples: number of samples seen.
        sample_steps: sum over samples of the steps each ran.
        spikes: emitted in all (`spike_counts`).
    """

    name: str
    neurons: int
    samples: int
    sample_steps: int
    spikes: int

    @property
    def rate_per_step(self) -> float:
        """Spikes per neuron and time step: in [0, 1] where a step holds one spike at most."""
        return self.spikes / (self.neurons * self.sample_steps)


@dataclass(frozen=True)
class SpikeRecord:
    """What a `SpikeMeter` saw.

    Args:
        samples: number of samples.
        total: spikes of the whole net per inference, mean and standard error over samples.
        sites: one entry per spiking site, passes apart.
    """

    samples: int
    total: Spread
    sites: tuple[SiteSpikes, ...]

    @property
    def neurons(self) -> int:
        """Spiking neurons of the net, passes counted apart."""
        return sum(site.neurons for site in self.sites)

    @property
    def rate_per_step(self) -> float:
        """Spikes per neuron and time step over the whole net; 0 where nothing spikes."""
        steps = sum(site.neurons * site.sample_steps for site in self.sites)
        return sum(site.spikes for site in self.sites) / steps if steps else 0.0

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron and inference over the whole net; 0 where nothing spikes."""
        return self.total.mean / self.neurons if self.neurons else 0.0


class SpikeMeter(BatchMeter):
    """Counts the spikes of every spiking site; non-spiking units are left out.

    Example:
        >>> from spikeloom.meters.base import watch
        >>> from spikeloom.nets.module.net import SpikingNet
        >>> net, meter = SpikingNet("f2", (1,)), SpikeMeter()
        >>> with watch(net, torch.ones(3, 1, 1), meter):
        ...     features = net(torch.ones(3, 1, 1))
        >>> meter.read().sites
        ()
    """

    def __init__(self) -> None:
        super().__init__("meters.spikes")
        self._batch: dict[str, tuple[Tensor, int, int]] = {}
        self._totals: dict[str, SiteSpikes] = {}
        self._samples: list[Tensor] = []

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Count the spikes of one call of a site; see `BatchMeter.see`."""
        self._check(site, current)
        if site.unit is None or not site.unit.spiking:
            return
        count = spike_counts(s_out.flatten(2), (0, 2))  # [B]
        before, steps, _ = self._batch.get(site.name, (torch.zeros_like(count), 0, 0))
        self._batch[site.name] = (before + count, steps + s_out.shape[0], s_out[0, 0].numel())

    def read(self) -> SpikeRecord:
        """Return the record of all closed batches; see `BatchMeter.read`."""
        self._closed()
        sites = tuple(self._totals[name] for name in self._in_order(self._totals))
        return SpikeRecord(self.samples, Spread.of(per_sample(self._samples)), sites)

    def _fold(self, steps: int, samples: int) -> None:
        total = torch.zeros(samples, dtype=torch.int64)
        for name, (count, ran, neurons) in self._batch.items():
            total += count.cpu()
            new = SiteSpikes(name, neurons, samples, ran * samples, int(count.sum()))
            old = self._totals.get(name)
            self._totals[name] = new if old is None else _added(old, new)
        self._samples.append(total)
        self._clear()


def _added(one: SiteSpikes, other: SiteSpikes) -> SiteSpikes:
    return SiteSpikes(
        one.name,
        one.neurons,
        one.samples + other.samples,
        one.sample_steps + other.sample_steps,
        one.spikes + other.spikes,
    )
