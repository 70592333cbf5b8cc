"""Less memory between a train's forward and backward pass, for the same gradients.

What autograd stores of a layer is its input, for the weight's gradient, and the currents of its
neurons. Spikes fit into a bit each; currents that cost next to nothing are computed again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from spikeloom.kernels.levels import Packed, pack
from spikeloom.nets.module.site import Site

CHEAP = 0.05
"""A layer's share of all products up to which its currents are computed twice."""


@dataclass
class Again:
    """Currents to be computed again: how, and in which type."""

    compute: Callable[[], Tensor]
    dtype: torch.dtype

    def unpack(self) -> Tensor:
        """Compute them."""
        low = self.dtype in (torch.bfloat16, torch.float16)
        # a cache of cast weights would hold them until the whole pass is done
        how = {"dtype": self.dtype if low else None, "enabled": low, "cache_enabled": False}
        with torch.no_grad(), torch.autocast("cpu", **how):
            return self.compute()


def _restore(kept: Any) -> Tensor:
    return kept.unpack() if isinstance(kept, Packed | Again) else kept


@contextmanager
def packing() -> Iterator[None]:
    """Store what autograd saves inside the block in as few bits as it takes exactly."""

    def keep(x: Tensor) -> Any:
        trained = x.is_leaf and x.requires_grad
        return (None if trained else pack(x)) or x

    with saved_tensors_hooks(keep, _restore):
        yield


@contextmanager
def recomputing(currents: Tensor, compute: Callable[[], Tensor]) -> Iterator[None]:
    """Store, in the place of `currents`, how they are computed again."""
    address, shape = currents.data_ptr(), currents.shape  # autograd keeps the function below

    def keep(x: Tensor) -> Any:
        # by address: what autograd saves is often a view, another object on the same memory
        same = x.data_ptr() == address and x.shape == shape
        return Again(compute, x.dtype) if same else x

    with saved_tensors_hooks(keep, _restore):
        yield


def cheap_sites(sites: tuple[Site, ...]) -> set[str]:
    """Return the names of sites whose currents are worth computing twice.

    They have no batch norm, which would count its statistics twice.
    """
    costs = {site.name: _products(site) for site in sites if site.spec.weighted}
    total = sum(costs.values())
    cheap = {name for name, cost in costs.items() if cost <= CHEAP * total}
    return {site.name for site in sites if site.name in cheap and site.unit and not site.norm}


def _products(site: Site) -> int:
    """Return the dense products of one sample."""
    synapse = site.synapse
    places = 1
    for side in synapse.out_shape[1:]:
        places *= side
    return synapse.weight.numel() * places
