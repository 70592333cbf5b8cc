"""Signals of few levels, stored in few bits: spikes in one, pooled spikes in four or eight."""

import functools
import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.tracing import ordinary
from spikeloom.kernels.layout import Layout
from spikeloom.kernels.source.jit import numba

_WORTH = 1 << 12  # elements below which storing less saves nothing
_PARTS = (1, 2, 3)  # the smallest mean of a window may be of as many spikes


@dataclass(frozen=True)
class Packed:
    """A tensor as the numbers of its values; unpacking gives the same bits.

    Args:
        data: 1, 4 or 8 bits per element.
        palette: the values by their numbers.
        layout: of the tensor, as one step.
        dtype: of the tensor.
    """

    data: Tensor
    palette: Any
    layout: Layout
    dtype: torch.dtype

    def unpack(self) -> Tensor:
        """Return the tensor."""
        loops = _loops()
        assert loops is not None
        x = self.layout.empty(self.dtype, self.data.device)
        flat, data = _flat(x, self.layout), self.data.numpy()
        if len(self.palette) == 2:
            loops.unpack_bits(data, self.palette[1], self.palette[0], flat)
        elif data.size == flat.size:
            loops.unpack_levels(data, self.palette, flat)
        else:
            loops.unpack_halves(data, self.palette, flat)
        return x


def pack(x: Tensor) -> Packed | None:
    """Store a tensor in fewer bits, or return None where it has too many values.

    One amplitude besides 0 takes a bit. Values that differ as whole multiples of one number, up to
    rounding, take half a byte if there are at most 16 such multiples, a byte up to 256; not in
    bfloat16, where packing them takes longer than the memory is worth.

    Args:
        x: on the CPU, without gaps in memory.
    """
    loops = _loops()
    dense = x.device.type == "cpu" and x.is_floating_point() and x.dtype != torch.float16
    if loops is None or not dense or x.numel() < _WORTH or not ordinary(x):
        return None
    x = x.detach()
    layout = Layout.of(x.unsqueeze(0))
    if layout.fitted(x) is not x:
        return None
    flat = _flat(x, layout)
    bits = torch.empty(-(-flat.size // 8), dtype=torch.uint8)
    first, odd = loops.pack_bits(flat, bits.numpy())
    palette = np.zeros(256, flat.dtype)
    # the bits are dropped again where there were two amplitudes: one look through tells most trains
    if odd >= 0 and x.dtype == torch.bfloat16:
        return None
    if odd < 0:
        palette[1] = flat[first]
        return Packed(bits, palette[:2], layout, x.dtype)
    smallest, levels = _smallest(flat), torch.empty(flat.size, dtype=torch.uint8)
    for parts in _PARTS if np.isfinite(smallest) else ():
        highest = loops.pack_levels(flat, smallest / parts, palette, levels.numpy())
        if 0 <= highest < 16:
            halves = torch.empty(-(-flat.size // 2), dtype=torch.uint8)
            loops.pack_halves(levels.numpy(), halves.numpy())
            levels = halves
        if highest >= 0:
            return Packed(levels, palette, layout, x.dtype)
    return None


@functools.cache
def _compiled() -> ModuleType:
    return importlib.import_module("spikeloom.kernels._levels_numba")


def _loops() -> ModuleType | None:
    return None if numba() is None else _compiled()


def _smallest(flat: Any) -> Any:
    """Return the smallest value above 0, to compute with; NaN where there is none."""
    loops = _loops()
    assert loops is not None
    whole = np.dtype(f"int{8 * flat.itemsize}")
    found = np.array([loops.smallest(flat.view(whole), whole.type(np.iinfo(whole).max))], whole)
    return found.view(flat.dtype)[0]


def _flat(x: Tensor, layout: Layout) -> Any:
    """View a dense tensor as an array of its elements in memory; bfloat16 as bits."""
    flat = x.as_strided((layout.count,), (1,))
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()
