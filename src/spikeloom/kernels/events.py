r"""Sparse maps: work in proportion to the inputs that are not zero.

A linear map of spikes is a sum of weight columns, :math:`y = b + \sum_{i:\,x_i \ne 0} x_i W_{:,i}`;
a convolution is the same at each place, over the active inputs in its window. Inputs may be any
real numbers; results equal the dense map up to the order of the sum, which is fixed: they do not
depend on the number of threads.
"""

import functools
import importlib
from types import ModuleType

import torch
from torch import Tensor

from spikeloom.kernels.layout import interleaved
from spikeloom.kernels.source.jit import numba
from spikeloom.kernels.threads import run_body, shares

DTYPES = (torch.float32, torch.float64)

RUN, RUNS = 32, 32
"""What tells the density of an input: so many runs of so many entries, each about one miss of the
cache. At 5 % that is right to 0.7 %."""

WORTH_A_THREAD = 250_000
"""Sums that take about as long as calling another thread does, with some to spare."""

WHOLE_IMAGES = 8
"""Images from which on threads share them whole; of fewer each is cut into as many pieces."""


@functools.cache
def _compiled() -> ModuleType:
    return importlib.import_module("spikeloom.kernels._events_numba")


def kernels() -> ModuleType | None:
    """Return the compiled loops; None where there is no compiler."""
    if numba() is None:
        return None
    return _compiled()


def density(x: Tensor) -> float:
    """Return the share of entries that are not 0.

    Large inputs are sampled: the places are spread evenly, the same for every input of a size.

    Args:
        x: on the CPU, without gaps in memory; of any shape.
    """
    size = x.numel()
    flat = x.detach().as_strided((size,), (1,))
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
        many = weight.shape[0]
        order = (1, 0) if weight.dim() == 2 else (2, 3, 1, 0)
        rows = weight.permute(order).reshape(-1, many)
        self._rows = rows.clone(memory_format=torch.contiguous_format)
        self._bias = weight.new_zeros(many) if bias is None else bias.detach().clone()
        self._in_shape = in_shape
        self._out_shape = out_shape
        self._window = (weight.shape[-1], stride, padding)
        double = weight.dtype == torch.float64
        if weight.dim() == 2:
            self._body = loops.linear64 if double else loops.linear32
        else:
            self._body = loops.conv64 if double else loops.conv32

    def __call__(self, x: Tensor, share: float = 1.0) -> Tensor:
        """Apply the map; `share` of active inputs says how many threads are worth it."""
        work = max(1.0, share * self._rows.numel())
        if len(self._in_shape) == 1:
            x = x.detach().flatten(1).contiguous()
            out = x.new_empty(x.shape[0], *self._out_shape)
            self._run(x, out, (), work)
            return out
        last = interleaved(x)
        kind = torch.channels_last if last else torch.contiguous_format
        x = x.detach().contiguous(memory_format=kind)
        out = torch.empty((x.shape[0], *self._out_shape), dtype=x.dtype, memory_format=kind)
        self._run(x, out, (*self._window, int(last)), work * self._out_shape[2])
        return out

    def _run(self, x: Tensor, out: Tensor, window: tuple[int, ...], work: float) -> None:
        """Run the body; `work` is what one element costs: a sample, or a line of an image."""
        memory = (x.data_ptr(), self._rows.data_ptr(), self._bias.data_ptr(), out.data_ptr())
        lines = self._out_shape[1] if window else 1
        parts = shares(
            x.shape[0] * lines,
            grain=max(1, round(WORTH_A_THREAD / work)),
            # pieces of one image list the same inputs again where they meet
            multiple=lines if x.shape[0] >= WHOLE_IMAGES else max(1, lines // WHOLE_IMAGES),
        )
        run_body(self._body, (*memory, *self._in_shape, *self._out_shape, *window), parts)
