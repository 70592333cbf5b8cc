"""What a synapse multiplies with: spikes behind amplitudes, pools and low-passes, or reals."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom.meters._pairs import count
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site

LARGEST_TOLERANCE = 1 / 16
"""Beyond this a value is never taken for an integer, however coarse its type."""


@dataclass(frozen=True)
class Arrival:
    """How a signal comes to a synapse.

    Args:
        base: the nearest site upstream with a unit or weights; None on the net's input, behind a
            join and behind fitted channels.
        path: sites without weights or unit from there to the synapse, in order.
        fold: product of the pools' window sizes: what an average divides by.
        filtered: whether a low-pass lies on the way; then the events are the spikes before it.
    """

    base: Site | None
    path: tuple[Site, ...]
    fold: int
    filtered: bool


def last_site(net: SpikingNet) -> Site | None:
    """Return the site the features come from; None behind a join."""
    if not net.plan.blocks or net.plan.blocks[-1].spec.join not in ("none", "before_unit"):
        return None
    return net.plan.blocks[-1].passes[-1].sites[-1]


def source_of(site: Site, net: SpikingNet) -> Site | None:
    """Return the site before this one; all of a head's sites read the features."""
    return last_site(net) if site.role == "readout" else site.source


def follow(source: Site | None, net: SpikingNet, external: bool = False) -> Arrival:
    """Follow a signal upstream.

    Args:
        source: the site just before the synapse.
        net: where it lies.
        external: whether the signal is the net's own input, pooled at most.
    """
    path: list[Site] = []
    fold, filtered, plain = 1, False, True
    at = source
    while at is not None and at.unit is None and not at.spec.weighted:
        path.append(at)
        fold *= _window(at)
        filtered = filtered or at.spec.psp is not None
        plain = plain and at.norm is None and at.spec.kind != "max_pool"
        at = at.source
    if at is not None:
        filtered = filtered or at.spec.psp is not None
    elif external:
        filtered = filtered or net.spec.input_psp is not None
    return Arrival(at, tuple(reversed(path)), fold, filtered and plain)


def without_events(net: SpikingNet) -> frozenset[str]:
    """Name the sites whose operands are not this step's spikes even before a low-pass.

    Those are the sites that read the time mean, and feedback that arrives later than one step on
    or starts behind a join.
    """
    names: set[str] = set()
    if net.spec.tail is not None:
        inside = {
            site.name
            for block in net.plan.blocks[net.spec.tail :]
            for one in block.passes
            for site in (*one.sites, *one.shortcut)
        }
        for site in net.sites:
            base = follow(site.source, net).base
            if site.name in inside and (base is None or base.name not in inside):
                names.add(site.name)
    for edge in net.plan.edges:
        joined = net.spec.blocks[edge.spec.source].join not in ("none", "before_unit")
        if edge.spec.delay > 1 or joined:
            names.update(site.name for site in edge.sites)
    return frozenset(names)


def through(path: tuple[Site, ...], train: Tensor) -> Tensor:
    """Push a train through maps without weights.

    Shape:
        train, result: [t, B, ...].
    """
    steps = train.shape[0]
    for site in path:
        train = site.synapse.apply_map(train.flatten(0, 1), None, None).unflatten(0, (steps, -1))
    return train


def in_spikes(x: Tensor, amplitude: Tensor | float, shape: tuple[int, ...]) -> Tensor:
    """Divide a train by the amplitude of its spikes and flatten it.

    Args:
        x: what the synapse received.
        amplitude: of one spike, one value or one per channel of `shape`.
        shape: of one sample before any flattening.

    Shape:
        x: [t, B, ...]; result: [t, B, prod(shape)].
    """
    x = x.flatten(2)
    if isinstance(amplitude, Tensor):
        amplitude = amplitude.detach().to(x.dtype)
        if amplitude.numel() > 1:
            amplitude = amplitude.expand(shape).reshape(-1)
    elif amplitude == 1:
        return x
    return x / amplitude


def as_integers(z: Tensor, fold: int) -> tuple[Tensor, Tensor]:
    r"""Round values to integers and say for which samples nothing was lost.

    A spike train v times amplitude a comes back as v within rounding: a v rounds once, a mean
    over n values up to n times, the division by a once, n times v once, each by half an epsilon
    of its value at most. Hence a sample is integer-valued where for all its values

    .. math:: |z - round(z)| \le (4 + n)\,\epsilon \max(1, |z|)

    capped at `LARGEST_TOLERANCE`, with epsilon that of the type (1.2e-7 in float32).

    Args:
        z: values in units of a spike.
        fold: n, values averaged by pools on the way.

    Returns:
        Integers in float64, and one truth value per sample.

    Shape:
        z, integers: [B, n]; truth: [B].
    """
    near = z.round()
    bound = ((4 + fold) * torch.finfo(z.dtype).eps * z.abs().clamp(min=1)).clamp(
        max=LARGEST_TOLERANCE
    )
    return near.double(), ((z - near).abs() <= bound).all(1)


def _window(site: Site) -> int:
    if site.spec.kind == "avg_pool":
        return site.spec.kernel_size**2
    return count(site.synapse.in_shape[1:]) if site.spec.kind == "global_pool" else 1
