"""One batch through a rule, stopped where the loss is not finite."""

from collections.abc import Callable, Sequence

from torch import Tensor

from spikeloom.base.errors import NumericalError
from spikeloom.base.types import Batch
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.readout import Loss, Objective
from spikeloom.program.faults import check_loss
from spikeloom.program.setup import Workbench
from spikeloom.rules.base import RuleReport

Faulty = Callable[[NumericalError], None]


def at_once(error: NumericalError) -> None:
    """Raise the error here and now."""
    raise error


def learn(
    bench: Workbench, batch: Batch, commit: Callable[[], None], *, faulty: Faulty = at_once
) -> RuleReport:
    """Let the rule learn from one batch, samples weighted as the stage says.

    Args:
        bench: what learns.
        batch: from what.
        commit: called by the rule when an update is due.
        faulty: told of a loss that is not finite.

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
    """An objective that tells of a loss that is not finite."""

    def __init__(self, bench: Workbench, batch: Batch, inner: Objective, faulty: Faulty) -> None:
        self.bench = bench
        self.batch = batch
        self.inner = inner
        self.faulty = faulty

    def __call__(self, h: Tensor, ops: Ops = PLAIN) -> Loss:
        return self._passed(self.inner(h, ops))

    def over(self, hs: Tensor, ops: Ops = PLAIN) -> Loss:
        return self._passed(self.inner.over(hs, ops))

    def weights(self, steps: int) -> Sequence[float] | None:
        return self.inner.weights(steps)

    def _passed(self, loss: Loss) -> Loss:
        try:
            check_loss(self.bench, self.batch, "training", loss.value.item())
        except NumericalError as error:
            self.faulty(error)
        return loss
