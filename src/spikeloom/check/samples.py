"""Checks of a batch: its size, its order and who watches change nothing."""

from typing import Any

import torch
from torch import Tensor

from spikeloom.check.outcome import CheckSkipped, require
from spikeloom.check.toy import Case, Toy

COPIES = 8
"""Times that every sample of the task stands in the large batch."""

LARGE = 1 << 14
"""Elements from which on kernels run by themselves; hidden trains of the large batch have more."""


class _Watch:
    """An observer that looks and does nothing."""

    def see(self, site: Any, x_in: Tensor | None, current: Tensor, s_out: Tensor) -> None:
        """Take note of nothing."""


def gives_the_same_for_every_sample_copied(case: Case) -> None:
    """A batch in which each sample stands several times has the batch's own gradient.

    It is large enough for compiled kernels, whatever "auto" takes for small ones.
    """
    toy = Toy(case)
    if not case.rule.facts.linear_in_batch:
        raise CheckSkipped("facts.linear_in_batch is False")
    toy.learn()
    once = toy.grads()
    toy.clear()
    toy.rewind()
    rows = toy.rows.repeat(COPIES)
    width = min(toy.net.features, 8)
    assert len(rows) * len(toy.xs) * width > LARGE or not case.rule.facts.spiking
    toy.learn(toy.batch(rows=rows))
    for name, part in toy.grads().items():
        same = torch.allclose(part, once[name], rtol=1e-9, atol=1e-12)
        require(
            same,
            f"{name}.grad of a batch of {len(rows)} samples is not that of the {len(toy.rows)} it "
            f"holds {COPIES} times each: the rule depends on the size of the batch",
        )


def does_not_depend_on_the_order_of_samples(case: Case) -> None:
    """A batch in another order has the same gradient, and logits in that order."""
    toy = Toy(case)
    report = toy.learn()
    before = toy.grads()
    toy.clear()
    toy.rewind()
    order = torch.randperm(len(toy.rows), generator=torch.Generator().manual_seed(4))
    turned = toy.learn(toy.batch(rows=order))
    require(
        torch.allclose(turned.logits, report.logits[order], rtol=1e-9, atol=1e-12),
        "logits of a batch in another order are not the same in that order",
    )
    if not case.rule.facts.linear_in_batch:
        return
    for name, part in toy.grads().items():
        same = torch.allclose(part, before[name], rtol=1e-9, atol=1e-12)
        require(same, f"{name}.grad depends on the order of the samples in a batch")


def does_not_mind_being_watched(case: Case) -> None:
    """Gradients are the same to rounding where an observer looks at every firing."""
    toy = Toy(case)
    toy.learn()
    alone = toy.grads()
    toy.clear()
    toy.rewind()
    with toy.net.observe(_Watch()):
        toy.learn()
    for name, part in toy.grads().items():
        same = torch.allclose(part, alone[name], rtol=1e-9, atol=1e-12)
        require(same, f"{name}.grad differs where an observer looks on")
