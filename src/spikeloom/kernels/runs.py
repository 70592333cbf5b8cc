"""Calls of compiled kernels on tensors: who owns each buffer, and who may write it until when."""

# buffer                owner           lifetime and writers
# inputs (`Given`)      caller          read only, except currents that are marked as spent
# outputs, last states  caller          allocated by `Run.forward`; no kernel writes them again
# saved currents        autograd        until the backward pass, which may write their gradient over
#                                       them if they are spent and the graph is not kept
# `Pivot.value`         the stepper     one buffer for all steps; each step overwrites it, unless a
#                                       backward pass still has to read it
# tiles, sums           one call        allocated for it, freed when it returns
# scratch               piece of work   allocated inside the kernel

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import lcm
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from spikeloom.base.torch_private import graph_is_kept
from spikeloom.kernels.layout import Layout
from spikeloom.kernels.threads import Shares, run_body, shares

# A thread is worth waking for about 30,000 elements times steps, some tens of microseconds.
_GRAIN = 1 << 15
# The states of one block over all T steps: 8192 float32 are 32 KiB, the size of a level-1 cache.
_SCRATCH = 1 << 13
# No block is longer, however short the train: several arrays share the cache.
_WIDEST = 1024
# Elements. Blocks are multiples of it, so they begin at cache lines and fill whole vectors.
_LINE = 64


class TrainOptions(NamedTuple):
    """What the caller wants from a train, and what the kernels may overwrite.

    Args:
        pool: side of a non-overlapping average pool applied to the outputs; 1 for none.
        final: whether the states after the last step are returned.
        local: the input is a single step whose state passes no gradient to the next step.
        spent: nobody else reads the currents, so they may be overwritten: by their gradient in the
            backward pass of a train, by the outputs in the forward pass of a step.
        rate: given if the last three thetas are a batch norm by the statistics of these very
            currents, started without a state (see `kernels.functions.TrainFunction`).
    """

    pool: int = 1
    final: bool = True
    local: bool = False
    spent: bool = False
    rate: Tensor | None = None


OPTIONS = TrainOptions()


class Given(NamedTuple):
    """Inputs of a train. They belong to the caller; only spent currents are ever written.

    Args:
        currents: [T, B, ...], or [1, B, ...] if they are the same at every step.
        thetas: trained quantities.
        states: before the first step; None is 0.
    """

    currents: Tensor
    thetas: Sequence[Tensor]
    states: Sequence[Tensor | None]


class Kernel(NamedTuple):
    """A compiled function, and the constants it reads when it runs (float64)."""

    body: Any
    numbers: Tensor


class Passes(NamedTuple):
    """The kernels of the forward and the backward pass; `backward` is None without gradients.

    With `sums` the backward pass runs two kernels: `sums` computes the gradients of the thetas,
    then `backward` computes all other gradients.
    """

    forward: Kernel
    backward: Kernel | None
    sums: Kernel | None = None


class Reader:
    """Tells the next step whether the backward pass of this one still has to read the pivot."""

    # A class, not a list or tuple: `neurons.base.map_state` copies those, and the copy would not
    # see `waits` change.
    def __init__(self, waits: bool) -> None:
        self.waits = waits


class Pivot(NamedTuple):
    """The state between two steps that pass no gradient on, kept as one value.

    The next step overwrites `value`, unless the backward pass of this step still has to read it.

    Args:
        value: potential (or other value) that output and next state follow from, [B, ...].
        states: one placeholder for each state tensor of the unit.
        reader: the backward pass that may still read `value`.
    """

    value: Tensor
    states: tuple[None, ...]
    reader: Reader


