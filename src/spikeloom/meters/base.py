"""What every meter shares: batches, order of sites, and a mean with its standard error."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.types import InputKind
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site


@contextmanager
def watch(
    net: SpikingNet, xs: Tensor, *meters: "BatchMeter", kind: InputKind | None = None
) -> Iterator[None]:
    r"""Show one batch to meters; a batch that ends in an error is not counted.

    The head's sites lie outside the net. Inside the block, show them with
    ``meter.see(site, features, scores, scores)``, features [T, B, D] and scores [1, B, K].

    Args:
        net: the network that will run.
        xs: its input for this batch.
        meters: that observe the run.
        kind: what the input is, as an encoder's `gives` says: "constant" (real values, the same at
            every step, whether as a view or as a copy), "real", "events" or "counts". Say it
            wherever it is known. None reads a bare train: a view of one step, or equal frames that
            are not all of -1, 0 and 1, are "constant"; else samples of -1, 0 and 1 alone are
            "events", others "real".

    Shape:
        xs: [T, B, \*in_shape].

    Raises:
        ConfigError: a meter still has an open batch, or belongs to another network.
        DataError: the input is not of the kind that was said.

    Example:
        >>> from spikeloom.meters.spikes import SpikeMeter
        >>> net, meter = SpikingNet("c4 P f6 f3", (1, 4, 4)), SpikeMeter()
        >>> xs = torch.ones(5, 2, 1, 4, 4)
        >>> with watch(net, xs, meter):
        ...     features = net(xs)
        >>> meter.read().samples
        2
    """
    for meter in meters:
        meter.open(net, xs, kind)
    try:
        with net.observe(*meters):
            yield
    except BaseException:
        for meter in meters:
            meter.discard()
        raise
    for meter in meters:
        meter.close()


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Bring a module and its parts back to the mode they had, training or evaluation."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@dataclass(frozen=True)
class Spread:
    r"""Mean over samples with its standard error :math:`s / \sqrt n` (unbiased s).

    `error` is None for a single sample.
    """

    mean: float
    error: float | None
    samples: int

    @classmethod
    def of(cls, values: Tensor) -> "Spread":
        """Summarise one value per sample.

        Shape:
            values: [N].
        """
        values = values.double()
        count = len(values)
        error = float(values.std() / count**0.5) if count > 1 else None
        return cls(float(values.mean()), error, count)


class BatchMeter:
    """Base of meters: holds the open batch and the order in which sites are listed.

    Args:
        where: the meter's name in messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.samples = 0
        self._net: SpikingNet | None = None
        self._xs: Tensor | None = None
        self._batch: dict[str, Any] = {}

    def open(self, net: SpikingNet, xs: Tensor, kind: InputKind | None = None) -> None:
        r"""Begin a batch.

        Args:
            net: the network that will run.
            xs: its input.
            kind: what the input is, for meters to whom it matters; see `watch`.

        Shape:
            xs: [T, B, \*in_shape].

        Raises:
            ConfigError: a batch is open, or the meter has watched another network.
        """
        if self._xs is not None:
            raise ConfigError.of(
                self.where,
                "the last batch to be closed",
                "a new one",
                "close() it, or use `with watch(net, xs, meter):`",
            )
        if self._net is not None and self._net is not net:
            raise ConfigError.of(
                self.where,
                "the network of earlier batches",
                "another one",
                "use a fresh meter for each network",
            )
        self._net, self._xs = net, xs

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Record one call of a site; see `nets.walk.state.Observer`.

        Shape:
            current, s_out: [T', B, ...].

        Raises:
            ConfigError: no batch is open.
            ShapeError: another number of samples than the batch has.
        """
        raise NotImplementedError

    def read(self) -> Any:
        """Return the record of all closed batches.

        Raises:
            ConfigError: no batch was closed yet.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Add the batch to the totals."""
        net, xs = self._opened("close")
        self._fold(xs.shape[0], xs.shape[1])
        self.samples += xs.shape[1]
        self._net, self._xs = net, None

    def discard(self) -> None:
        """Forget the batch."""
        self._clear()
        self._xs = None

    def _fold(self, steps: int, samples: int) -> None:
        raise NotImplementedError

    def _clear(self) -> None:
        self._batch = {}

    def _opened(self, what: str) -> tuple[SpikingNet, Tensor]:
        if self._net is None or self._xs is None:
            raise ConfigError.of(
                f"{self.where}.{what}",
                "an open batch",
                "none",
                "run the net inside `with watch(net, xs, meter):`",
            )
        return self._net, self._xs

    def _check(self, site: Site, current: Tensor) -> None:
        _, xs = self._opened("see")
        if current.dim() < 2 or current.shape[1] != xs.shape[1]:
            raise ShapeError.of(
                self.where,
                f"currents [T, {xs.shape[1]}, ...] at site {site.name}",
                tuple(current.shape),
                "watch one batch at a time, time first",
            )

    def _closed(self) -> SpikingNet:
        """Return the network, for reading."""
        if self._net is None or self.samples == 0:
            raise ConfigError.of(
                f"{self.where}.read",
                "at least one closed batch",
                "none",
                "run the net inside `with watch(net, xs, meter):` first",
            )
        return self._net

    def _in_order(self, names: Iterable[str]) -> list[str]:
        """Sort names as the net lists its sites; the head's follow as they were seen."""
        place = {site.name: row for row, site in enumerate(self._closed().sites)}
        return sorted(names, key=lambda name: place.get(name, len(place)))


def per_sample(parts: list[Tensor]) -> Tensor:
    """Join the batches' values per sample.

    Shape:
        parts: [B] each; result: [N].
    """
    return torch.cat([part.cpu() for part in parts])
