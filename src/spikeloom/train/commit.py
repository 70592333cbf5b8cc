"""What a rule calls when an update is due."""

import torch
from torch import nn

from spikeloom.base.autograd import lies_like
from spikeloom.base.errors import NumericalError, ShapeError, SpikeloomError
from spikeloom.base.types import Batch
from spikeloom.program.faults import first_fault
from spikeloom.program.setup import Workbench


class Commit:
    """Check the gradients, average them over processes, clip, step, project and zero.

    Args:
        bench: whose parameters are trained.
        optimizer: over the same parameters.
    """

    def __init__(self, bench: Workbench, optimizer: torch.optim.Optimizer) -> None:
        self.bench = bench
        self.optimizer = optimizer
        self.named = bench.parameters()
        self.weight = 1.0
        self.batch: Batch | None = None
        self._fault: SpikeloomError | None = None

    def begin(self, batch: Batch, whole: int) -> None:
        """Begin a batch: this process's share of `whole` samples."""
        self.batch, self.weight = batch, batch.size / whole

    def faulty(self, error: NumericalError) -> None:
        """Take note of a loss that is not finite.

        Alone, the process stops at once; in a team all stop together at the next update.
        """
        if self.bench.team.size == 1:
            raise error
        self._fault = self._fault or error

    def __call__(self) -> None:
        """Make the update.

        Raises:
            NumericalError: a gradient is not finite; nothing was updated.
            ShapeError: a rule of somebody's own left a gradient in another layout than its weight.
        """
        self.bench.team.agree(self._fault or self._misplaced())
        self.bench.team.average([one for _, one in self.named], self.weight)
        grads = {name: one.grad for name, one in self.named if one.grad is not None}
        norm = nn.utils.get_total_norm(grads.values())
        if not torch.isfinite(norm):
            # a norm may overflow where no gradient has
            bad = [name for name, grad in grads.items() if not torch.isfinite(grad).all()]
            if bad:
                fault = self.batch and first_fault(self.bench, self.batch)
                raise NumericalError(
                    f"training: expected finite gradients, got NaN or infinity for '{bad[0]}', "
                    f"{fault or 'first in the backward pass'}; lower the learning rate or check "
                    "the input."
                )
        if self.bench.stage.clip is not None:
            trained = [one for _, one in self.named]
            nn.utils.clip_grads_with_norm_(trained, self.bench.stage.clip, norm)
        self.optimizer.step()
        self.bench.net.project()
        self.bench.rule.project()
        self.optimizer.zero_grad(set_to_none=True)
        torch.clear_autocast_cache()  # it may hold copies of the weights as they were

    def _misplaced(self) -> ShapeError | None:
        """Return the error of a gradient that a fused optimizer would give to other weights."""
        for name, one in self.named:
            if one.grad is not None and not lies_like(one.grad, one):
                return ShapeError(
                    f"rules.{self.bench.stage.rule.name}: expected the gradient of '{name}' with "
                    f"the strides of its weight, {one.stride()}, got {one.grad.stride()}; set "
                    "gradients with spikeloom.base.autograd.add_gradient."
                )
        return None
