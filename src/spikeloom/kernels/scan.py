"""Scans: a step taken through time by one compiled kernel, forward and backward."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from spikeloom.kernels.jit import load_source, numba
from spikeloom.kernels.layout import Layout
from spikeloom.kernels.program import Step, StepPrograms, Unsupported, trace_step
from spikeloom.kernels.source import Variant, kernel_source
from spikeloom.kernels.threads import run_body

_IO = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
}
_GRAIN = 1 << 15  # elements times steps that are worth a thread
_SCRATCH = 1 << 13  # elements times steps of one block's states: they stay in the near cache
_WIDEST = 1024
_LINE = 64  # elements: whole cache lines and vectors


class Scan:
    r"""A step :math:`(o[t], v[t]) = f(c[t], v[t-1]; \theta)` over a whole train.

    Gradients are those of autograd through the step, operation by operation; sums over T of
    trained quantities are taken in another order.

    Args:
        step: elementwise.
        thetas: number of trained quantities.
        states: number of state tensors.

    Raises:
        Unsupported: no compiler, or a step that it cannot take.
    """

    def __init__(self, step: Step, thetas: int, states: int) -> None:
        if numba() is None:
            raise Unsupported("no compiler")
        self.step, self.thetas, self.states = step, thetas, states
        self._programs: dict[torch.dtype, StepPrograms] = {}
        self._kernels: dict[Variant, Any] = {}

    def run(
        self,
        currents: Tensor,
        thetas: Sequence[Tensor],
        states: Sequence[Tensor],
        *,
        steps: int,
        pool: int = 1,
        finals: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        r"""Run the step over a train.

        Args:
            currents: one for each step, or a single one that stays.
            thetas: trained quantities; they broadcast against a step's current.
            states: before the first step.
            steps: T.
            pool: side of an average pool over the last two axes of the outputs, without overlap.
            finals: whether the states after the last step are wanted.

        Returns:
            Outputs in the type of the currents, and the last states (empty without `finals`).

        Shape:
            currents: [T, B, ...] or [1, B, ...]; thetas: [...]; states, last states: [B, ...];
            outputs: [T, B, ...], the last two axes divided by `pool`.

        Raises:
            Unsupported: a type that no kernel is written for, or a kernel that does not compile.
        """
        constant = currents.shape[0] == 1 and steps > 1
        if currents.dtype not in _IO:
            raise Unsupported(f"currents of type {currents.dtype}")
        kernel = self._kernel(Variant(_IO[currents.dtype], constant, pool))
        task = _Task(kernel, steps, pool, finals, len(thetas))
        out, *last = _Train.apply(task, currents, *thetas, *states)  # pyright: ignore
        return out, last

    def _kernel(self, variant: Variant) -> Any:
        if variant not in self._kernels:
            try:
                self._kernels[variant] = self._compiled(variant)
            except Unsupported as error:
                self._kernels[variant] = error
        found = self._kernels[variant]
        if isinstance(found, Unsupported):
            raise found
        return found

    def _compiled(self, variant: Variant) -> Any:
        dtype = getattr(torch, variant.state)
        if dtype not in self._programs:
            self._programs[dtype] = trace_step(self.step, self.thetas, self.states, dtype)
        source = kernel_source(self._programs[dtype], variant)
        try:
            module = load_source(source)
            self._try(module, variant)
        except Exception as error:  # a compiler fails in ways of its own
            raise Unsupported(f"{type(error).__name__}: {error}") from error
        return module

    def _try(self, module: Any, variant: Variant) -> None:
        """Compile both functions on a train of one element group."""
        count, rows = variant.pool**2, variant.pool
        dtype = getattr(torch, variant.state)
        train = torch.zeros((1, 1, rows, rows), dtype=getattr(torch, variant.io))
        thetas = [torch.ones((), dtype=dtype) for _ in range(self.thetas)]
        states = [torch.zeros((1, rows, rows), dtype=dtype) for _ in range(self.states)]
        assert count == train.numel()
        task = _Task(module, 1, variant.pool, finals=True, thetas=self.thetas)
        task.layout = Layout.of(train)
        out, _ = task.forward(train, thetas, states)
        task.backward(train, thetas, states, torch.ones_like(out), _none(states), True)


@dataclass
class _Task:
    """One run of a kernel: what does not change between its two passes."""

    kernel: Any
    steps: int
    pool: int
    finals: bool
    thetas: int

    def __post_init__(self) -> None:
        self.layout: Layout

    @cached_property
    def block(self) -> int:
        """Elements that a kernel takes at a time: whole rows of windows where it pools."""
        wanted = max(_LINE, min(_WIDEST, _SCRATCH // self.steps) // _LINE * _LINE)
        return -(-wanted // self.quantum) * self.quantum

    @cached_property
    def geometry(self) -> tuple[int, int]:
        return self.layout.rows() if self.pool > 1 else (0, 0)

    @cached_property
    def quantum(self) -> int:
        """Pieces of work begin at multiples of this."""
        if self.pool == 1:
            return _LINE
        width, inner = self.geometry
        return self.pool * width * inner

    def run(self, body: Any, *tensors: Tensor | None) -> None:
        """Run a body; what is None is not wanted, or not given."""
        numbers = [self.steps, self.block, *self.geometry]
        numbers += [0 if one is None else one.data_ptr() for one in tensors]
        grain = max(1, _GRAIN // self.steps)
        run_body(body, numbers, self.layout.count, grain=grain, multiple=self.quantum)

    def fitted(self, steps: Sequence[Tensor | None]) -> list[Tensor | None]:
        return [None if one is None else self.layout.fitted(one) for one in steps]

    def forward(
        self, currents: Tensor, thetas: Sequence[Tensor], states: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        layout = self.layout
        out = layout.pooled(self.pool).empty(currents.dtype, currents.device, self.steps)
        last = [layout.empty(state.dtype, state.device) for state in states if self.finals]
        given = self.fitted((*thetas, *states))
        currents = layout.fitted(currents, train=True)
        self.run(self.kernel.forward_body, currents, out, *given, *(last or _none(states)))
        return out, last

    def backward(
        self,
        currents: Tensor,
        thetas: Sequence[Tensor],
        states: Sequence[Tensor],
        grad: Tensor,
        finals: Sequence[Tensor | None],
        wants_states: bool,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        layout = self.layout
        result = layout.empty(currents.dtype, currents.device, currents.shape[0])
        currents = layout.fitted(currents, train=True)
        grad = layout.pooled(self.pool).fitted(grad, train=True)
        theta_grads = [layout.empty(one.dtype, one.device) for one in thetas]
        state_grads = [layout.empty(one.dtype, one.device) for one in states if wants_states]
        given = self.fitted((*thetas, *states))
        wanted = (*theta_grads, *(state_grads or _none(states)))
        rest = (*given, *wanted, *self.fitted(finals))
        self.run(self.kernel.backward_body, currents, grad, result, *rest)
        sums = [
            one.sum_to_size(theta.shape) for one, theta in zip(theta_grads, thetas, strict=True)
        ]
        return result, sums, state_grads


class _Train(torch.autograd.Function):
    """Stores the currents, and nothing that grows with T besides."""

    @staticmethod
    def forward(  # noqa: D102 - torch's interface
        ctx: Any, task: _Task, currents: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        layout = Layout.of(currents)
        task.layout = layout if task.pool == 1 else layout.images()
        thetas, states = rest[: task.thetas], rest[task.thetas :]
        out, last = task.forward(currents, thetas, states)
        ctx.task = task
        ctx.save_for_backward(currents, *rest)
        ctx.set_materialize_grads(False)
        return out, *last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *finals: Tensor | None) -> Any:  # noqa: D102
        task: _Task = ctx.task
        currents, *rest = ctx.saved_tensors
        thetas, states = rest[: task.thetas], rest[task.thetas :]
        if grad is None:
            outs = task.layout.pooled(task.pool)
            grad = outs.empty(currents.dtype, currents.device, task.steps).zero_()
        wants = any(ctx.needs_input_grad[2 + task.thetas :])
        result, theta_grads, state_grads = task.backward(
            currents, thetas, states, grad, finals or _none(states), wants
        )
        return None, result, *theta_grads, *(state_grads or _none(states))


def _none(states: Sequence[Tensor]) -> list[None]:
    return [None] * len(states)
