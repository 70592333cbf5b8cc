"""Memory saving: autograd keeps less between forward and backward pass; gradients are the same.

For each layer autograd saves the input, for the weight's gradient, and the currents of the neurons.
Spikes are saved in one bit each. Currents of cheap layers are computed again instead of saved.
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
"""A layer is cheap if it has at most this share of the net's multiplications."""


@dataclass
class Again:
    """Currents to be computed again in the backward pass.

    Args:
        compute: computes them.
        dtype: type in which autocast computed them first.
    """

    compute: Callable[[], Tensor]
    dtype: torch.dtype

    def unpack(self) -> Tensor:
        """Return the currents, computed again."""
        low = self.dtype in (torch.bfloat16, torch.float16)
        # no cache: it would keep the cast weights alive until the backward pass ends
        how = {"dtype": self.dtype if low else None, "enabled": low, "cache_enabled": False}
        with torch.no_grad(), torch.autocast("cpu", **how):
            return self.compute()


def _restore(kept: Any) -> Tensor:
    return kept.unpack() if isinstance(kept, Packed | Again) else kept


@contextmanager
def packing() -> Iterator[None]:
    """Inside the block, autograd saves tensors without loss in as few bits as possible."""

    def keep(x: Tensor) -> Any:
        trained = x.is_leaf and x.requires_grad
        return (None if trained else pack(x)) or x

    with saved_tensors_hooks(keep, _restore):
        yield


@contextmanager
def recomputing(currents: Tensor, compute: Callable[[], Tensor]) -> Iterator[None]:
    """Inside the block, autograd saves `compute` in place of `currents`."""
    # autograd keeps the closure `keep` alive: it must hold the address only, not the currents
    address, shape = currents.data_ptr(), currents.shape

    def keep(x: Tensor) -> Any:
        # compared by address: autograd often saves a view, another object on the same memory
        same = x.data_ptr() == address and x.shape == shape
        return Again(compute, x.dtype) if same else x

    with saved_tensors_hooks(keep, _restore):
        yield


def cheap_sites(sites: tuple[Site, ...]) -> set[str]:
    """Return the names of sites whose currents are computed again.

    Sites with a batch norm are left out: its running statistics would be updated twice.
    """
    costs = {site.name: _products(site) for site in sites if site.spec.weighted}
    total = sum(costs.values())
    cheap = {name for name, cost in costs.items() if cost <= CHEAP * total}
    return {site.name for site in sites if site.name in cheap and site.unit and not site.norm}


def _products(site: Site) -> int:
    """Return the number of multiplications of the dense map for one sample."""
    synapse = site.synapse
    places = 1
    for side in synapse.out_shape[1:]:
        places *= side
    return synapse.weight.numel() * places
