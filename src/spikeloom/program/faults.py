"""Where a value first stopped being finite: for messages."""

import math

import torch
from torch import Tensor

from spikeloom.base.errors import NumericalError
from spikeloom.base.types import Batch
from spikeloom.nets.module.site import Site
from spikeloom.program.setup import Workbench


def check_loss(bench: Workbench, batch: Batch, where: str, loss: float) -> None:
    """Stop the run where a loss is not finite.

    Raises:
        NumericalError: the loss is not finite; the message names layer and time step.
    """
    if not math.isfinite(loss):
        raise not_finite(bench, batch, where, loss)


def not_finite(bench: Workbench, batch: Batch, where: str, loss: float) -> NumericalError:
    """Return the error of a loss that is not finite, with the layer and step it comes from."""
    return NumericalError.of(
        where,
        "a finite loss",
        f"{loss}, {first_fault(bench, batch) or 'first in the head'}",
        "lower the learning rate or check the input",
    )


class _FaultFinder:
    """Observer that remembers the first site and step whose values are not finite."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self._calls: dict[str, int] = {}

    def see(self, site: Site, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        step = self._calls.get(site.name, 0)
        self._calls[site.name] = step + len(current)
        if self.fault is not None:
            return
        for what, train in (("input", x_in), ("current", current), ("output", s_out)):
            if train is None:
                continue
            bad = ~torch.isfinite(train.flatten(1)).all(1)
            if bad.any():
                self.fault = f"{what} of layer {site.name}, step {step + int(bad.int().argmax())}"
                return


@torch.no_grad()
def first_fault(bench: Workbench, batch: Batch) -> str | None:
    """Name the layer and step where a value of the net is first not finite, None for nowhere."""
    finder = _FaultFinder()
    training = bench.net.training
    bench.net.eval()  # no statistics move, no masks are drawn
    with bench.net.observe(finder), bench.fabric.autocast():
        bench.net.run_by_time(batch.xs)
    bench.net.train(training)
    return finder.fault and f"first in the {finder.fault}"
