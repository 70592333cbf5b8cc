r"""Sparse maps: work in proportion to the inputs that are not zero.

A linear map of spikes is a sum of weight columns, :math:`y = b + \sum_{i:\,x_i \ne 0} x_i W_{:,i}`;
a convolution is the same at each place, over the active inputs in its window. Inputs may be any
real numbers; results equal the dense map up to the order of the sum, which is fixed: they do not
depend on the number of threads.
"""

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from spikeloom.kernels.jit import numba
from spikeloom.kernels.threads import spread

DTYPES = (torch.float32, torch.float64)

RUN, RUNS = 32, 32
"""What tells the density of an input: so many runs of so many entries, each about one miss of the
cache. At 5 % that is right to 0.7 %."""

WORTH_A_THREAD = 2_000_000
"""Sums that take about as long as waking another thread does, with some to spare."""


def kernels() -> ModuleType | None:
    """Return the compiled loops; None where there is no compiler."""
    if numba() is None:
        return None
    return importlib.import_module("spikeloom.kernels._events_numba")


def density(x: Tensor) -> float:
    """Return the share of entries that are not 0.

    Large inputs are sampled: the places are spread evenly, the same for every input of a size.

    Args:
        x: on the CPU, without gaps in memory; of any shape.
    """
    flat = x.detach().as_strided((x.numel(),), (1,))
    size = len(flat)
    loops = kernels()
    if loops is None:
        return float((flat != 0).double().mean())
    if size <= RUN * RUNS:
        return loops.count_nonzero(flat.numpy(), size, 1, 0) / size
    # the golden ratio leaves no gap and meets no period of rows or channels
    step = round((size - RUN) * (5**0.5 - 1) / 2)
    return loops.count_nonzero(flat.numpy(), RUN, RUNS, step) / (RUN * RUNS)


class SparseMap:
    r"""A linear layer or a convolution, summed over active inputs.

    It holds its own copy of the weight, turned so that the weights of one input lie together.

    Args:
        weight: [M, D], or [M, C, K, K] for a convolution.
        bias: [M], or none.
        in_shape: one sample's shape, (D,) or (C, H, W).
        out_shape: (M,) or (M, OH, OW).
        stride: of the window.
        padding: zeros on each side.

    Shape:
        call: [N, \*in_shape] -> [N, \*out_shape]; a result has channels last in memory where
        its input has.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        loops = kernels()
        assert loops is not None, "no compiler: ask kernels() first"
        weight = weight.detach()
        self._loops = loops
        self._in_shape = in_shape
        self._out_shape = out_shape
        many = weight.shape[0]
        order = (1, 0) if weight.dim() == 2 else (2, 3, 1, 0)
        rows = weight.permute(order).reshape(-1, many).clone(memory_format=torch.contiguous_format)
        self._rows = rows.numpy()
        self._bias = (weight.new_zeros(many) if bias is None else bias.detach().clone()).numpy()
        self._window = (weight.shape[-1], stride, padding)
        self._dtype = weight.dtype
        self._spare: list[tuple[Any, ...]] = []

    def __call__(self, x: Tensor, share: float = 1.0) -> Tensor:
        """Apply the map; `share` of active inputs says how many threads are worth it."""
        x = x.detach()
        if len(self._in_shape) == 1:
            return self._linear(x.flatten(1), share)
        return self._conv(x, share)

    def _linear(self, x: Tensor, share: float) -> Tensor:
        out = x.new_empty(len(x), *self._out_shape)
        call = partial(
            self._loops.linear, x.contiguous().numpy(), self._rows, self._bias, out.numpy()
        )
        self._spread(call, len(x), share * self._rows.size, unpack=True)
        return out

    def _conv(self, x: Tensor, share: float) -> Tensor:
        last = interleaved(x)
        kind = torch.channels_last if last else torch.contiguous_format
        x = x.contiguous(memory_format=kind)
        out = torch.empty((len(x), *self._out_shape), dtype=x.dtype, memory_format=kind)
        call = partial(
            self._loops.conv,
            _flat(x, last),
            self._rows,
            self._bias,
            _flat(out, last),
            self._in_shape,
            self._out_shape,
            self._window,
            last,
        )
        tall, wide = self._out_shape[1:]
        self._spread(call, len(x) * tall, share * self._rows.size * wide)
        return out

    def _spread(
        self, call: Callable[..., object], count: int, work: float, *, unpack: bool = False
    ) -> None:
        """Run a loop on threads, each with scratch space that is kept for the next call."""

        def run(begin: int, end: int) -> None:
            try:
                scratch = self._spare.pop()
            except IndexError:
                scratch = self._scratch()
            call(*(scratch if unpack else (scratch,)), begin, end)
            self._spare.append(scratch)

        spread(run, count, grain=max(1, round(WORTH_A_THREAD / max(work, 1.0))))

    def _scratch(self) -> tuple[Any, ...]:
        def make(*shape: int, dtype: torch.dtype) -> Any:
            return torch.empty(shape, dtype=dtype).numpy()

        taps = len(self._rows) + 1
        lists = (make(taps, dtype=torch.uint32), make(taps, dtype=self._dtype))
        if len(self._in_shape) == 1:
            return lists
        depth, height, width = self._in_shape
        return (
            make(height * width, depth, dtype=torch.uint32),
            make(height * width, depth, dtype=self._dtype),
            make(height * width, dtype=torch.int64),
            *lists,
            make(self._out_shape[2], self._out_shape[0], dtype=self._dtype),
        )


def interleaved(x: Tensor) -> bool:
    """Whether images lie in memory with their channels last, and not otherwise as well."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _flat(x: Tensor, last: bool) -> Any:
    return (x.permute(0, 2, 3, 1) if last else x).reshape(-1).numpy()
