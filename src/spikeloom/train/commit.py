"""What a rule calls when an update is due in a training run."""

from dataclasses import replace

import torch
from torch import nn

from spikeloom.base.autograd import lies_like
from spikeloom.base.errors import ConfigError, NumericalError, ShapeError, SpikeloomError
from spikeloom.base.types import Batch
from spikeloom.program.faults import first_fault
from spikeloom.program.setup import Workbench
from spikeloom.rules.commit import Change, Commit, Updates, accepted, apply, check_memory
from spikeloom.rules.memory import Leaf, Memory, Value


class TrainingCommit(Commit):
    """Check an update, average it over processes, clip, step, change, project and zero.

    Args:
        bench: net, head and rule whose parameters are trained.
        optimizer: over the same parameters.
    """

    def __init__(self, bench: Workbench, optimizer: torch.optim.Optimizer) -> None:
        self.bench = bench
        self.optimizer = optimizer
        self.named, self.every = bench.parameters(), bench.all_parameters()
        self.weight = 1.0
        self.batch: Batch | None = None
        self._fault: SpikeloomError | None = None

    @property
    def memory(self) -> Memory:
        """What the rule remembers now."""
        return self.bench.memory

    def begin(self, batch: Batch, whole: int) -> None:
        """Begin a batch: this process's share of `whole` samples."""
        self.batch, self.weight = batch, batch.size / whole

    def faulty(self, error: NumericalError) -> None:
        """Record a loss that is not finite.

        Alone, the process stops at once; in a team all stop together at the next update.
        """
        if self.bench.team.size == 1:
            raise error
        self._fault = self._fault or error

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        """Make the update.

        Raises:
            NumericalError: a value is not finite; nothing was updated.
            ShapeError: a rule of somebody's own left a gradient in another layout than its weight,
                or changes a weight by another shape.
            ConfigError: it changes what does not exist, or remembers what it did not before.
        """
        bench = self.bench
        changes: list[Change] = []
        fault = self._fault or self._misplaced()
        try:
            if updates is not None:
                changes = accepted(updates, self.every, bench.rule)
            if memory is not None:
                check_memory(memory, self.memory, bench.rule)
        except SpikeloomError as error:
            fault = fault or error
        if bench.team.size > 1:
            changes, memory = self._together(fault, changes, memory)
        elif fault is not None:
            raise fault
        grads = {name: one.grad for name, one in self.named if one.grad is not None}
        norm = nn.utils.get_total_norm(grads.values())
        if not torch.isfinite(norm):
            # a norm may overflow where no gradient has
            bad = [name for name, grad in grads.items() if not torch.isfinite(grad).all()]
            if bad:
                fault = self.batch and first_fault(bench, self.batch)
                raise NumericalError.of(
                    "training",
                    "finite gradients",
                    f"NaN or infinity for '{bad[0]}', {fault or 'first in the backward pass'}",
                    "lower the learning rate or check the input",
                )
        if bench.stage.clip is not None:
            trained = [one for _, one in self.named]
            nn.utils.clip_grads_with_norm_(trained, bench.stage.clip, norm)
        self.optimizer.step()
        if changes:
            apply(changes)
        bench.memory = bench.memory if memory is None else memory
        bench.net.project()
        bench.rule.project(bench.net, bench.memory)
        self.optimizer.zero_grad(set_to_none=True)
        torch.clear_autocast_cache()  # it may hold copies of the weights as they were

    def _together(
        self, fault: SpikeloomError | None, changes: list[Change], memory: Memory | None
    ) -> tuple[list[Change], Memory | None]:
        """Average gradients over the processes; return changes and memory that all agree on.

        Raises:
            SpikeloomError: what went wrong in one of them, in all.
            ConfigError: new values that are not the same in all of them.
        """
        team = self.bench.team
        team.agree(fault)
        team.average([one for _, one in self.named], self.weight)
        added: list[Change] = []
        for one in changes:
            value = team.first(one.value) if one.replaces else team.sum(one.value * self.weight)
            if one.replaces:
                team.agree(None if torch.equal(value, one.value) else self._apart(one.name))
            added.append(replace(one, value=value))
        return added, memory and memory.mapped(self._kept)

    def _apart(self, name: str) -> ConfigError:
        where = f"{self.bench.rule.place()}: updates of '{name}'"
        todo = "compute it from averages (batch.across), or commit a change to add"
        return ConfigError.of(where, "one new value in all processes", "several", todo)

    def _kept(self, path: str, leaf: Leaf) -> Value:
        """Return what this process keeps of a new leaf."""
        if leaf.kept != "averaged":
            return leaf.value
        value = leaf.tensor.to(self.bench.fabric.device)
        return leaf.back(self.bench.team.sum(value * self.weight))

    def _misplaced(self) -> ShapeError | None:
        """Return the error of a gradient that a fused optimizer would give to other weights."""
        for name, one in self.named:
            if one.grad is not None and not lies_like(one.grad, one):
                return ShapeError.of(
                    f"rules.{self.bench.stage.rule.name}",
                    f"the gradient of '{name}' with the strides of its weight, {one.stride()}",
                    one.grad.stride(),
                    "set gradients with spikeloom.base.autograd.add_gradient",
                )
        return None
