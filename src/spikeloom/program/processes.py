"""Several processes that train one net: each takes its share of every batch."""

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spikeloom.base import errors
from spikeloom.base.autograd import add_gradient
from spikeloom.base.errors import SpikeloomError
from spikeloom.program.fabric import Place


class ProcessLost(SpikeloomError):
    """Another process of the run is gone."""


def add_up(x: Tensor) -> Tensor:
    """Add a tensor over all processes, in place.

    Raises:
        ProcessLost: one of them is gone.
    """
    try:
        dist.all_reduce(x)
    except RuntimeError as error:
        raise ProcessLost(
            "processes: expected all of them to answer, lost one; go on with --resume."
        ) from error
    return x


class Team:
    r"""The processes of a run; one process is a team of one.

    A batch of N samples is cut into shares of :math:`n_r`. Each process computes the mean over its
    share, and

    .. math:: g = \sum_r \frac{n_r}{N} g_r

    is the update of the whole batch for every rule that is linear in the batch.

    Args:
        fabric: launched.
    """

    def __init__(self, fabric: Place) -> None:
        self.rank: int = fabric.global_rank
        self.size: int = fabric.world_size
        self.device: torch.device = fabric.device

    def share(self, index: Tensor) -> Tensor:
        """Return this process's part of a batch's rows; parts are alike within one sample."""
        return torch.tensor_split(index, self.size)[self.rank] if self.size > 1 else index

    def sum(self, *values: float) -> list[float]:
        """Add numbers over the processes, in float64."""
        if self.size == 1:
            return list(values)
        return add_up(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    def total(self, value: float) -> float:
        """Add a number over the processes."""
        return self.sum(value)[0]

    def highest(self, value: float) -> float:
        """Return the largest of the processes' numbers."""
        return max(self.gather(value))

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in any process."""
        return [count > 0 for count in self.sum(*map(float, flags))]

    def agree(self, error: SpikeloomError | None) -> None:
        """Raise in all processes what went wrong in one.

        Raises:
            SpikeloomError: the error of the first process that has one.
        """
        if self.any(error is not None)[0]:
            told = self.gather(None if error is None else [type(error).__name__, str(error)])
            name, text = next(one for one in told if one is not None)
            raise getattr(errors, name, SpikeloomError)(text)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, by rank; values are what JSON can hold."""
        if self.size == 1:
            return [value]
        own = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=self.device)
        sizes = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        sizes[self.rank] = len(own)
        add_up(sizes)
        table = own.new_zeros(self.size, int(sizes.max()))
        table[self.rank, : len(own)] = own
        add_up(table)  # every row is nonzero in one process alone
        rows = zip(table.cpu(), sizes.tolist(), strict=True)
        return [json.loads(bytes(row[:size].tolist())) for row, size in rows]

    def wait(self) -> None:
        """Wait for all processes."""
        self.sum(0.0)

    def average(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        """Replace every gradient by the weighted sum over the processes.

        A parameter without gradient in all processes keeps none.

        Args:
            parameters: the same ones in the same order in every process.
            weight: of this process, n_r / N.
        """
        if self.size == 1:
            return
        for group in _by_type(parameters).values():
            there = [float(one.grad is not None) for one in group]
            parts = [_gradient(one).reshape(-1) * weight for one in group]
            flat = add_up(torch.cat([group[0].new_tensor(there), *parts]))
            there, flat = flat[: len(group)], flat[len(group) :]
            parts = flat.split([one.numel() for one in group])
            for one, seen, part in zip(group, there.tolist(), parts, strict=True):
                one.grad = None
                if seen:  # a tensor of its own: together they would all stay as long as one does
                    add_gradient(one, part.view_as(one).clone())


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _by_type(parameters: Sequence[nn.Parameter]) -> dict[torch.dtype, list[nn.Parameter]]:
    groups: dict[torch.dtype, list[nn.Parameter]] = {}
    for one in parameters:
        groups.setdefault(one.dtype, []).append(one)
    return groups
