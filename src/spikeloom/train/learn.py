"""One batch through a rule, stopped where a value is not finite."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from spikeloom.base.errors import NumericalError
from spikeloom.base.types import Batch
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Loss, Objective
from spikeloom.nets.site import Site
from spikeloom.rules.base import RuleReport
from spikeloom.train.setup import Workbench


def learn(bench: Workbench, batch: Batch, commit: Callable[[], None]) -> RuleReport:
    """Let the rule learn from one batch; a loss that is not finite stops it before any update."""
    objective = _Checked(bench, batch, bench.head.bind(batch.target, batch.rng))
    with bench.fabric.autocast():
        return bench.rule.learn(bench.net, batch, objective, commit)


class _Checked:
    """An objective that stops the run where the loss is not finite."""

    def __init__(self, bench: Workbench, batch: Batch, inner: Objective) -> None:
        self.bench = bench
        self.batch = batch
        self.inner = inner

    def __call__(self, h: Tensor, ops: Ops = PLAIN) -> Loss:
        return self._passed(self.inner(h, ops))

    def over(self, hs: Tensor, ops: Ops = PLAIN) -> Loss:
        return self._passed(self.inner.over(hs, ops))

    def _passed(self, loss: Loss) -> Loss:
        if not math.isfinite(loss.value.item()):
            raise NumericalError(
                f"training: expected a finite loss, got {loss.value.item()}; "
                f"{_first_fault(self.bench, self.batch)}; lower the learning rate or check the "
                "input. The weights of the last whole epoch are kept."
            )
        return loss


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
                self.fault = f"layer {site.name}, step {step + int(bad.int().argmax())}: {what}"
                return


@torch.no_grad()
def _first_fault(bench: Workbench, batch: Batch) -> str:
    bad = ~torch.isfinite(batch.xs.flatten(1)).all(1)
    if bad.any():
        return f"the net's input is not finite at step {int(bad.int().argmax())}"
    finder = _FaultFinder()
    bench.net.eval()  # no statistics move, no masks are drawn
    with bench.net.observe(finder), bench.fabric.autocast():
        bench.net.run_by_time(batch.xs)
    bench.net.train()
    if finder.fault is None:
        return "first fault in the head"
    return f"first fault at {finder.fault} is not finite"


