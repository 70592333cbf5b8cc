"""Event-driven inference: each synapse sums over active inputs where that is faster."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from spikeloom.base.checks import within
from spikeloom.base.errors import wrong_choice
from spikeloom.base.torch_private import version
from spikeloom.base.tracing import ordinary
from spikeloom.kernels import events
from spikeloom.kernels.layout import interleaved
from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.ops import OnWeights, Ops, Visit

ENGINES = ("dense", "auto", "events")
"""By name: no engine; one that first waits until dense maps have cost something; one at once."""

SUMMED = ("linear", "conv")
"""Kinds of layer that can be summed over events."""

SAFE = 0.75
"""Share of the dense time that a sparse map may be expected to take."""

SMALL = 50_000
"""Multiplications of a call below which all ways take as long as asking which is best."""

LARGE = 100_000_000
"""Multiplications up to which a batch is measured whole; of larger ones a part stands for all."""

ROUNDS = 7
TRIED = (0.02, 0.2)
"""Densities at which a sparse map is timed; between and beyond them its time is a line."""

UNASKED = 15
"""Calls of a site that stay dense without a look after an input that was too dense."""

HIGHEST = 0.25
"""No sparse map is used above this density, whatever was measured: there is little to win, and a
busy machine slows the many threads of a dense map more than it slows events."""

PATIENCE = 10.0
"""Seconds of dense maps after which engine "auto" pays for the compiler and the measurements."""


@dataclass
class SiteUse:
    """How often one site was asked, and how.

    Args:
        calls: all of them.
        by_events: those that were summed over events.
        density: sum of the densities that were looked at.
        looked: number of these.
        unasked: calls that still go by the last look, which found too many events.
    """

    calls: int = 0
    by_events: int = 0
    density: float = 0.0
    looked: int = 0
    unasked: int = 0


@dataclass
class _Prepared:
    """One synapse as it is now, and what was measured of it.

    Args:
        work: multiplications of one sample.
        limits: density up to which events are summed, by kind of batch.
        mark: what tells that a weight has changed.
        weight: effective, as the dense map takes it.
        sparse: the same, turned.
    """

    work: int
    limits: dict[object, float] = field(default_factory=dict)
    mark: tuple[object, ...] = ()
    weight: Tensor | None = None
    sparse: events.SparseMap | None = None


@dataclass
class EventEngine:
    r"""Sums synapses over active inputs, where a measurement says that this is faster.

    It acts through `Ops`: ``net.run_by_layer(xs, engine.ops)``. Each linear layer and convolution
    keeps a copy of its weight in the order of events, made again whenever the weight has changed.
    At the first call with a batch of some size (powers of two count as one) dense and sparse maps
    are timed on random spikes; from then on the density of each input decides, against the density
    at which a sparse map takes `SAFE` of the dense time. Results equal the dense ones up to the
    order of sums.

    Everything else runs as always: other layers, low precision, other devices, and whatever needs
    a gradient or is in training. Without a compiler all is dense.

    Weights that are written past autograd's version counter (``weight.data.add_``) cannot be seen
    to change; make a new engine then.

    Args:
        limit: density up to which a map is sparse, for all layers; None measures. A fixed limit
            makes results independent of the machine's speed, to the last bit.
        patience: seconds of dense maps before anything is compiled or measured.

    Raises:
        ConfigError: a limit outside [0, 1].

    Example:
        >>> from spikeloom.nets.module.net import SpikingNet
        >>> net = SpikingNet("f16 f10", (8,)).eval()
        >>> engine = EventEngine()
        >>> with torch.no_grad():
        ...     net.run_by_layer(torch.eye(8).expand(4, 8, 8), engine.ops).shape
        torch.Size([4, 8, 16])
    """

    limit: float | None = None
    patience: float = 0.0
    used: dict[str, SiteUse] = field(default_factory=dict, init=False)
    _prepared: "WeakKeyDictionary[Synapse, _Prepared]" = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def __post_init__(self) -> None:
        within(0, 1, noun="a density").check("events.limit", self.limit)

    @classmethod
    def of(cls, name: str) -> "EventEngine | None":
        """Return the engine called `name`, None for "dense".

        Raises:
            ConfigError: no such engine.
        """
        if name not in ENGINES:
            raise wrong_choice("engine", name, ENGINES)
        if name == "dense":
            return None
        return cls(patience=PATIENCE if name == "auto" else 0.0)

    @property
    def ops(self) -> Ops:
        """The seams to run a network or a head with."""
        return Ops(synapse=OnWeights(self.synapse))

    @property
    def compiled(self) -> bool:
        """Whether there is a compiler; without one all is dense."""
        return events.kernels() is not None

    @property
    def shares(self) -> dict[str, float]:
        """Share of the calls that were summed over events, by site."""
        return {name: use.by_events / use.calls for name, use in self.used.items()}

    def synapse(self, visit: Visit, x: Tensor) -> Tensor:
        r"""Apply a site's map, one way or the other.

        Shape:
            x: [N, \*in_shape]; result: [N, \*out_shape].
        """
        site = visit.site
        synapse, use = site.synapse, self.used.get(site.name)
        if use is not None and use.unasked > 0:
            use.unasked -= 1
            use.calls += 1
            return synapse(x)
        if not _may(synapse, x):
            return synapse(x)
        if use is None:
            use = self.used[site.name] = SiteUse()
        use.calls += 1
        ready = self._prepared.get(synapse)
        if ready is None:
            ready = self._prepared[synapse] = _Prepared(_work(synapse))
        rows = x.shape[0]
        if rows * ready.work < SMALL and self.limit is None:
            return synapse(x)
        if self.patience > 0:
            start = time.perf_counter()
            out = synapse(x)
            self.patience -= time.perf_counter() - start
            return out
        if events.kernels() is None:
            return synapse(x)
        weight, sparse = _renew(ready, synapse)
        if not (x.is_contiguous() or interleaved(x)):
            x = x.contiguous()
        limit = self._limit(synapse, ready, x)
        share = events.density(x) if limit > 0 else 1.0
        use.density += share if limit > 0 else 0.0
        use.looked += limit > 0
        if share > limit:
            use.unasked = UNASKED
            return synapse.apply_map(x, weight, synapse.bias)
        use.by_events += 1
        return sparse(x, share)

    def _limit(self, synapse: Synapse, ready: _Prepared, x: Tensor) -> float:
        """Return the density up to which events are summed."""
        if self.limit is not None:
            return self.limit
        part = min(1 << (x.shape[0] - 1).bit_length(), max(2, LARGE // ready.work))
        key = (part, x.dtype, x.is_contiguous(), torch.get_num_threads())
        if key not in ready.limits:
            ready.limits[key] = _break_even(synapse, ready, x, min(x.shape[0], part))
        return ready.limits[key]


def _renew(ready: _Prepared, synapse: Synapse) -> tuple[Tensor, events.SparseMap]:
    """Return both weights of a synapse, made again where it has changed."""
    mark = _mark(synapse)
    if ready.mark != mark or ready.weight is None or ready.sparse is None:
        ready.mark, ready.weight = mark, synapse.effective_weight()
        ready.sparse = events.SparseMap(
            ready.weight,
            synapse.bias,
            synapse.in_shape,
            synapse.out_shape,
            stride=synapse.spec.step_size,
            padding=synapse.spec.pad_size,
        )
    return ready.weight, ready.sparse


def _may(synapse: Synapse, x: Tensor) -> bool:
    """Whether a map could be summed over events at all."""
    return (
        synapse.spec.kind in SUMMED
        # a weight made anew at each call (a parametrization, functional_call) bears no mark
        and isinstance(synapse.weight, nn.Parameter)
        and ordinary(x, synapse.weight)
        and not torch.is_grad_enabled()
        and not synapse.training
        and x.device.type == "cpu"
        and x.dtype in events.DTYPES
        and x.dtype == synapse.weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and x.numel() > 0
    )


def _work(synapse: Synapse) -> int:
    """Return the multiplications of one sample."""
    places = 1
    for side in synapse.out_shape[1:]:
        places *= side
    return synapse.weight.numel() * places


def _mark(synapse: Synapse) -> tuple[object, ...]:
    """Return what differs as soon as a weight was replaced or written to."""
    tensors = [one for one in (synapse.weight, synapse.bias) if one is not None]
    if any(not isinstance(one, nn.Parameter) for one in tensors):
        return (object(),)  # made anew at every reading, from what we do not know
    if not isinstance(synapse.shaping, nn.Identity):
        tensors += [*synapse.shaping.parameters(), *synapse.shaping.buffers()]
    return tuple((id(one), one.data_ptr(), version(one)) for one in tensors)


def _break_even(synapse: Synapse, ready: _Prepared, like: Tensor, rows: int) -> float:
    """Return the density at which the sparse map takes `SAFE` of the dense time."""
    weight, sparse = _renew(ready, synapse)
    # amplitudes other than 1 cost more: they are tried where the input has some, or none yet
    ones = bool(((like == 0) | (like == 1)).all() and like.any())
    draw = torch.rand(
        (rows, *like.shape[1:]), generator=torch.Generator().manual_seed(0), dtype=like.dtype
    )
    if like.dim() == 4 and interleaved(like):
        draw = draw.contiguous(memory_format=torch.channels_last)
    few, many = (
        torch.where(draw < share, 1.0 if ones else 1 + draw, torch.zeros_like(draw))
        for share in TRIED
    )
    calls: list[Callable[[], object]] = [
        lambda: sparse(few, events.density(few)),
        lambda: sparse(many, events.density(many)),
        lambda: synapse.apply_map(many, weight, synapse.bias),
    ]
    low, high, dense = _fastest(calls)
    slope = max((high - low) / (TRIED[1] - TRIED[0]), 1e-12)
    limit = TRIED[0] + (SAFE * dense - low) / slope
    return min(max(limit, 0.0), HIGHEST)


def _fastest(calls: list[Callable[[], object]]) -> list[float]:
    """Return the seconds of the fastest of some interleaved rounds: others' load only adds."""
    best = [float("inf")] * len(calls)
    for turn in range(ROUNDS + 1):
        for number, call in enumerate(calls):
            start = time.perf_counter()
            call()
            spent = time.perf_counter() - start
            if turn > 0:  # the first round compiles and warms up
                best[number] = min(best[number], spent)
    return best
