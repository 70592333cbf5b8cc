"""Ops: the seams through which a learning rule acts on a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spikeloom.nets.site import Site
from spikeloom.neurons.base import State


def plain_synapse(site: Site, x: Tensor) -> Tensor:
    """Apply the site's map, with ordinary autograd."""
    return site.synapse(x)


def keep(site: Site, value: Any) -> Any:
    """Return the value unchanged."""
    return value


@dataclass(frozen=True)
class Ops:
    r"""What a rule may change; the defaults are the plain network.

    Args:
        synapse: the map from a site's input to its current (before norm).
        carry: what becomes of a state on its way to the next step; feedback values and low-pass
            states pass through it too.
        emit: what becomes of a site's spikes before gain and low-pass.
        sequence: a whole train of one site's currents to its outputs, with its own backward, and
            with an average pool of the given side (1 for none) behind it; None runs the unit
            step by step. Used in layer order only.
        sees_pools: whether `synapse` has something to do at sites without weights; where it has
            not, average pools may be computed together with the units before them.
        trains_amplitude: whether a threshold that scales its unit's outputs gets the gradient of
            that product; a rule with a gradient of its own for thresholds says no.
        local: whether `carry` cuts every path, so that a state passes no gradient on. States may
            then be kept in a shorter form, which `net.step` alone can read, and spikes may be
            written over the currents that `synapse` returns.

    Shape:
        synapse: [N, \*in_shape] -> [N, \*out_shape], N = B in time order, T * B in layer order;
        emit: [B, ...] or [T, B, ...]; sequence: [T, B, ...] -> [T, B, ...], the last two
        axes divided by the pool's side.
    """

    synapse: Callable[[Site, Tensor], Tensor] = plain_synapse
    carry: Callable[[Site, State], State] = keep
    emit: Callable[[Site, Tensor], Tensor] = keep
    sequence: Callable[[Site, Tensor, int], Tensor] | None = None
    sees_pools: bool = True
    trains_amplitude: bool = True
    local: bool = False

    @property
    def joins_pools(self) -> bool:
        """Whether an average pool may be computed together with the unit before it."""
        plain = self.synapse is plain_synapse or not self.sees_pools
        return plain and self.emit is keep


PLAIN = Ops()
