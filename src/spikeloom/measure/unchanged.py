"""Measuring a workbench without changing it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from spikeloom.base.types import Batch
from spikeloom.meters.base import modes_kept
from spikeloom.program.batching import fewest_samples
from spikeloom.program.joint_norm import JointNorm
from spikeloom.program.learn import learn
from spikeloom.program.setup import Workbench, snapshot
from spikeloom.rules.commit import Commit, Updates, accepted, check_memory
from spikeloom.rules.memory import Memory


@contextmanager
def unchanged(bench: Workbench) -> Iterator[None]:
    """Put weights, buffers, modes and gradients back afterwards.

    What is measured concerns this process alone: norms do not wait for the others.
    """
    modules = bench.modules()
    weights = snapshot(modules)
    grads = [(weight, weight.grad) for _, weight in bench.all_parameters()]
    norms = [norm for norm in modules.modules() if isinstance(norm, JointNorm)]
    for weight, _ in grads:
        weight.grad = None
    for norm in norms:
        norm.joint = False
    try:
        with modes_kept(modules):
            yield
    finally:
        modules.load_state_dict(weights)
        for norm in norms:
            norm.joint = True
        for weight, grad in grads:
            weight.grad = grad


def training_size(bench: Workbench) -> int:
    """Return the samples of a process's share of a batch, as far as the training part has them.

    A share of one sample has no statistics by itself where it is measured alone; it counts as two.
    """
    whole = min(bench.stage.batch, len(bench.splits.train))
    return max(-(-whole // bench.team.size), fewest_samples(bench))


def one_call(
    bench: Workbench, size: int, *, steps: int | None = None
) -> tuple[Callable[..., None], int]:
    """Return one call of the rule on the first `size` training samples, and their bytes encoded.

    It takes another batch, where it is given one.

    The call updates nothing and leaves no gradients; wrap it in `unchanged`, since norms move
    their statistics. It has run once, so that what is made once is there.

    Args:
        bench: what learns.
        size: number of samples.
        steps: only so many of the first time steps.
    """
    bench.set_training()
    batch = bench.batch(bench.splits.train, torch.arange(size), epoch=0, part="train")
    batch = replace(batch, xs=batch.xs[:steps])

    def once(other: Batch = batch) -> None:
        commit = TrialCommit(bench)  # with the memory of before
        learn(bench, other, commit)
        commit()

    once()
    return once, batch.xs.untyped_storage().nbytes()


class TrialCommit(Commit):
    """The commit of a call that is measured: it drops gradients and changes, and goes on.

    Args:
        bench: left as it is.
    """

    def __init__(self, bench: Workbench) -> None:
        self.rule, self.named = bench.rule, bench.all_parameters()
        self._memory = bench.memory

    @property
    def memory(self) -> Memory:
        """What the rule remembers within the call."""
        return self._memory

    def __call__(self, *, updates: Updates | None = None, memory: Memory | None = None) -> None:
        """Forget the update but for the memory; refuse what training would."""
        accepted(updates, self.named, self.rule)
        check_memory(memory, self._memory, self.rule)
        self._memory = self._memory if memory is None else memory
        for _, one in self.named:
            one.grad = None
