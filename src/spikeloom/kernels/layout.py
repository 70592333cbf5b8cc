"""Memory layout of one step of a train; kernels see a step as a flat row of elements."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import torch
from torch import Tensor

from spikeloom.base.autograd import is_dense

LONGEST = 1 << 11
"""Largest period, in elements, of quantities that are repeated along a block.

Blocks are multiples of the period; with a longer one their states would not fit into the cache.
"""


@dataclass(frozen=True)
class Layout:
    """Shape and strides of one step whose elements fill their memory without gaps.

    Kernels work element by element, so the order of the axes makes no difference to them. Axes of
    one element have stride 0, so that equal layouts compare equal.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, train: Tensor) -> "Layout":
        """Return the layout of a train's steps: its own if that is dense, else row-major."""
        return _layout_of(train.shape[1:], train.stride()[1:])

    @cached_property
    def count(self) -> int:
        """Number of elements of a step."""
        return prod(self.shape)

    def rows(self) -> tuple[int, int]:
        """Return what a pool needs of images [B, C, H, W]: the width, and the inner size.

        The inner size is the number of channels with channels last, else 1. The layout must be one
        of these two: see `images`.
        """
        return self.shape[-1], self.shape[-3] if self._channels_last() else 1

    def pooled(self, side: int) -> "Layout":
        """Return the layout behind a non-overlapping pool; the order of the axes stays."""
        if side == 1:
            return self
        *front, height, width = self.shape
        shape = (*front, height // side, width // side)
        order = _by_channels if self._channels_last() else _by_rows
        return Layout(shape, order(shape))

    def images(self) -> "Layout":
        """Return this layout if it is row-major or channels last, else the row-major one."""
        known = self._channels_last() or self.strides == _by_rows(self.shape)
        return self if known else Layout(self.shape, _by_rows(self.shape))

    def empty(self, dtype: torch.dtype, device: torch.device, steps: int | None = None) -> Tensor:
        """Allocate a step, or a train of `steps`."""
        shape, strides = self.shape, self.strides
        if steps is not None:
            shape, strides = (steps, *shape), (self.count, *strides)
        return torch.empty_strided(shape, strides, dtype=dtype, device=device)

    def fitted(self, x: Tensor, *, train: bool = False) -> Tensor:
        """Return a step or train in this layout: `x` itself if it fits, else a copy.

        Shape:
            x: a train [T, ...], or a tensor that broadcasts to a step.
        """
        if train:
            apart = x.shape[0] == 1 or x.stride(0) == self.count
            fits = apart and _cleaned(self.shape, x.stride()[1:]) == self.strides
        else:
            fits = x.shape == self.shape and _cleaned(self.shape, x.stride()) == self.strides
        if fits:
            return x
        return self.empty(x.dtype, x.device, x.shape[0] if train else None).copy_(x)

    def period(self, quantities: Sequence[Tensor]) -> int | None:
        """Return the number of elements after which all quantities repeat in memory.

        One value for all neurons has period 1; one per channel has period C with channels last and
        C H W in row-major order. None if the period is longer than `LONGEST`.

        Args:
            quantities: each broadcasts to a step.
        """
        longest = 1
        for one in quantities:
            sizes, total = (1,) * (len(self.shape) - one.dim()) + tuple(one.shape), 1
            for axis in self._inwards[::-1]:
                total *= self.shape[axis]
                if sizes[axis] != 1:
                    longest = max(longest, total)
        return longest if longest <= LONGEST else None

    def tile(self, x: Tensor, period: int, length: int) -> Tensor:
        """Return a quantity repeated along `length` elements, a multiple of its period."""
        # Outer axes beyond the period repeat the same values: the first of each is enough.
        whole = x.expand(self.shape).permute(self._inwards)
        while whole.numel() > period:
            whole = whole[0]
        return whole.reshape(-1).repeat(length // period)

    def untile(self, tiles: Tensor, period: int, shape: tuple[int, ...]) -> Tensor:
        """Return the sum of tiles in the shape of the quantity: the gradient of `tile`.

        Shape:
            tiles: [N, length].
        """
        row = tiles.view(-1, period).sum(0)
        sides, left = [1] * len(self.shape), period
        for axis in self._inwards[::-1]:
            if left > 1:
                sides[axis] = self.shape[axis]
                left //= self.shape[axis]
        inward = self._inwards
        back = [inward.index(axis) for axis in range(len(inward))]
        return row.view([sides[axis] for axis in inward]).permute(back).sum_to_size(shape)

    @cached_property
    def _inwards(self) -> tuple[int, ...]:
        """Axes in their order in memory, the innermost last."""
        return tuple(sorted(range(len(self.shape)), key=lambda axis: -self.strides[axis]))

    def _channels_last(self) -> bool:
        images = len(self.shape) >= 3 and self.shape[-3] > 1
        return images and self.strides == _by_channels(self.shape)


def interleaved(x: Tensor) -> bool:
    """Whether images lie in memory with channels last and not in row-major order.

    Images of one channel or one pixel are both; they count as row-major.
    """
    return (
        x.dim() == 4
        and not x.is_contiguous()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


@lru_cache(maxsize=1024)
def _layout_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> Layout:
    order = _cleaned(shape, strides) if is_dense(shape, strides) else _by_rows(shape)
    return Layout(tuple(shape), order)


def _by_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of row-major order."""
    return _cleaned(shape, tuple(prod(shape[axis + 1 :]) for axis in range(len(shape))))


def _by_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of channels last."""
    *front, channels, height, width = shape
    *outer, row, column, one = _by_rows((*front, height, width, channels))
    return (*outer, one, row, column)


@lru_cache(maxsize=4096)
def _cleaned(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Give axes of one element, whose stride means nothing, the stride 0."""
    return tuple(0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True))
