"""Scans: an elementwise step taken through time by compiled kernels, forward and backward."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.kernels.functions import Again, StepCall, StepFunction, TrainCall, TrainFunction
from spikeloom.kernels.layout import Layout
from spikeloom.kernels.pivot import PivotPrograms, find_pivot
from spikeloom.kernels.runs import OPTIONS, Given, Kernel, Passes, Pivot, Reader, Run, TrainOptions
from spikeloom.kernels.source.frame import Source, Variant
from spikeloom.kernels.source.jit import load_source, numba
from spikeloom.kernels.source.pivot_code import step_backward, step_forward
from spikeloom.kernels.source.program import Step, StepPrograms, Unsupported, trace_step
from spikeloom.kernels.source.train_code import train_backward, train_forward

_IO = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
}

T = TypeVar("T")
P = TypeVar("P")


class _Failed(NamedTuple):
    """Stands in the cache for what could not be made, with the reason."""

    reason: str


class Scan:
    r"""A step :math:`(o[t], v[t]) = f(c[t], v[t-1]; \theta)` over a whole train of currents.

    Gradients are those of autograd through the step, operation by operation. Only the sums over T
    in the gradients of trained quantities are taken in another order.

    Kernels and runs are compiled or planned at their first use and kept as long as the scan.

    Args:
        step: elementwise function of current, thetas and states.
        thetas: number of trained quantities.
        states: number of state tensors.
        about: whose step it is, for the comment above generated code: name, settings, equation.

    Raises:
        Unsupported: there is no compiler.
    """

    def __init__(self, step: Step, thetas: int, states: int, about: str = "") -> None:
        if numba() is None:
            raise Unsupported("no compiler")
        self.step, self.thetas, self.states = step, thetas, states
        self.about = about or f"The step {step.__qualname__} of {step.__module__}."
        self._made: dict[Any, Any] = {}

    def run(
        self,
        currents: Tensor,
        thetas: Sequence[Tensor],
        states: Sequence[Tensor | None],
        *,
        steps: int,
        again: Again | None = None,
        options: TrainOptions = OPTIONS,
    ) -> tuple[Tensor, list[Tensor]]:
        r"""Run the step over a train.

        Args:
            currents: input of every step, or a single one that stays the same.
            thetas: trained quantities; they broadcast against the current of a step.
            states: before the first step; None is 0.
            steps: T.
            again: the same train with torch's operators, for second derivatives; with None they
                are refused.
            options: what the caller wants; `local` is ignored.

        Returns:
            Outputs in the type of the currents, and the last states (empty without `final`).

        Shape:
            currents: [T, B, ...] or [1, B, ...]; thetas: [...]; states, last states: [B, ...];
            outputs: [T, B, ...], with the last two axes divided by the side of the pool.

        Raises:
            Unsupported: no kernel can be made for this type or this step.
            UnsupportedNet: in the backward pass, a second derivative without `again`.
        """
        constant = currents.shape[0] == 1 and steps > 1
        wanted = _wanted(currents, *thetas, *states)
        pool = options.pool
        # The gradient of a constant current is a sum over T: it cannot be written over the current
        # before the last step has read it.
        over = wanted and options.spent and not constant
        layout = _layout(currents, pool)
        period = layout.period(thetas) if thetas else None
        variant = Variant(io_type(currents.dtype), constant, pool, over, period is not None)
        in_parts = options.rate is not None
        run = self._once(Scan._train_run, variant, wanted, layout, steps, period, in_parts)
        if not wanted:
            return run.forward(Given(currents, thetas, states), options.final)
        call = TrainCall(run, self.thetas, options, again or _refuse_again)
        out, *last = TrainFunction.apply(  # pyright: ignore[reportGeneralTypeIssues]
            call, currents, *thetas, *states
        )
        return out, last

    def run_step(
        self,
        current: Tensor,
        thetas: Sequence[Tensor],
        before: Sequence[Tensor | None] | Pivot,
        options: TrainOptions = OPTIONS,
    ) -> tuple[Tensor, Pivot]:
        """Run one step whose state passes no gradient to the next step.

        Args:
            current: of the step.
            thetas: trained quantities.
            before: the states before a first step, or the pivot that the last step returned. That
                pivot must not be used again: this step overwrites it.
            options: what the caller wants; only `pool` and `spent` are read.

        Returns:
            The output, and the pivot to pass to the next step.

        Shape:
            current, output: [1, B, ...], the output's last two axes divided by the pool's side.

        Raises:
            Unsupported: as in `run`, or the step has no pivot.
            UnsupportedNet: in the backward pass, a second derivative or a transform.
        """
        pool, spent = options.pool, options.spent
        wanted, layout = _wanted(current, *thetas), _layout(current, pool)
        period = layout.period(thetas) if thetas else None
        variant = Variant(io_type(current.dtype), pool=pool, tiled=period is not None)
        # `spent` is not in the key: it changes the address of the output, not the kernel.
        run = self._once(Scan._step_run, variant, wanted, layout, period)
        if not wanted:
            out, value = run.step(current, thetas, before, spent)
            return out, Pivot(value, (None,) * self.states, Reader(False))
        left: list[Tensor] = []
        reader = Reader(True)
        call = StepCall(run, before, spent, reader, left)
        out: Tensor = StepFunction.apply(  # pyright: ignore[reportAssignmentType]
            call, current, *thetas
        )
        return out, Pivot(left[0], (None,) * self.states, reader)

    def _once(self, make: Callable[..., T], *args: Any) -> T:
        """Return what a method makes of its arguments, made at the first call with them.

        A failure is kept too, so that a step without a kernel is not traced again at every call.
        """
        key = (make, *args)
        if key not in self._made:
            try:
                self._made[key] = make(self, *args)
            except Unsupported as error:
                self._made[key] = _Failed(str(error))
        made = self._made[key]
        if isinstance(made, _Failed):
            # A new exception each time: a kept one would keep the frames it passed through alive,
            # and the tensors in them.
            raise Unsupported(made.reason)
        return made

    def _train_run(
        self,
        variant: Variant,
        wanted: bool,
        layout: Layout,
        steps: int,
        period: int | None,
        in_parts: bool,
    ) -> Run:
        # `over` concerns the backward pass only; without it the forward pass is one kernel for both
        ahead = self._once(
            Scan._kernel, train_forward, Scan._programs, replace(variant, over=False)
        )
        back = sums = None
        if wanted and in_parts:
            first = replace(variant, over=False, part="sums")
            sums = self._once(Scan._kernel, train_backward, Scan._programs, first)
            back = self._once(
                Scan._kernel, train_backward, Scan._programs, replace(variant, part="rest")
            )
        elif wanted:
            back = self._once(Scan._kernel, train_backward, Scan._programs, variant)
        passes = Passes(ahead, back, sums)
        return Run(passes, layout, steps, variant.pool, variant.over, period)

    def _step_run(self, variant: Variant, wanted: bool, layout: Layout, period: int | None) -> Run:
        ahead = self._once(Scan._kernel, step_forward, Scan._pivots, variant)
        back = self._once(Scan._kernel, step_backward, Scan._pivots, variant) if wanted else None
        return Run(Passes(ahead, back), layout, 1, variant.pool, period=period)

    def _kernel(
        self,
        write: Callable[[P, Variant], Source],
        read: Callable[["Scan", Variant], P],
        variant: Variant,
    ) -> Kernel:
        return load_kernel(write(read(self, variant), variant), self.about)

    def _programs(self, variant: Variant) -> StepPrograms:
        return self._once(Scan._trace, getattr(torch, variant.state))

    def _trace(self, dtype: torch.dtype) -> StepPrograms:
        return trace_step(self.step, self.thetas, self.states, dtype)

    def _pivots(self, variant: Variant) -> PivotPrograms:
        programs = find_pivot(self._programs(variant))
        if programs is None:
            raise Unsupported("no value that decides output and state")
        return programs

    def code(self, variant: Variant, *, local: bool = False) -> str:
        """Return the source of a variant's kernels: the forward pass, then the backward pass.

        Args:
            variant: with part "all".
            local: the kernels of one step that passes no gradient on, instead of a train's.

        Raises:
            Unsupported: no kernel can be made for the step.
        """
        if local:
            pivots = self._pivots(variant)
            sources = [write(pivots, variant) for write in (step_forward, step_backward)]
        else:
            programs = self._programs(variant)
            sources = [write(programs, variant) for write in (train_forward, train_backward)]
        return "\n\n".join(one.comment(self.about) + one.text for one in sources)


def load_kernel(source: Source, about: str) -> Kernel:
    """Compile a module, or load it from the cache.

    Args:
        source: the module.
        about: whose code it is (see `Source.comment`).

    Raises:
        Unsupported: the compiler failed.
    """
    try:
        module = load_source(source.text, source.comment(about))
    except Exception as error:  # any kind: numba does not say how it fails
        raise Unsupported(f"{type(error).__name__}: {error}") from error
    # Float64 in every variant: the kernel rounds them to its own type, as torch rounds a Python
    # number to the type of the tensor. The 0 is there so that the buffer is never empty.
    numbers = torch.tensor([*source.numbers, 0], dtype=torch.float64)
    return Kernel(module.body, numbers)


def _refuse_again(*_: Any) -> Sequence[Tensor]:
    raise UnsupportedNet.of(
        "kernels.scan",
        "a first derivative",
        "a backward pass that is differentiated or that gets gradients in batches",
        "give the train by torch's operators too (again=)",
    )


def _wanted(*inputs: Tensor | None) -> bool:
    """Whether autograd will ask for a gradient of one of the inputs."""
    given = [one for one in inputs if one is not None]
    return torch.is_grad_enabled() and any(one.requires_grad for one in given)


def io_type(dtype: torch.dtype) -> str:
    """Return the name that a variant has for the type of a train.

    Raises:
        Unsupported: there are no kernels for the type.
    """
    if dtype not in _IO:
        raise Unsupported(f"currents of type {dtype}")
    return _IO[dtype]


def _layout(currents: Tensor, pool: int) -> Layout:
    layout = Layout.of(currents)
    return layout if pool == 1 else layout.images()
