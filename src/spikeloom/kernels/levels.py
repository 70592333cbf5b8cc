"""Signals of few levels, stored in few bits: spikes in one, pooled spikes in eight."""

import functools
import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from spikeloom.kernels.jit import numba
from spikeloom.kernels.layout import Layout

_WORTH = 1 << 12  # elements below which storing less saves nothing
_PARTS = (1, 2, 3)  # the smallest mean of a window may be of as many spikes


@dataclass(frozen=True)
class Packed:
    """A tensor as whole multiples of one number; unpacking gives the same bits.

    Args:
        data: one bit per element, or one byte.
        quantum: what a multiple counts.
        layout: of the tensor, as one step.
        dtype: of the tensor.
    """

    data: Tensor
    quantum: Any
    layout: Layout
    dtype: torch.dtype

    def unpack(self) -> Tensor:
        """Return the tensor."""
        loops = _loops()
        assert loops is not None
        x = self.layout.empty(self.dtype, self.data.device)
        flat, data = _flat(x, self.layout), self.data.numpy()
        if data.size == flat.size:
            loops.unpack_bytes(data, self.quantum, flat)
        else:
            loops.unpack_bits(data, self.quantum, flat.dtype.type(0), flat)
        return x


def pack(x: Tensor) -> Packed | None:
    """Store a tensor in fewer bits, or return None where it has too many levels.

    One amplitude besides 0 takes a bit; whole multiples up to 255 of the smallest one, or of its
    half or third, take a byte (not in bfloat16, where that would save little).

    Args:
        x: on the CPU, without gaps in memory.
    """
    loops = _loops()
    dense = x.device.type == "cpu" and x.is_floating_point() and x.dtype != torch.float16
    if loops is None or not dense or x.numel() < _WORTH:
        return None
    x = x.detach()
    layout = Layout.of(x.unsqueeze(0))
    if layout.fitted(x) is not x:
        return None
    flat = _flat(x, layout)
    bits = torch.empty(-(-flat.size // 8), dtype=torch.uint8)
    first, odd = loops.pack_bits(flat, bits.numpy())
    if odd < 0:
        return Packed(bits, flat[first], layout, x.dtype)
    if x.dtype == torch.bfloat16:
        return None
    smallest, levels = loops.smallest(flat), torch.empty(flat.size, dtype=torch.uint8)
    for parts in _PARTS:
        quantum = flat.dtype.type(smallest / parts)
        if loops.pack_bytes(flat, quantum, levels.numpy()) < 0:
            return Packed(levels, quantum, layout, x.dtype)
    return None


@functools.cache
def _compiled() -> ModuleType:
    return importlib.import_module("spikeloom.kernels._levels_numba")


def _loops() -> ModuleType | None:
    return None if numba() is None else _compiled()


def _flat(x: Tensor, layout: Layout) -> Any:
    """View a dense tensor as an array of its elements in memory; bfloat16 as bits."""
    flat = x.as_strided((layout.count,), (1,))
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()
