"""Event-driven inference: a synapse sums over its active inputs only, where that is faster."""

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
"""Names of engines: "dense" is none; "events" compiles and measures at the first call; "auto" does
so only after the dense maps have taken `PATIENCE` seconds."""

SUMMED = ("linear", "conv")
"""Kinds of layer that have a sparse implementation."""

SAFE = 0.75
"""A sparse map is used if it is expected to take at most this share of the dense map's time."""

SMALL = 50_000
"""Multiplications per call below which the choice would cost as much as the map itself."""

LARGE = 100_000_000
"""Multiplications up to which the whole batch is timed; of larger batches a part is timed."""

ROUNDS = 7
"""Timed rounds per measurement; the fastest counts."""
TRIED = (0.02, 0.2)
"""Densities at which a sparse map is timed; its time is taken as linear in the density."""

UNASKED = 15
"""After an input that was too dense, so many calls of the site stay dense unchecked."""

HIGHEST = 0.25
"""No sparse map is used above this density, whatever was measured. There is little to gain, and
measurements on a busy machine favour it: load slows the many threads of the dense map more."""

PATIENCE = 10.0
"""Seconds spent in dense maps after which engine "auto" compiles and measures."""


@dataclass
class SiteUse:
    """How often a site ran, and how.

    Args:
        calls: number of calls.
        by_events: number of calls that were summed over events.
        density: sum of the input densities that were measured.
        looked: number of inputs whose density was measured.
        unasked: number of next calls that stay dense without measuring the density.
    """

    calls: int = 0
    by_events: int = 0
    density: float = 0.0
    looked: int = 0
    unasked: int = 0


@dataclass
class _Prepared:
    """A synapse's weights in both forms, and its measured limits.

    Args:
        work: multiplications of the dense map for one sample.
        limits: density up to which the sparse map is used, by kind of batch.
        mark: identities and versions of the tensors that `weight` was made from (`_mark`).
        weight: effective weight, for the dense map.
        sparse: sparse map with its own copy of the weight, in the order of events.
    """

    work: int
    limits: dict[object, float] = field(default_factory=dict)
    mark: tuple[object, ...] = ()
    weight: Tensor | None = None
    sparse: events.SparseMap | None = None


@dataclass
class EventEngine:
    r"""Computes synapses by summing over active inputs, where measurements say this is faster.

    It acts through `Ops`: ``net.run_by_layer(xs, engine.ops)``. For each linear layer and
    convolution it keeps a second copy of the weight, and makes it anew when the weight changes.
    Batch sizes are rounded up to powers of two; at the first call with such a size, dense and
    sparse map are timed on random spikes. This gives a limit: the density at which the sparse map
    takes `SAFE` of the dense map's time. Later inputs of at most this density use the sparse map.
    Results equal the dense ones up to the order of sums.

    All else runs unchanged: other layers, low precision, other devices, training, and calls that
    need gradients. Without a compiler everything is dense.

    The engine detects a changed weight by autograd's version counter. ``weight.data.add_`` does not
    move that counter; make a new engine after such a write.

    Args:
        limit: density up to which the sparse map is used, for all layers; None measures it. With a
            fixed limit results are bit-identical on machines of any speed.
        patience: seconds spent in dense maps before anything is compiled or measured.

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
        """The `Ops` with which to run a network or a head."""
        return Ops(synapse=OnWeights(self.synapse))

    @property
    def compiled(self) -> bool:
        """Whether a compiler is there; without one everything is dense."""
        return events.kernels() is not None

    @property
    def shares(self) -> dict[str, float]:
        """Share of a site's calls that were summed over events, by site name."""
        return {name: use.by_events / use.calls for name, use in self.used.items()}

    def synapse(self, visit: Visit, x: Tensor) -> Tensor:
        r"""Apply a site's map, dense or sparse, whichever is expected to be faster.

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
        """Return the density up to which the sparse map is used."""
        if self.limit is not None:
            return self.limit
        part = min(1 << (x.shape[0] - 1).bit_length(), max(2, LARGE // ready.work))
        key = (part, x.dtype, x.is_contiguous(), torch.get_num_threads())
        if key not in ready.limits:
            ready.limits[key] = _break_even(synapse, ready, x, min(x.shape[0], part))
        return ready.limits[key]


def _renew(ready: _Prepared, synapse: Synapse) -> tuple[Tensor, events.SparseMap]:
    """Return both forms of a synapse's weight, made anew if the weight changed."""
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
    """Whether the sparse map supports this synapse and input."""
    return (
        synapse.spec.kind in SUMMED
        # parametrizations and functional_call make a new weight at each access, so that a change
        # cannot be detected
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
    """Return the number of multiplications of the dense map for one sample."""
    places = 1
    for side in synapse.out_shape[1:]:
        places *= side
    return synapse.weight.numel() * places


def _mark(synapse: Synapse) -> tuple[object, ...]:
    """Return a value that changes whenever a weight is replaced or written to."""
    tensors = [one for one in (synapse.weight, synapse.bias) if one is not None]
    if any(not isinstance(one, nn.Parameter) for one in tensors):
        return (object(),)  # made anew at every access: always counts as changed
    if not isinstance(synapse.shaping, nn.Identity):
        tensors += [*synapse.shaping.parameters(), *synapse.shaping.buffers()]
    return tuple((id(one), one.data_ptr(), version(one)) for one in tensors)


def _break_even(synapse: Synapse, ready: _Prepared, like: Tensor, rows: int) -> float:
    """Return the density at which the sparse map takes `SAFE` of the dense map's time.

    It is at most `HIGHEST`. `rows` random samples with the type and layout of `like` are timed.
    """
    weight, sparse = _renew(ready, synapse)
    # Inputs of 0 and 1 are cheaper than other values. Time with other values if `like` has some,
    # or if it is all zero and later inputs are unknown.
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
    """Return each call's fastest time in seconds; other processes can only make a round slower."""
    best = [float("inf")] * len(calls)
    for turn in range(ROUNDS + 1):
        for number, call in enumerate(calls):
            start = time.perf_counter()
            call()
            spent = time.perf_counter() - start
            if turn > 0:  # the first round compiles and warms up
                best[number] = min(best[number], spent)
    return best
