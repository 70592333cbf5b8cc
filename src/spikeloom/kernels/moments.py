"""Mean and variance of each channel of a train, computed in one pass over memory."""

from functools import lru_cache

import torch
from torch import Tensor

from spikeloom.base.tracing import ordinary
from spikeloom.kernels.layout import Layout
from spikeloom.kernels.runs import Passes, Run
from spikeloom.kernels.scan import io_type, load_kernel
from spikeloom.kernels.source.frame import END, Source, Variant, Writer, body, function, loop, names
from spikeloom.kernels.source.jit import numba
from spikeloom.kernels.source.program import Unsupported
from spikeloom.kernels.source.theta_code import ThetaCode


def moments(train: Tensor) -> tuple[Tensor, Tensor] | None:
    r"""Return mean and (biased) variance per channel, or None if there is no kernel for it.

    .. math:: S_j = \sum (x - k)^j, \quad \mu = k + S_1 / n, \quad \sigma^2 = S_2 / n - (S_1 / n)^2

    with k the channel's mean in one sample at one step. Without k the variance of a channel with a
    large mean would be the small difference of two large numbers.

    Shape:
        train: [T, B, C, ...], channels last in memory; mean, variance: [C], in float32 at least.
    """
    if train.device.type != "cpu" or numba() is None or not ordinary(train):
        return None
    train, layout = train.detach(), Layout.of(train)
    wide = torch.float64 if train.dtype == torch.float64 else torch.float32
    some = train[0, 0].to(wide).flatten(1).mean(1) if train.dim() > 3 else train[0].to(wide).mean(0)
    shift = some.view(-1, *[1] * (train.dim() - 3))
    period = layout.period([shift])
    run = None if period is None else _run(train.dtype, layout, train.shape[0], period)
    if run is None:
        return None
    sums = run.sums([shift, shift])
    run.call(run.passes.forward, layout.fitted(train, train=True), *run.theta([shift]), *sums)
    count = train.numel() // train.shape[2]
    mean, square = (one.flatten() / count for one in run.summed(sums, [shift, shift]))
    return some + mean, (square - mean.square()).clamp_(min=0)


_ABOUT = "Moments of a batch norm, per channel: sums of x - k and of its square, k = th0."


@lru_cache(maxsize=256)
def _run(dtype: torch.dtype, layout: Layout, steps: int, period: int) -> Run | None:
    try:
        kernel = load_kernel(_source(Variant(io_type(dtype), tiled=True)), _ABOUT)
    except Unsupported:
        return None
    return Run(Passes(kernel, None), layout, steps, 1, period=period)


def _source(variant: Variant) -> Source:
    """Write the kernel of both sums; its arrays are the train, k and the two sums."""
    writer = Writer(variant)
    memory, shift = writer.memory, writer.theta_loads(1)["x1"]
    sums = ThetaCode(["x", "x * x"], writer)
    x = f"x = {variant.load(memory.get('c', 'i', 'ct'))} - {shift}"
    arguments = ["c", "th0", *names("gth", 2)]
    lines = [
        *function("sums", arguments, sums.scratch, before=sums.cleared(block=False)),
        "        for t in range(steps):",
        "            ct = train_at(c + (t * count + b) * TRAIN)",
        *loop(3, [x, *sums.added()]),
        *sums.stored(block=False),
        *END,
        *body("sums", arguments),
    ]
    return writer.module("Sums over a train", lines)
