"""Which neurons take part: those that never answer, and those that always do."""

from dataclasses import dataclass

from torch import Tensor

from spikeloom.meters.base import BatchMeter
from spikeloom.nets.site import Site

ALWAYS = 0.95
"""Share of the samples from which on a neuron counts as full on all of them."""


@dataclass(frozen=True)
class SiteFiring:
    """How the neurons of one population answer.

    Args:
        name: of the site.
        spiking: whether outputs are spikes; else "fires" reads "gives something else than 0".
        neurons: of the population.
        samples: number of samples seen.
        rate_per_step: answers per neuron and time step, in [0, 1].
        silent: neurons that fired on no sample.
        full: neurons that fired at every step they could, on `ALWAYS` of the samples.
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
        >>> from spikeloom.nets.net import SpikingNet
        >>> net, meter = SpikingNet("f4 f2", (1,)), FiringMeter()
        >>> with watch(net, torch.zeros(3, 5, 1), meter):
        ...     features = net(torch.zeros(3, 5, 1))
        >>> meter.read()[0].silent_share
        1.0
    """

    def __init__(self) -> None:
        super().__init__("meters.firing")
        self._batch: dict[str, tuple[Site, Tensor, int]] = {}
        self._sites: dict[str, Site] = {}
        self._fired: dict[str, Tensor] = {}
        self._full: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Count the answers of one firing.

        Shape:
            current, s_out: [T', B, ...].

        Raises:
            ConfigError: no batch is open.
            ShapeError: another number of samples than the batch has.
        """
        self._check(site, current)
        if site.unit is None:
            return
        count = s_out.flatten(2).count_nonzero(0)  # [B, N]
        if site.name in self._batch:
            _, before, steps = self._batch[site.name]
            self._batch[site.name] = (site, before + count, steps + s_out.shape[0])
        else:
            self._batch[site.name] = (site, count, s_out.shape[0])

    def read(self) -> tuple[SiteFiring, ...]:
        """Return one entry per site, in the order of the net.

        Raises:
            ConfigError: no batch was closed yet.
        """
        self._closed()
        return tuple(self._entry(name) for name in self._in_order(list(self._sites)))

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
        for name, (site, count, ran) in self._batch.items():
            possible = -(-ran // (1 + getattr(site.unit, "refractory", 0)))
            self._sites[name] = site
            self._fired[name] = self._fired.get(name, 0) + count.sum(0).cpu()
            self._full[name] = self._full.get(name, 0) + (count >= possible).sum(0).cpu()
            self._steps[name] = self._steps.get(name, 0) + ran * samples
        self._clear()

    def _clear(self) -> None:
        self._batch = {}
