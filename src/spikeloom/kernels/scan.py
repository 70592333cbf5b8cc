"""Scans: a step taken through time by compiled kernels, forward and backward."""

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
    """Why something could not be made."""

    reason: str


class Scan:
    r"""A step :math:`(o[t], v[t]) = f(c[t], v[t-1]; \theta)` over a whole train.

    Gradients are those of autograd through the step, operation by operation; sums over T of
    trained quantities are taken in another order.

    Args:
        step: elementwise.
        thetas: number of trained quantities.
        states: number of state tensors.
        about: whose step it is, for the comment above generated code: name, settings, equation.

    Raises:
        Unsupported: no compiler.
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
            currents: one for each step, or a single one that stays.
            thetas: trained quantities; they broadcast against a step's current.
            states: before the first step; None is 0.
            steps: T.
            again: the same train by torch's operators, for derivatives of its gradients; None
                refuses them.
            options: what is wanted; `local` means nothing here.

        Returns:
            Outputs in the type of the currents, and the last states (empty without `final`).

        Shape:
            currents: [T, B, ...] or [1, B, ...]; thetas: [...]; states, last states: [B, ...];
            outputs: [T, B, ...], the last two axes divided by the pool's side.

        Raises:
            Unsupported: a type that no kernel is written for, or a step that is no kernel.
        """
        constant = currents.shape[0] == 1 and steps > 1
        wanted = _wanted(currents, *thetas, *states)
        pool, rate = options.pool, options.rate
        # the gradient of currents that stay is a sum over T: it has no room in any one of them
        over = wanted and options.spent and not constant
        layout = _layout(currents, pool)
        period = layout.period(thetas) if thetas else None
        variant = Variant(io_type(currents.dtype), constant, pool, over, period is not None)
        # Kernels know nothing of the layout. It belongs to the `Run`, whose blocks and shares are
        # worked out once and serve every further train of this shape.
        key = (TrainFunction, variant, wanted, layout, steps, period, rate is None)
        run = self._once(
            key, lambda: self._train_run(variant, wanted, layout, steps, period, rate is not None)
        )
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
        """Run one step through which no gradient passes to the next.

        Args:
            current: of the step.
            thetas: trained quantities.
            before: states of a first step, or what the last step left; it is used up.
            options: what is wanted; only `pool` and `spent` mean anything here.

        Shape:
            current, output: [1, B, ...].

        Raises:
            Unsupported: as in `run`, or a step without a pivot.
        """
        pool, spent = options.pool, options.spent
        wanted, layout = _wanted(current, *thetas), _layout(current, pool)
        period = layout.period(thetas) if thetas else None
        variant = Variant(io_type(current.dtype), pool=pool, tiled=period is not None)
        # `spent` is no part of it: where an output goes is an address, not another kernel
        key = (StepFunction, variant, wanted, layout, period)
        run = self._once(key, lambda: self._step_run(variant, wanted, layout, period))
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

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        """Make something once; what failed once fails again at once."""
        if key not in self._made:
            try:
                self._made[key] = make()
            except Unsupported as error:
                self._made[key] = _Failed(str(error))
        made = self._made[key]
        if isinstance(made, _Failed):
            # a new exception each time: a kept one keeps every frame it was raised through alive,
            # and with the frames their tensors
            raise Unsupported(made.reason)
        return made

    def _programs(self, variant: Variant) -> StepPrograms:
        dtype = getattr(torch, variant.state)
        return self._once(
            ("programs", dtype), lambda: trace_step(self.step, self.thetas, self.states, dtype)
        )

    def _train_run(
        self,
        variant: Variant,
        wanted: bool,
        layout: Layout,
        steps: int,
        period: int | None,
        in_parts: bool,
    ) -> Run:
        # forward passes of both kinds are one kernel: only the way back writes over anything
        ahead = self._kernel(train_forward, self._programs, replace(variant, over=False))
        back = sums = None
        if wanted and in_parts:
            sums = self._kernel(
                train_backward, self._programs, replace(variant, over=False, part="sums")
            )
            back = self._kernel(train_backward, self._programs, replace(variant, part="rest"))
        elif wanted:
            back = self._kernel(train_backward, self._programs, variant)
        passes = Passes(ahead, back, sums)
        return Run(passes, layout, steps, variant.pool, variant.over, period)

    def _step_run(self, variant: Variant, wanted: bool, layout: Layout, period: int | None) -> Run:
        ahead = self._kernel(step_forward, self._pivots, variant)
        back = self._kernel(step_backward, self._pivots, variant) if wanted else None
        return Run(Passes(ahead, back), layout, 1, variant.pool, period=period)

    def _pivots(self, variant: Variant) -> PivotPrograms:
        programs = find_pivot(self._programs(variant))
        if programs is None:
            raise Unsupported("no value that decides output and state")
        return programs

    def _kernel(
        self, write: Callable[[P, Variant], Source], of: Callable[[Variant], P], variant: Variant
    ) -> Kernel:
        def make() -> Kernel:
            return load_kernel(write(of(variant), variant), self.about)

        return self._once((write, variant), make)

    def code(self, variant: Variant, *, local: bool = False) -> str:
        """Return what is compiled for a variant, as text: the forward pass, then the backward pass.

        Args:
            variant: in one part ("all").
            local: of one step that passes no gradient on, instead of a train.

        Raises:
            Unsupported: a step that is no kernel.
        """
        if local:
            pivots = self._pivots(variant)
            sources = [write(pivots, variant) for write in (step_forward, step_backward)]
        else:
            programs = self._programs(variant)
            sources = [write(programs, variant) for write in (train_forward, train_backward)]
        return "\n\n".join(one.comment(self.about) + one.text for one in sources)


def load_kernel(source: Source, about: str) -> Kernel:
    """Compile a module; its functions are compiled when it is imported.

    Args:
        source: of the module.
        about: whose code it is (`Source.comment`).

    Raises:
        Unsupported: the compiler failed.
    """
    try:
        module = load_source(source.text, source.comment(about))
    except Exception as error:  # a compiler fails in ways of its own
        raise Unsupported(f"{type(error).__name__}: {error}") from error
    # In float64 whatever the variant: the code rounds each to its own type, as torch rounds a
    # Python number.
    numbers = torch.tensor([*source.numbers, 0], dtype=torch.float64)
    return Kernel(module.body, numbers)


def _refuse_again(*_: Any) -> Sequence[Tensor]:
    raise UnsupportedNet(
        "kernels.scan: expected a first derivative, got a backward pass that is differentiated or "
        "that gets gradients in batches; give the train by torch's operators too (again=)."
    )


def _wanted(*inputs: Tensor | None) -> bool:
    """Whether a gradient of one of them will be asked for."""
    given = [one for one in inputs if one is not None]
    return torch.is_grad_enabled() and any(one.requires_grad for one in given)


def io_type(dtype: torch.dtype) -> str:
    """Name the type of a train for a kernel.

    Raises:
        Unsupported: there are no kernels for it.
    """
    if dtype not in _IO:
        raise Unsupported(f"currents of type {dtype}")
    return _IO[dtype]


def _layout(currents: Tensor, pool: int) -> Layout:
    layout = Layout.of(currents)
    return layout if pool == 1 else layout.images()
