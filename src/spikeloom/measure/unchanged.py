"""Measuring a workbench without leaving a trace in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from spikeloom.program.joint_norm import JointNorm
from spikeloom.program.learn import learn
from spikeloom.program.setup import Workbench, fewest_samples, snapshot


@contextmanager
def unchanged(bench: Workbench) -> Iterator[None]:
    """Put weights, buffers, modes, gradients and the rule's memory back afterwards.

    What is measured concerns this process alone: norms do not wait for the others.
    """
    modules, rule = bench.modules(), bench.rule
    weights = snapshot(modules)
    memory = {name: value.detach().clone() for name, value in rule.state_dict().items()}
    modes = [(one, one.training) for one in modules.modules()]
    grads = [(one, one.grad) for one in (*modules.parameters(), *rule.parameters())]
    joint = [one for one in modules.modules() if isinstance(one, JointNorm)]
    for one, _ in grads:
        one.grad = None
    for one in joint:
        one.joint = False
    try:
        yield
    finally:
        modules.load_state_dict(weights)
        rule.load_state_dict(memory)
        for one, mode in modes:
            one.training = mode
        for one in joint:
            one.joint = True
        for one, grad in grads:
            one.grad = grad


def training_size(bench: Workbench) -> int:
    """Return the samples of a process's share of a batch, as far as the training part has them.

    A share of one sample has no statistics by itself where it is measured alone; it counts as two.
    """
    whole = min(bench.stage.batch, len(bench.splits.train))
    return max(-(-whole // bench.team.size), fewest_samples(bench))


def one_call(
    bench: Workbench, size: int, *, steps: int | None = None
) -> tuple[Callable[[], None], int]:
    """Return one call of the rule on the first `size` training samples, and their bytes encoded.

    The call updates nothing and leaves no gradients; wrap it in `unchanged`, since norms move
    their statistics and rules their memory. It has run once, so that what is made once is there.

    Args:
        bench: what learns.
        size: number of samples.
        steps: only so many of the first time steps.
    """
    bench.set_training()
    batch = bench.batch(bench.splits.train, torch.arange(size), epoch=0, part="train")
    batch = replace(batch, xs=batch.xs[:steps])
    trained = [one for _, one in bench.parameters()]

    def clear() -> None:
        for one in trained:
            one.grad = None

    def once() -> None:
        learn(bench, batch, clear)
        clear()

    once()
    return once, batch.xs.untyped_storage().nbytes()
