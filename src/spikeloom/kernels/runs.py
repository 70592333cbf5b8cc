"""Runs of a kernel on tensors: who owns their memory, and what may be written over."""

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

_GRAIN = 1 << 15  # elements times steps that are worth a thread
_SCRATCH = 1 << 13  # elements times steps of one block's states: they stay in the near cache
_WIDEST = 1024
_LINE = 64  # elements: whole cache lines and vectors


class TrainOptions(NamedTuple):
    """What is wanted of a train, and what may be done on the way.

    Args:
        pool: side of an average pool behind the outputs, without overlap; 1 for none.
        final: whether the states after the last step are wanted.
        local: one step alone, whose state passes no gradient on.
        spent: nobody else reads the currents. Of a whole train their gradient may take their place
            on the way back, of a step the outputs at once.
        rate: says that the last three thetas are a norm by statistics of these very currents, from
            rest (`kernels.functions.TrainFunction`).
    """

    pool: int = 1
    final: bool = True
    local: bool = False
    spent: bool = False
    rate: Tensor | None = None


OPTIONS = TrainOptions()


class Given(NamedTuple):
    """What a train reads. It is the caller's: nothing of it is written to but spent currents.

    Args:
        currents: [T, B, ...], or [1, B, ...] that stay.
        thetas: trained quantities.
        states: before the first step; None is 0.
    """

    currents: Tensor
    thetas: Sequence[Tensor]
    states: Sequence[Tensor | None]


class Kernel(NamedTuple):
    """A compiled body, and the numbers it is given."""

    body: Any
    numbers: Tensor


class Passes(NamedTuple):
    """The kernels of both passes; of the forward pass alone where no gradient is wanted.

    With `sums` the backward pass goes in two parts: sums of gradients, then all the rest.
    """

    forward: Kernel
    backward: Kernel | None
    sums: Kernel | None = None


class Reader:
    """A backward pass that is to read a value, or has read it.

    Not a list or tuple: what maps the tensors of a state (`neurons.base.map_state`) copies those,
    and the copy would never hear that the pass is over.
    """

    def __init__(self, waits: bool) -> None:
        self.waits = waits


class Pivot(NamedTuple):
    """A state as the one value it follows from, where no gradient passes from step to step.

    The next step writes its own value in the same place, once the backward pass of this one is
    over, or where there is to be none.

    Args:
        value: [B, ...].
        states: placeholders for the state's tensors.
        reader: the backward pass that may read the value.
    """

    value: Tensor
    states: tuple[None, ...]
    reader: Reader


