"""Several processes that train one net: each takes its share of every batch."""

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spikeloom.base import errors
from spikeloom.base.autograd import add_gradient
from spikeloom.base.errors import SpikeloomError
from spikeloom.program.fabric import Place

ROWS = torch.contiguous_format
"""How tensors lie while they travel."""


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
        raise ProcessLost.of(
            "processes", "all of them to answer", "no answer from one", "go on with --resume"
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

    def sums(self, *values: float) -> list[float]:
        """Add numbers over the processes, in float64."""
        if self.size == 1:
            return list(values)
        return add_up(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    def total(self, value: float) -> float:
        """Add a number over the processes."""
        return self.sums(value)[0]

    def highest(self, value: float) -> float:
        """Return the largest of the processes' numbers."""
        return max(self.gather(value))

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in any process."""
        return [count > 0 for count in self.sums(*map(float, flags))]

    def agree(self, error: SpikeloomError | None) -> None:
        """Raise in all processes what went wrong in one.

        Raises:
            SpikeloomError: the error of the first process that has one.
        """
        if self.any(error is not None)[0]:
            told = self.gather(None if error is None else [type(error).__name__, error.parts()])
            name, parts = next(entry for entry in told if entry is not None)
            raise getattr(errors, name, SpikeloomError)(**parts)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, by rank; values are what JSON can hold."""
        if self.size == 1:
            return [value]
        own = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=self.device)
        sizes = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        sizes[self.rank] = len(own)
        add_up(sizes)
        return [json.loads(bytes(row.tolist())) for row in self._rows(own, sizes.tolist())]

    def wait(self) -> None:
        """Wait for all processes."""
        self.sums(0.0)

    def sum(self, x: Tensor) -> Tensor:
        """Add tensors of one shape and type over the processes; the result is a new tensor."""
        return x if self.size == 1 else add_up(x.detach().clone(memory_format=ROWS))

    def mean(self, x: Tensor, samples: int) -> Tensor:
        """Return the mean of tensors over the processes, weighted by the samples of each."""
        return x if self.size == 1 else self.sum(x * (samples / self.total(samples)))

    def first(self, x: Tensor) -> Tensor:
        """Return the first process's tensor, of one shape and type in all."""
        return self.sum(x if self.rank == 0 else torch.zeros_like(x))

    def collect(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return every process's tensors, by rank and to the bit; shapes may differ."""
        if self.size == 1:
            return [dict(tensors)]
        found: list[dict[str, Tensor]] = [{} for _ in range(self.size)]
        for name, x in tensors.items():
            own = x.detach().contiguous().view(-1).view(torch.uint8)
            shapes = self.gather(list(x.shape))
            rows = self._rows(own, [prod(shape) * x.element_size() for shape in shapes])
            for tables, row, shape in zip(found, rows, shapes, strict=True):
                tables[name] = row.clone().view(x.dtype).view(shape)
        return found

    def _rows(self, own: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Return every process's bytes, by rank."""
        table = own.new_zeros(self.size, max(sizes))
        table[self.rank, : len(own)] = own
        add_up(table)  # every row is nonzero in one process alone
        return [row[:size] for row, size in zip(table, sizes, strict=True)]

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
