"""Exact accumulates and multiply-accumulates of the forward pass, by operand."""

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.types import InputKind
from spikeloom.meters._input import Input, read_input
from spikeloom.meters._operand import (
    Arrival,
    as_integers,
    follow,
    in_spikes,
    last_site,
    source_of,
    through,
    without_events,
)
from spikeloom.meters._pairs import fan_out, pairs
from spikeloom.meters._signal import READOUT, Signal, signals
from spikeloom.meters._tally import Sums, Tally, closed
from spikeloom.meters.base import BatchMeter, Spread, per_sample
from spikeloom.meters.record import OperationRecord, SiteOperations
from spikeloom.meters.spikes import spike_counts
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.walk.walk import is_constant


@dataclass
class _Trains:
    """Spikes of the batch kept for synapses behind a low-pass: all steps, or the latest."""

    keep_all: bool
    parts: list[Tensor] = field(default_factory=list)


class OperationMeter(BatchMeter):
    r"""Counts the operations of inference, one site, step and sample at a time.

    With F the number of non-zero weights an input position meets (`fan_out`) and z the input in
    units of a spike (amplitudes such as OTTT's 2.74 fold into the next weights), a sample's step
    costs

    .. math::
        AC = \sum_i |z_i| F_i \quad (z\ integer), \qquad
        MAC = \sum_i \mathbb 1_{z_i \ne 0} F_i \quad (otherwise)

    so spikes, signed spikes, event counts, sums of spikes (0, 1, 2) and several spikes of one step
    (`IF.max_spikes`) are accumulates, value v taking \|v\| of them. What can be an event is said by
    the net's layout and by its input's kind (see `watch`), never guessed: a constant or real input,
    an analog unit's output, a layer without a unit and a mean over time are real-valued, so MACs,
    whatever their values.

    Average-pooled spikes are multi-bit, hence MACs; the ``_folded`` counts fold the pool's 1/n
    into the weights, and each spike is one accumulate again. Behind a low-pass the events are the
    spikes before it. A constant input is computed once, also where it comes as a copy, and so is
    everything up to the first stateful unit, the head's maps included; the ``_recomputed`` counts
    charge every step. The head's sites are shown by hand, see `watch`; a train of spikes shown
    there counts at each step.

    Not counted: pooling itself, identity shortcuts, joins. Biases (norms fold into them) and unit
    states have fields of their own.

    Branches of a join whose spikes have one amplitude keep it; where amplitudes differ, the sum has
    no common unit and is real-valued.

    Shape:
        x_in: [t, B, ...]; see `nets.walk.state.Observer`.

    Raises:
        ConfigError: a network in training mode.

    Source:
        methods of NeuroBench (effective and dense pairs) and sinabs (fan-out); operands per
        sample and step are ours, so that no count depends on the batch.

    Example:
        >>> from spikeloom.meters.base import watch
        >>> net, meter = SpikingNet("{default = {bias = false}} c1 f2", (1, 4, 4)), OperationMeter()
        >>> with watch(net.eval(), torch.ones(2, 1, 1, 4, 4), meter):
        ...     features = net(torch.ones(2, 1, 1, 4, 4))
        >>> meter.read().sites[0].pairs, meter.read().sites[0].formula
        (100, 144)
    """

    def __init__(self) -> None:
        super().__init__("meters.operations")
        self._tallies: dict[str, Tally] = {}
        self._trains: dict[str, _Trains] = {}
        self._arrivals: dict[str, Arrival] = {}
        self._fans: dict[Synapse, Tensor] = {}
        self._no_events: frozenset[str] = frozenset()
        self._signals: dict[str, Signal] = {}
        self._input: Input | None = None
        self._totals: dict[str, SiteOperations] = {}
        self._samples: list[tuple[Tensor, Tensor]] = []

    def open(self, net: SpikingNet, xs: Tensor, kind: InputKind | None = None) -> None:
        """Begin a batch; see `BatchMeter.open`.

        Raises:
            ConfigError: a network in training mode, an open batch, another network, no such kind.
            DataError: the input is not of the kind that was said.
        """
        if net.training:
            raise ConfigError.of(
                self.where,
                "a network in evaluation mode, since operations are those of inference",
                "training mode",
                "call net.eval() first",
            )
        given = read_input(xs, kind, self.where)
        fresh = self._net is None
        super().open(net, xs, kind)
        self._input = given
        if fresh:
            self._no_events = without_events(net)
            self._signals = signals(net)
            for site in net.sites:
                self._arrive(site, net)
            self._keep(follow(last_site(net), net), keep_all=True)

    @torch.no_grad()
    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Count one call of a site.

        Args:
            site: that was called.
            x_in: what the synapse received; None where it did not run.
            current: what the unit received.
            s_out: what it gave; ignored where there is no spiking unit.

        Shape:
            x_in: [t, B, ...]; current, s_out: [T', B, ...].

        Raises:
            ConfigError: no batch is open.
            ShapeError: another number of samples than the batch has, or operands that do not fit.
        """
        self._check(site, current)
        net, xs = self._opened("see")
        if site.name not in self._tallies:
            sums = Sums.zeros(xs.shape[1], current.device)
            self._tallies[site.name] = Tally(site, sums)
        tally = self._tallies[site.name]
        assert self._input is not None
        once = self._input.constant and self._signal(site).static
        if once and tally.evaluations and (site.static or site.unit is None):
            return  # the first step again
        if site.unit is not None:
            out = s_out[:1] if once and site.static else s_out
            tally.unit_steps += out.shape[0]
            if site.unit.spiking:
                tally.sums.spikes_out += spike_counts(out.flatten(2), (0, 2))
        if site.name in self._trains:
            kept = self._trains[site.name]
            kept.parts = [*kept.parts, s_out] if kept.keep_all else [s_out]
        if x_in is None or (once and tally.evaluations):
            return
        if once or is_constant(x_in):
            x_in = x_in[:1]
        if site.spec.weighted:
            self._count(tally, x_in, net, xs)
        tally.evaluations += x_in.shape[0]

    def read(self) -> OperationRecord:
        """Return the record of all closed batches; see `BatchMeter.read`."""
        self._closed()
        sites = tuple(self._totals[name] for name in self._in_order(self._totals))
        ac, mac = (Spread.of(per_sample([pair[row] for pair in self._samples])) for row in (0, 1))
        return OperationRecord(self.samples, sites, ac, mac)

    def _arrive(self, site: Site, net: SpikingNet) -> Arrival:
        if site.name not in self._arrivals:
            self._arrivals[site.name] = follow(source_of(site, net), net, site.external)
            self._keep(self._arrivals[site.name], keep_all=False)
        return self._arrivals[site.name]

    def _keep(self, came: Arrival, *, keep_all: bool) -> None:
        """Remember to keep the spikes that a synapse behind a low-pass will ask for."""
        if came.filtered and came.base is not None:
            kept = self._trains.setdefault(came.base.name, _Trains(keep_all))
            # behind a feedback loop, whose steps come one by one, a whole train may be asked for
            kept.keep_all = kept.keep_all or keep_all or came.base.looped

    def _count(self, tally: Tally, x_in: Tensor, net: SpikingNet, xs: Tensor) -> None:
        site, sums = tally.site, tally.sums
        came, signal = self._arrive(site, net), self._signal(site)
        assert self._input is not None
        may = self._input.events if signal.operands == "input" else None  # [B], None: all may
        events = None
        if signal.operands == "spikes" or (may is not None and bool(may.any())):
            events = self._events(came, site, x_in.shape[0], tally.evaluations, xs)
        if signal.operands == "real" or (signal.smooth and events is None):
            may = torch.zeros(xs.shape[1], dtype=torch.bool, device=xs.device)
        before = source_of(site, net)
        shape = site.synapse.in_shape if before is None else before.out_shape
        z = in_spikes(x_in, signal.amplitude, shape)
        if events is not None:
            z = (
                events.flatten(2)
                if may is None
                else torch.where(may.view(1, -1, 1), events.flatten(2), z)
            )
        if z.shape[2] != prod(site.synapse.in_shape):
            raise ShapeError.of(
                self.where,
                f"operands {site.synapse.in_shape} at site {site.name}",
                tuple(x_in.shape[2:]),
                "pass what the synapse received, time first",
            )
        if site.synapse not in self._fans:
            self._fans[site.synapse] = fan_out(site.synapse)
        fan = self._fans[site.synapse].to(z.device)
        dense = pairs(site.synapse)
        for step in z.unbind(0):  # [B, n]
            active = (step != 0).double() @ fan
            value, whole = as_integers(step, came.fold)
            whole = whole if may is None else whole & may
            sums.effective += active
            sums.ac += torch.where(whole, value.abs() @ fan, 0.0)
            sums.mac += torch.where(whole, 0.0, active)
            sums.mac_dense += (~whole) * float(dense)
            if came.fold > 1:
                value, whole = as_integers(step * came.fold, came.fold)
                whole = whole if may is None else whole & may
            sums.ac_folded += torch.where(whole, value.abs() @ fan, 0.0)
            sums.mac_folded += torch.where(whole, 0.0, active)
            here = value.abs().sum(1) / came.fold
            sums.activity += torch.where(whole, here, float(step.shape[1]))
            sums.spike_input &= whole

    def _signal(self, site: Site) -> Signal:
        """Return what arrives at a site; all of a head's read the features."""
        return self._signals[READOUT if site.role == "readout" else site.name]

    def _events(
        self, came: Arrival, site: Site, steps: int, start: int, xs: Tensor
    ) -> Tensor | None:
        """Return the spikes before a low-pass, pushed to the synapse; None without one."""
        if not came.filtered or site.name in self._no_events:
            return None
        if came.base is None:
            return through(came.path, xs[start : start + steps])
        kept, end = self._trains[came.base.name].parts, start + steps
        train = kept[0] if len(kept) == 1 else torch.cat(kept[start:end])
        if len(kept) == 1:  # a whole train, or the last step alone
            train = train[start:end] if len(train) >= end else train[-steps:]
        return through(came.path, train) if len(train) == steps else None

    def _fold(self, steps: int, samples: int) -> None:
        ac = torch.zeros(samples, dtype=torch.float64)
        mac = torch.zeros_like(ac)
        for name, tally in self._tallies.items():
            assert self._input is not None
            again = steps if self._input.constant and self._signal(tally.site).static else 1
            new = closed(tally, self._signal(tally.site).operands, again, samples)
            self._totals[name] = self._totals[name] + new if name in self._totals else new
            ac += tally.sums.ac.cpu()
            mac += tally.sums.mac.cpu()
        self._samples.append((ac, mac))
        self._clear()

    def _clear(self) -> None:
        self._tallies = {}
        for kept in self._trains.values():
            kept.parts = []