@dataclass
class Run:
    """Kernels on one layout: what does not change between the two passes.

    Args:
        passes: the kernels.
        layout: of a step.
        steps: T.
        pool: side of the average pool behind the outputs.
        over: whether the gradient of currents takes their place.
        period: after how many elements trained quantities repeat; None where they do not.
    """

    passes: Passes
    layout: Layout
    steps: int
    pool: int
    over: bool = False
    period: int | None = None

    @cached_property
    def outs(self) -> Layout:
        """How an output lies in memory."""
        return self.layout.pooled(self.pool)

    @cached_property
    def geometry(self) -> tuple[int, int]:
        """Width and inner of the pool (`kernels.pooling`)."""
        return self.layout.rows() if self.pool > 1 else (0, 0)

    @cached_property
    def quantum(self) -> int:
        """Pieces of work begin at multiples of this: whole rows of windows where it pools."""
        width, inner = self.geometry
        quantum = _LINE if self.pool == 1 else self.pool * width * inner
        if self.period is None:
            return quantum
        # A piece that began inside a period would read its tile from the wrong end. Where both fit
        # into no block, whole periods matter more than whole cache lines.
        both = lcm(quantum, self.period)
        return both if self.pool > 1 or both <= self._wanted else self.period

    @cached_property
    def block(self) -> int:
        """Elements that a kernel takes at a time."""
        return -(-self._wanted // self.quantum) * self.quantum

    @cached_property
    def _wanted(self) -> int:
        """Elements whose states of all steps lie in the near cache."""
        return max(_LINE, min(_WIDEST, _SCRATCH // self.steps) // _LINE * _LINE)

    def call(self, kernel: Kernel | None, *tensors: Tensor | None, stride: int = 0) -> None:
        """Run a kernel; what is None is not wanted, or not given; `stride` is the gradient's."""
        assert kernel is not None
        # Addresses own nothing: `tensors` and `kernel` keep what they point to alive until the body
        # has returned, and it returns when all threads are done.
        given = kernel.numbers.data_ptr()
        numbers = [given, self.steps, self.block, *self.geometry, stride]
        numbers += [0 if one is None else one.data_ptr() for one in tensors]
        run_body(kernel.body, numbers, self.work())

    def work(self) -> Shares:
        """Return how the work is cut."""
        grain = max(1, _GRAIN // self.steps)
        return shares(self.layout.count, grain=grain, multiple=self.quantum)

    def fitted(self, steps: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return steps as they lie in the layout."""
        return [None if one is None else self.layout.fitted(one) for one in steps]

    def theta(self, thetas: Sequence[Tensor]) -> list[Tensor | None]:
        """Return trained quantities as a kernel reads them."""
        if self.period is None:
            return self.fitted(thetas)
        return [self.layout.tile(one, self.period, self.block) for one in thetas]

    def sums(self, thetas: Sequence[Tensor]) -> list[Tensor]:
        """Return memory for sums of their gradients."""
        if self.period is None:
            return [self.layout.empty(one.dtype, one.device) for one in thetas]
        # a tile for each piece: threads never add into the same memory, and the order of the sum
        # does not depend on which thread was first
        return [one.new_empty(self.work().pieces, self.block) for one in thetas]

    def summed(self, sums: Sequence[Tensor], thetas: Sequence[Tensor]) -> list[Tensor]:
        """Return these sums in the shapes of what they belong to."""
        pairs = zip(sums, thetas, strict=True)
        if self.period is None:
            return [one.sum_to_size(theta.shape) for one, theta in pairs]
        period = self.period
        return [self.layout.untile(one, period, theta.shape) for one, theta in pairs]

    def fresh(self, like: Sequence[Any], currents: Tensor) -> list[Tensor]:
        """Return as many new steps of a state."""
        # never in half precision: what a state loses in rounding it loses at every step
        dtype = torch.float64 if currents.dtype == torch.float64 else torch.float32
        return [self.layout.empty(dtype, currents.device) for _ in like]

    def out_like(self, currents: Tensor) -> Tensor:
        """Return a new train of outputs."""
        return self.outs.empty(currents.dtype, currents.device, self.steps)

    def forward(self, given: Given, final: bool) -> tuple[Tensor, list[Tensor]]:
        """Run a train; see `Scan.run`."""
        currents, thetas, states = given
        # Outputs never take the currents' place here, spent or not: the backward pass runs forward
        # again from the currents, since nothing else is stored.
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
        """Return gradients of currents, thetas and first states; `rate`: see `TrainFunction`."""
        currents, thetas, states = given
        currents = self.layout.fitted(currents, train=True)
        if self.over:
            # The one place where a stored train is destroyed: it was spent when it came, and no
            # second pass through this graph will ask for it. A kept graph works on a copy.
            result = currents = currents.clone() if graph_is_kept() else _taken(currents)
        else:
            result = self.layout.empty(currents.dtype, currents.device, currents.shape[0])
        # A gradient that stays over T, as a mean over time sends it, is never written out T times:
        # the kernel reads its one step with a stride of 0.
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
        # Twice over the same currents, which the first run must leave as they are: only the second
        # may write the gradient over them.
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
        """Run one step; return output and pivot, which takes the place of the last one."""
        current = self.layout.fitted(current, train=True)
        if self.pool > 1:
            out = self.out_like(current)
        else:
            # Unlike a train's, a step's backward pass needs the pivot alone, never the current: the
            # output may be written over a spent one.
            out = current = _taken(current) if spent else current.clone()
        if isinstance(before, Pivot):
            (old,) = self.fitted([before.value])
            states = none(before.states)
            assert old is not None
            # The pivot is one buffer for all steps: each writes over the last one's value, unless a
            # backward pass still has to read that.
            value = old.clone() if before.reader.waits else old
            if value is old and not before.value.is_inference():
                increment_version(before.value)  # whoever needs it all the same is told
        else:
            # A first step gets memory of its own: the states before it are the caller's.
            (value,) = self.fresh([None], current)
            states, old = self.fitted(before), None
        assert value is not None
        given = self.theta(thetas)
        self.call(self.passes.forward, current, out, *given, *states, old, value)
        return out, value

    def step_back(
        self, pivot: Tensor, thetas: Sequence[Tensor], grad: Tensor, spent: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return gradients of one step's current and thetas; a spent one is overwritten."""
        fitted = self.outs.fitted(grad, train=True)
        if self.pool > 1:
            grad, result = fitted, self.layout.empty(grad.dtype, grad.device, 1)
        else:
            spent |= fitted is not grad  # a copy that was made to fit is ours
            grad = result = _taken(fitted) if spent else fitted.clone()
        theta_grads = self.sums(thetas)
        given = self.theta(thetas)
        self.call(self.passes.backward, grad, result, pivot, *given, *theta_grads)
        return result, self.summed(theta_grads, thetas)


def _share_of_statistics(
    currents: Tensor, rate: Tensor, thetas: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """Return slope and offset of what statistics add to the gradient of their currents."""
    scale, of_scale, of_shift = thetas[-2], grads[-2], grads[-1]
    count = currents.numel() // rate.numel()
    return [-scale * rate.square() * of_scale / count, -scale * of_shift / count]


def none(states: Sequence[Any]) -> list[None]:
    """Return a None for each state."""
    return [None] * len(states)


def _taken(x: Tensor) -> Tensor:
    """Return the memory of a tensor that nobody reads any more; who stored it is told.

    The new tensor is another object on the same memory, so it carries no graph along. Autograd's
    version counter moves, and whoever saved the old one after all gets torch's error instead of
    wrong numbers.
    """
    if not x.is_inference():
        increment_version(x)
    return x.new_empty(0).set_(x)  # pyright: ignore[reportArgumentType] - a tensor will do