@dataclass
class Run:
    """Kernels for trains of one layout and length; shared by forward and backward passes.

    Args:
        passes: the kernels.
        layout: memory layout of one step.
        steps: T.
        pool: side of the average pool applied to the outputs.
        over: the backward pass writes the gradient of the currents over the currents.
        period: number of elements after which the thetas repeat in memory; None if they do not.
    """

    passes: Passes
    layout: Layout
    steps: int
    pool: int
    over: bool = False
    period: int | None = None

    @cached_property
    def outs(self) -> Layout:
        """Memory layout of one step of outputs."""
        return self.layout.pooled(self.pool)

    @cached_property
    def geometry(self) -> tuple[int, int]:
        """Width and inner size of the pool (see `kernels.pooling`); zeros without a pool."""
        return self.layout.rows() if self.pool > 1 else (0, 0)

    @cached_property
    def quantum(self) -> int:
        """Pieces of work begin at multiples of it: cache lines, or rows of windows of a pool."""
        width, inner = self.geometry
        quantum = _LINE if self.pool == 1 else self.pool * width * inner
        if self.period is None:
            return quantum
        # A kernel reads its tile of thetas from the beginning, so a piece must begin where a
        # period begins. If cache lines and periods do not fit into one block together, whole
        # periods are needed for right results, whole cache lines for speed alone.
        both = lcm(quantum, self.period)
        return both if self.pool > 1 or both <= self._wanted else self.period

    @cached_property
    def block(self) -> int:
        """Number of elements that a kernel takes through all steps at once."""
        return -(-self._wanted // self.quantum) * self.quantum

    @cached_property
    def _wanted(self) -> int:
        """Largest block whose states of all T steps fit into the level-1 cache."""
        return max(_LINE, min(_WIDEST, _SCRATCH // self.steps) // _LINE * _LINE)

    def call(self, kernel: Kernel | None, *tensors: Tensor | None, stride: int = 0) -> None:
        """Run a kernel on its arrays (None for absent ones); `stride`: of the output gradient."""
        assert kernel is not None
        # Kernels get addresses, which keep nothing alive. That is safe here: `tensors` and `kernel`
        # hold the memory until the call returns, and it returns after the last thread has ended.
        given = kernel.numbers.data_ptr()
        numbers = [given, self.steps, self.block, *self.geometry, stride]
        numbers += [0 if one is None else one.data_ptr() for one in tensors]
        run_body(kernel.body, numbers, self.work())

    def work(self) -> Shares:
        """Return how the elements of a step are divided among threads."""
        grain = max(1, _GRAIN // self.steps)
        return shares(self.layout.count, grain=grain, multiple=self.quantum)

    def fitted(self, steps: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return tensors of one step in the layout of the run, copied only if they differ."""
        return [None if one is None else self.layout.fitted(one) for one in steps]

    def theta(self, thetas: Sequence[Tensor]) -> list[Tensor | None]:
        """Return the thetas as a kernel reads them: tiles of one block, or whole steps."""
        if self.period is None:
            return self.fitted(thetas)
        return [self.layout.tile(one, self.period, self.block) for one in thetas]

    def sums(self, thetas: Sequence[Tensor]) -> list[Tensor]:
        """Allocate the buffers into which a kernel sums the gradients of the thetas."""
        if self.period is None:
            return [self.layout.empty(one.dtype, one.device) for one in thetas]
        # One tile per piece of work: no two threads write the same memory, and the order of the
        # sum does not depend on which thread was first.
        return [one.new_empty(self.work().pieces, self.block) for one in thetas]

    def summed(self, sums: Sequence[Tensor], thetas: Sequence[Tensor]) -> list[Tensor]:
        """Reduce these buffers to gradients in the shapes of the thetas."""
        pairs = zip(sums, thetas, strict=True)
        if self.period is None:
            return [one.sum_to_size(theta.shape) for one, theta in pairs]
        period = self.period
        return [self.layout.untile(one, period, theta.shape) for one, theta in pairs]

    def fresh(self, like: Sequence[Any], currents: Tensor) -> list[Tensor]:
        """Allocate one step of state for each entry of `like`."""
        # Never in half precision: rounding errors of a state add up over the steps.
        dtype = torch.float64 if currents.dtype == torch.float64 else torch.float32
        return [self.layout.empty(dtype, currents.device) for _ in like]

    def out_like(self, currents: Tensor) -> Tensor:
        """Allocate a train of outputs in the type of the currents."""
        return self.outs.empty(currents.dtype, currents.device, self.steps)

    def forward(self, given: Given, final: bool) -> tuple[Tensor, list[Tensor]]:
        """Run a train and return outputs and last states; see `Scan.run`."""
        currents, thetas, states = given
        # Outputs never overwrite the currents, not even spent ones: the backward pass computes the
        # states again from the currents, since no state is stored.
        out = self.out_like(currents)
        last = self.fresh(states, currents) if final else []
        read = (*self.theta(thetas), *self.fitted(states))
        currents = self.layout.fitted(currents, train=True)
        self.call(self.passes.forward, currents, out, *read, *(last or none(states)))
        return out, last

    def backward(
        self,
        given: Given,
        grad: Tensor,
        finals: Sequence[Tensor | None],
        wants_states: bool,
        rate: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the gradients of currents, thetas and first states.

        Args:
            given: inputs of the forward pass.
            grad: gradient of the outputs.
            finals: gradients of the last states; None is 0.
            wants_states: whether the first states need gradients.
            rate: see `TrainFunction`.
        """
        currents, thetas, states = given
        currents = self.layout.fitted(currents, train=True)
        if self.over:
            # The only place where a saved train is overwritten. It was marked as spent, and without
            # a kept graph no second backward pass will read it; with one, a copy is overwritten.
            result = currents = currents.clone() if graph_is_kept() else _taken(currents)
        else:
            result = self.layout.empty(currents.dtype, currents.device, currents.shape[0])
        # A mean over time sends the same gradient to every step, as an expanded view. It is not
        # written out T times: the kernel reads its one step with a stride of 0.
        stays = grad.stride(0) == 0
        grad = self.outs.fitted(grad[:1] if stays else grad, train=True)
        sums: Sequence[Tensor] = self.sums(thetas)
        state_grads = self.fresh(states, grad) if wants_states else []
        read = (*self.theta(thetas), *self.fitted(states))
        stride, last = 0 if stays else self.outs.count, self.fitted(finals)
        rest = (*(state_grads or none(states)), *last)
        if rate is None:
            self.call(
                self.passes.backward, currents, grad, result, *read, *sums, *rest, stride=stride
            )
            return result, self.summed(sums, thetas), state_grads
        # Both kernels read the currents, so the first must not overwrite them: it gets no buffer
        # for their gradient, and only the second writes it.
        first = (*read, *sums, *none(states), *last)
        self.call(self.passes.sums, currents, grad, None, *first, stride=stride)
        theta_grads = self.summed(sums, thetas)
        share = self.theta(_share_of_statistics(currents, rate, thetas, theta_grads))
        self.call(self.passes.backward, currents, grad, result, *read, *share, *rest, stride=stride)
        return result, theta_grads, state_grads

    def step(
        self,
        current: Tensor,
        thetas: Sequence[Tensor],
        before: Sequence[Tensor | None] | Pivot,
        spent: bool,
    ) -> tuple[Tensor, Tensor]:
        """Run one step and return its output and its pivot; see `Scan.run_step`."""
        current = self.layout.fitted(current, train=True)
        if self.pool > 1:
            out = self.out_like(current)
        else:
            # The backward pass of a step reads the pivot, never the current, so the output may
            # overwrite a spent current.
            out = current = _taken(current) if spent else current.clone()
        if isinstance(before, Pivot):
            (old,) = self.fitted([before.value])
            states = none(before.states)
            assert old is not None
            # All steps share one pivot buffer. If the backward pass of the last step still has to
            # read it, this step writes into a copy.
            value = old.clone() if before.reader.waits else old
            if value is old and not before.value.is_inference():
                increment_version(before.value)  # torch raises an error if somebody reads it later
        else:
            # The states before a first step belong to the caller: the pivot gets a new buffer.
            (value,) = self.fresh([None], current)
            states, old = self.fitted(before), None
        assert value is not None
        given = self.theta(thetas)
        self.call(self.passes.forward, current, out, *given, *states, old, value)
        return out, value

    def step_back(
        self, pivot: Tensor, thetas: Sequence[Tensor], grad: Tensor, spent: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the gradients of current and thetas of a step; a spent `grad` is overwritten."""
        fitted = self.outs.fitted(grad, train=True)
        if self.pool > 1:
            grad, result = fitted, self.layout.empty(grad.dtype, grad.device, 1)
        else:
            spent |= fitted is not grad  # a copy that `fitted` made belongs to this call
            grad = result = _taken(fitted) if spent else fitted.clone()
        theta_grads = self.sums(thetas)
        given = self.theta(thetas)
        self.call(self.passes.backward, grad, result, pivot, *given, *theta_grads)
        return result, self.summed(theta_grads, thetas)


def _share_of_statistics(
    currents: Tensor, rate: Tensor, thetas: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """Return slope and offset of the gradient through mean and variance; see `TrainFunction`."""
    scale, of_scale, of_shift = thetas[-2], grads[-2], grads[-1]
    count = currents.numel() // rate.numel()
    return [-scale * rate.square() * of_scale / count, -scale * of_shift / count]


def none(states: Sequence[Any]) -> list[None]:
    """Return one None for each state."""
    return [None] * len(states)


def _taken(x: Tensor) -> Tensor:
    """Return a new tensor on the memory of `x`, which its last reader gives up.

    The new tensor has no graph. The version counter of the memory moves on: if autograd saved `x`
    after all, it raises an error instead of computing with overwritten values.
    """
    if not x.is_inference():
        increment_version(x)
    return x.new_empty(0).set_(x)  # pyright: ignore[reportArgumentType] - a tensor will do
