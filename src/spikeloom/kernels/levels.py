"""Tensors of few distinct values, stored in few bits: spikes in one, pooled spikes in 4 or 8."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeloom.base.tracing import ordinary
from spikeloom.kernels.layout import Layout
from spikeloom.kernels.source.jit import helpers

_WORTH = 1 << 12  # with fewer elements there is nothing worth saving
# The smallest value of a pooled train may stand for one, two or three spikes in a window; the
# quantum is that value divided by their number.
_PARTS = (1, 2, 3)


@dataclass(frozen=True)
class Packed:
    """A packed tensor; `unpack` restores it bit for bit.

    Args:
        data: a level number per element, of 1, 4 or 8 bits.
        palette: the value of each level (numpy array).
        layout: memory layout of the tensor, as one step.
        dtype: type of the tensor.
    """

    data: Tensor
    palette: Any
    layout: Layout
    dtype: torch.dtype

    def unpack(self) -> Tensor:
        """Return the tensor."""
        loops = helpers("levels")
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
    """Pack a tensor into fewer bits; None if it has too many distinct values, or is small.

    Zeros and one other value take a bit per element. Values that are multiples of one quantum, up
    to rounding, take half a byte for at most 16 levels and a byte for at most 256. Bfloat16 is
    packed into bits only: levels would take longer than the memory is worth.

    Args:
        x: on the CPU, without gaps in memory.
    """
    loops = helpers("levels")
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
    # Bits come first: most tensors are spikes, and for those one pass is enough. If a second value
    # was found, the bits are thrown away.
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


def _smallest(flat: Any) -> Any:
    """Return the smallest value above 0; NaN if there is none."""
    loops = helpers("levels")
    assert loops is not None
    whole = np.dtype(f"int{8 * flat.itemsize}")
    # Read as integers, the bits of positive floats are in the same order as the floats. With no
    # value above 0 the largest integer comes back, whose bits are a NaN.
    found = np.array([loops.smallest(flat.view(whole), whole.type(np.iinfo(whole).max))], whole)
    return found.view(flat.dtype)[0]


def _flat(x: Tensor, layout: Layout) -> Any:
    """View a dense tensor as an array of its elements in memory; bfloat16 as bits."""
    flat = x.as_strided((layout.count,), (1,))
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()
