"""Mean and variance of each channel of a train, in one pass over it."""

from functools import lru_cache

import torch
from torch import Tensor

from spikeloom.kernels.emit import Emitter
from spikeloom.kernels.frame import (
    END,
    Memory,
    Source,
    Variant,
    body,
    function,
    loop,
    module_source,
    names,
)
from spikeloom.kernels.jit import numba
from spikeloom.kernels.layout import Layout
from spikeloom.kernels.program import Unsupported
from spikeloom.kernels.runs import Passes, Run
from spikeloom.kernels.scan import io_type, load_kernel
from spikeloom.kernels.theta_code import ThetaCode, theta_loads


def moments(train: Tensor) -> tuple[Tensor, Tensor] | None:
    r"""Return mean and (biased) variance per channel, or None where no kernel gives them.

    Sums are of :math:`x - k` and its square, with k the channel's first value, which is about as
    far from the mean as any other:

    .. math:: \mu = k + S_1 / n, \quad \sigma^2 = S_2 / n - (S_1 / n)^2

    Shape:
        train: [T, B, C, ...], channels last in memory; mean, variance: [C], in float32 at least.
    """
    if train.device.type != "cpu" or numba() is None:
        return None
    train = train.detach()
    view = (-1, *[1] * (train.dim() - 3))
    layout, first = (
        Layout.of(train),
        train[0, 0].flatten(1)[:, 0] if train.dim() > 3 else train[0, 0],
    )
    wide = torch.float64 if train.dtype == torch.float64 else torch.float32
    first = first.to(wide).view(view)
    period = layout.period([first])
    if period is None:
        return None
    try:
        run = _run(io_type(train), layout, train.shape[0], period)
    except Unsupported:
        return None
    sums = run.sums([first, first])
    run.call(run.passes.forward, layout.fitted(train, train=True), *run.theta([first]), *sums)
    count = train.numel() // train.shape[2]
    offset, square = (one / count for one in run.summed(sums, [first, first]))
    return (first + offset).flatten(), (square - offset.square()).clamp_(min=0).flatten()


@lru_cache(maxsize=256)
def _run(io: str, layout: Layout, steps: int, period: int) -> Run:
    kernel = load_kernel(_source(Variant(io, tiled=True)))
    return Run(Passes(kernel, None), layout, steps, 1, period=period)


def _source(variant: Variant) -> Source:
    """Write the module whose `body` sums; addresses are the train, k, and both sums."""
    memory = Memory()
    shift = theta_loads(1, variant, memory)["x1"]
    sums = ThetaCode(["x", "x * x"], variant, memory)
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
    return module_source(variant, Emitter(wide=variant.state == "float64"), lines)
