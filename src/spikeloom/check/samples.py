"""Checks of a batch: its size, its order and who watches change nothing."""

from typing import Any

import torch
from torch import Tensor

from spikeloom.check.outcome import CheckSkipped, agree
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
    """A batch in which each sample stands several times changes the same as the batch itself.

    It is large enough for compiled kernels, whatever "auto" takes for small ones.
    """
    if not case.rule.facts.linear_in_batch:
        raise CheckSkipped("facts.linear_in_batch is False")
    toy = Toy(case)
    expected = toy.update()
    expected["the logits"] = expected["the logits"].repeat(COPIES, 1)
    toy.rewind()
    rows = toy.rows.repeat(COPIES)
    width = min(toy.net.features, 8)
    assert len(rows) * len(toy.xs) * width > LARGE or not case.rule.facts.spiking
    todo = "divide by the size of the batch once, and ask for it nowhere else"
    agree(toy.update(toy.batch(rows=rows)), expected, "the same for any size of the batch", todo)


def does_not_depend_on_the_order_of_samples(case: Case) -> None:
    """A batch in another order changes the same, and logits in that order."""
    toy = Toy(case)
    expected = toy.update()
    toy.rewind()
    order = torch.randperm(len(toy.rows), generator=torch.Generator().manual_seed(4))
    found = toy.update(toy.batch(rows=order))
    expected["the logits"] = expected["the logits"][order]
    agree(found, expected, "the same in any order of the samples", "mix no samples")


def does_not_mind_being_watched(case: Case) -> None:
    """Changes are the same to rounding where an observer looks at every firing."""
    toy = Toy(case)
    expected = toy.update()
    toy.rewind()
    with toy.net.observe(_Watch()):
        found = toy.update()
    agree(found, expected, "the same under an observer", "ask the net for none")
