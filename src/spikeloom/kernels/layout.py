"""How one step of a train lies in memory, seen by kernels as a flat row of elements."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

LONGEST = 1 << 11
"""Elements of a quantity that is worth repeating along a block of work."""


@dataclass(frozen=True)
class Layout:
    """Shape and strides of one step; the elements fill their memory without gaps.

    Rows last or channels last make no difference to what is done per element.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, train: Tensor) -> "Layout":
        """Return the layout of a train's steps: its own where it is dense, else row by row."""
        return _layout_of(train.shape[1:], train.stride()[1:])

    @cached_property
    def count(self) -> int:
        """Number of elements of a step."""
        total = 1
        for size in self.shape:
            total *= size
        return total

    def rows(self) -> tuple[int, int]:
        """Return width and neighbours per row of images [B, C, H, W]: channels if they lie last.

        Layouts of images are one of two (see `pooled`): channels last, or rows last.
        """
        return self.shape[-1], self.shape[-3] if self._channels_last() else 1

    def pooled(self, side: int) -> "Layout":
        """Return the layout behind a pool without overlap, channels where they were."""
        if side == 1:
            return self
        *front, height, width = self.shape
        shape = (*front, height // side, width // side)
        order = _by_channels if self._channels_last() else _by_rows
        return Layout(shape, order(shape))

    def images(self) -> "Layout":
        """Return this layout, or row by row where it is neither channels last nor rows last."""
        known = self._channels_last() or self.strides == _by_rows(self.shape)
        return self if known else Layout(self.shape, _by_rows(self.shape))

    def empty(self, dtype: torch.dtype, device: torch.device, steps: int | None = None) -> Tensor:
        """Return a fresh step, or a fresh train of `steps`."""
        if steps is None:
            return torch.empty_strided(self.shape, self.strides, dtype=dtype, device=device)
        return torch.empty_strided(
            (steps, *self.shape), (self.count, *self.strides), dtype=dtype, device=device
        )

    def fitted(self, x: Tensor, *, train: bool = False) -> Tensor:
        """Return a step or train as it lies in this layout, copied where it lies otherwise.

        Shape:
            x: [T, ...], or anything that broadcasts to a step.
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
        """Return after how many elements in memory quantities repeat; None for long periods.

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
        """Return a quantity as it lies along `length` elements, a multiple of its period."""
        # outer axes beyond the period hold the same values again: the first of each stands for all
        whole = x.expand(self.shape).permute(self._inwards)
        while whole.numel() > period:
            whole = whole[0]
        return whole.reshape(-1).repeat(length // period)

    def untile(self, tiles: Tensor, period: int, shape: tuple[int, ...]) -> Tensor:
        """Return the sum of tiles in a quantity's own shape.

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

    def _dense(self) -> bool:
        expected = 1
        for stride, size in sorted(zip(self.strides, self.shape, strict=True)):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


def interleaved(x: Tensor) -> bool:
    """Whether images lie in memory with their channels last, and not otherwise as well."""
    return (
        x.dim() == 4
        and not x.is_contiguous()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


@lru_cache(maxsize=1024)
def _layout_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> Layout:
    own = Layout(tuple(shape), _cleaned(shape, strides))
    return own if own._dense() else Layout(tuple(shape), _by_rows(shape))


def _by_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, total = [], 1
    for size in reversed(shape):
        strides.append(total)
        total *= size
    return _cleaned(shape, tuple(reversed(strides)))


def _by_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    *front, channels, height, width = shape
    *outer, row, column, one = _by_rows((*front, height, width, channels))
    return (*outer, one, row, column)


@lru_cache(maxsize=4096)
def _cleaned(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Give axes of one element, whose stride means nothing, the stride 0."""
    return tuple(0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True))
