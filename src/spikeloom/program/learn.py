"""One batch through a rule; a loss that is not finite stops it."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

from spikeloom.base.errors import NumericalError
from spikeloom.base.types import Batch
from spikeloom.nets.module.site import Site
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Error, Loss, Objective
from spikeloom.program.faults import not_finite
from spikeloom.program.setup import Workbench
from spikeloom.rules.base import RuleReport
from spikeloom.rules.commit import Commit

Faulty = Callable[[NumericalError], None]
Answer = TypeVar("Answer", Loss, Error)


def at_once(error: NumericalError) -> None:
    """Raise the error here and now."""
    raise error


def learn(
    bench: Workbench, batch: Batch, commit: Commit, *, faulty: Faulty = at_once
) -> RuleReport:
    """Let the rule learn from one batch, samples weighted as the stage says.

    Args:
        bench: what learns.
        batch: from what.
        commit: called by the rule when an update is due.
        faulty: called with the error of a loss that is not finite.

    Raises:
        NumericalError: a loss is not finite; nothing was updated with it.
    """
    weights = bench.class_weights
    weights = None if weights is None else weights[batch.target]
    bound = bench.head.bind(batch.target, batch.rng, weights)
    objective = _Checked(bench, batch, bound, faulty)
    with bench.fabric.autocast():
        return bench.rule.learn(bench.net, batch, objective, commit)


class _Checked:
    """An objective that reports a loss that is not finite."""

    def __init__(self, bench: Workbench, batch: Batch, inner: Objective, faulty: Faulty) -> None:
        self.bench = bench
        self.batch = batch
        self.inner = inner
        self.faulty = faulty

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.inner.sites

    def __call__(self, h: Tensor, ops: Ops = PLAIN) -> Loss:
        return self._passed(self.inner(h, ops))

    def over(self, hs: Tensor, ops: Ops = PLAIN) -> Loss:
        return self._passed(self.inner.over(hs, ops))

    def error(self, h: Tensor, ops: Ops = PLAIN) -> Error:
        return self._passed(self.inner.error(h, ops))

    def weights(self, steps: int) -> Sequence[float] | None:
        return self.inner.weights(steps)

    def _passed(self, loss: Answer) -> Answer:
        value = loss.value.item()
        if not math.isfinite(value):
            self.faulty(not_finite(self.bench, self.batch, "training", value))
        return loss
