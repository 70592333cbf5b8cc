r"""Event-driven linear maps: their work is proportional to the number of non-zero inputs.

A linear layer is a sum of weight columns, :math:`y = b + \sum_{i:\,x_i \ne 0} x_i W_{:,i}`; a
convolution is the same sum at each output position, over the non-zero inputs in its window. Inputs
may be any real numbers. The result equals the dense map except for the order of the sum. That order
is fixed and does not depend on the number of threads.
"""

from types import ModuleType

import torch
from torch import Tensor

from spikeloom.kernels.layout import interleaved
from spikeloom.kernels.source.jit import helpers
from spikeloom.kernels.threads import run_body, shares

DTYPES = (torch.float32, torch.float64)

RUN, RUNS = 32, 32
"""`density` samples this many runs of this many neighbouring entries.

A run costs about one cache miss. With 1024 entries the estimate of a density of 5 % has a standard
error of 0.7 %.
"""

WORTH_A_THREAD = 250_000
"""Additions that are worth another thread: they take longer than calling it."""

WHOLE_IMAGES = 8
"""With at least this many images threads get whole ones; else each image is cut into 8 parts."""


def kernels() -> ModuleType | None:
    """Return the compiled loops; None without a compiler."""
    return helpers("events")


def density(x: Tensor) -> float:
    """Return the fraction of entries that are not 0.

    Large inputs are sampled at evenly spread positions, which depend on their size alone.

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
    # Multiples of the golden ratio are spread evenly, and no row or channel length divides them.
    step = round((size - RUN) * (5**0.5 - 1) / 2)
    return loops.count_nonzero(flat.numpy(), RUN, RUNS, step) / (RUN * RUNS)


class SparseMap:
    r"""A linear layer or a convolution, computed as a sum over non-zero inputs.

    It owns copies of weight and bias. The weight is stored as [inputs, M], so that the weights of
    one input are neighbours in memory and are added as one row.

    Args:
        weight: [M, D], or [M, C, K, K] for a convolution.
        bias: [M], or None.
        in_shape: shape of a sample, (D,) or (C, H, W).
        out_shape: (M,) or (M, OH, OW).
        stride: of the convolution.
        padding: zeros on each side.

    Shape:
        call: [N, \*in_shape] -> [N, \*out_shape]; the result has the memory format of the input
        (channels last or row-major).
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
        name = "linear" if weight.dim() == 2 else "conv"
        self._body = getattr(loops, f"{name}{8 * weight.itemsize}")

    def __call__(self, x: Tensor, share: float = 1.0) -> Tensor:
        """Apply the map to a batch.

        Args:
            x: float32 or float64, as the weight.
            share: expected fraction of non-zero inputs; it decides how many threads are used.
        """
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
        """Run the compiled body.

        Args:
            x: input.
            out: result, written.
            window: kernel size, stride, padding and memory format of a convolution; empty else.
            work: additions per element of work: per sample, or per line of an output image.
        """
        memory = (x.data_ptr(), self._rows.data_ptr(), self._bias.data_ptr(), out.data_ptr())
        lines = self._out_shape[1] if window else 1
        parts = shares(
            x.shape[0] * lines,
            grain=max(1, round(WORTH_A_THREAD / work)),
            # Pieces of one image both list the inputs where their windows overlap, so images are
            # cut only if there are too few of them for all threads.
            multiple=lines if x.shape[0] >= WHOLE_IMAGES else max(1, lines // WHOLE_IMAGES),
        )
        run_body(self._body, (*memory, *self._in_shape, *self._out_shape, *window), parts)
