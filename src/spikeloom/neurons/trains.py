"""A unit over a train of currents: the reference loop, or a compiled kernel in its place."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.docstrings import equations, first_line
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.torch_private import version
from spikeloom.base.tracing import ordinary
from spikeloom.kernels.runs import OPTIONS, Pivot, TrainOptions
from spikeloom.kernels.scan import Scan, io_type
from spikeloom.kernels.source.frame import Variant
from spikeloom.kernels.source.program import Unsupported
from spikeloom.neurons.base import LOW_PRECISION, State, Theta, Unit, map_state
from spikeloom.neurons.normed import Normed, through_statistics

Kernels = Literal["auto", "compiled", "reference"]
"""Which loop runs.

"auto": the compiled one where it exists and the train is large enough; "compiled": wherever it
exists; "reference": never the compiled one.
"""

WORTH = 1 << 14
"""Elements times steps from which a compiled loop saves more time than its compilation takes."""


def run_train(
    unit: Unit,
    currents: Tensor,
    theta: Theta,
    state: State = None,
    *,
    kernels: Kernels = "auto",
    options: TrainOptions = OPTIONS,
) -> tuple[Tensor, State]:
    r"""Take a stateful unit through a train: :math:`(s[t], v[t]) = step(v[t-1], c[t])`.

    Outputs have the type of the currents; the state has at least float32. A train that is an
    expanded view of one step is not written out: its gradient is one sum over T.

    Args:
        unit: the equation.
        currents: input.
        theta: trained quantities.
        state: before the first step; None for the initial state.
        kernels: which loop.
        options: what the caller wants. Without `final` the returned state may be None. With `local`
            it may be a `Pivot`, which can only be passed to a further call with `local`. A `rate`
            belongs to a `Normed` unit (`neurons.normed.through_statistics`).

    Returns:
        Outputs, and the state after the last step.

    Shape:
        currents, outputs: [T, B, ...]; a pool divides the last two axes of the outputs by its side.

    Raises:
        UnsupportedNet: the state is a `Pivot` and no compiled kernel can run.
    """
    assert options.rate is None or (state is None and not options.local)
    scan = None
    if kernels != "reference" and (kernels == "compiled" or currents.numel() >= WORTH):
        given: Sequence[Tensor] = () if state is None else state_leaves(state)
        if isinstance(state, Pivot):
            given = [state.value]
        scan = compiled(unit, currents, *theta.values(), *given)
    if scan is not None:
        try:
            return _compiled(scan, unit, currents, theta, state, options)
        except Unsupported:
            assert not isinstance(state, Pivot)
    if isinstance(state, Pivot):
        raise UnsupportedNet.of(
            f"neurons.{type(unit).__name__}",
            "the next step on compiled kernels, as the last step",
            "a step inside a transform, tracer or mode of torch, or on the reference kernels",
            "start that step with a fresh state",
        )
    return _reference(unit, currents, theta, state, options)


def _compiled(
    found: "UnitScan",
    unit: Unit,
    currents: Tensor,
    theta: Theta,
    state: State,
    options: TrainOptions,
) -> tuple[Tensor, State]:
    scan = found.scan
    if state is None and not found.rests_at_zero:
        state = unit.init(currents[0])
    if isinstance(state, Pivot):
        leaves = [state.value]
    else:
        leaves = [None] * scan.states if state is None else state_leaves(state)
    _check(unit, currents, theta, leaves, options.pool)
    values = [theta[name] for name in unit.learn]
    if isinstance(state, Pivot):
        return scan.run_step(currents, values, state, options)
    if len(leaves) != scan.states:
        raise Unsupported("a state of another form")
    if options.local:
        # a unit without a pivot keeps whole states: it runs as a train of one step, below
        with suppress(Unsupported):
            return scan.run_step(currents, values, leaves, options)
    steps = currents.shape[0]
    # An expanded train is one step in memory. The kernel reads it T times and sums its gradient;
    # otherwise autograd would sum a gradient that is written out T times.
    once = currents[:1] if steps > 1 and currents.stride(0) == 0 else currents
    clean = bool(leaves) and leaves[0] is None

    # It refers to no tensor, so it keeps none alive: autograd passes in what it has saved.
    def again(once: Tensor, *rest: Tensor) -> list[Tensor]:
        train = once.expand(steps, *once.shape[1:])
        values, given = rest[: scan.thetas], iter(rest[scan.thetas :])
        theta: Any = dict(zip(unit.learn, values, strict=True))
        state = None if clean else map_state(found.form, lambda _: next(given))
        out, last = _reference(unit, train, theta, state, options)
        return [out, *(state_leaves(last) if options.final else [])]

    out, last = scan.run(once, values, leaves, steps=steps, again=again, options=options)
    after = iter(last)
    return out, map_state(found.form, lambda _: next(after)) if options.final else None


def _reference(
    unit: Unit, currents: Tensor, theta: Theta, state: State, options: TrainOptions
) -> tuple[Tensor, State]:
    """Run the unit's own `step`, step by step: what every kernel must reproduce."""
    pool = options.pool
    if options.rate is not None:
        theta = through_statistics(currents, theta, options.rate)
    if state is None:
        state = unit.init(currents[0])
    outs = []
    for current in currents.unbind(0):
        out, state = unit.step(state, current, theta)
        if current.dtype in LOW_PRECISION:
            out = out.to(current.dtype)
        outs.append(out if pool == 1 else F.avg_pool2d(out, pool))
    return torch.stack(outs), state


def _check(
    unit: Unit, currents: Tensor, theta: Theta, leaves: Sequence[Tensor | None], pool: int
) -> None:
    """Refuse inputs for which the reference loop raises an error or returns another type."""
    step = currents.shape[1:]
    dtype = torch.float64 if currents.dtype == torch.float64 else torch.float32
    try:  # torch's own check is slow: not asked where there is nothing to check
        fits = not theta or torch.broadcast_shapes(step, *(x.shape for x in theta.values())) == step
    except RuntimeError:
        fits = False
    given = [leaf for leaf in leaves if leaf is not None]
    fits &= set(theta) == set(unit.learn) and all(leaf.shape == step for leaf in given)
    fits &= all(one.dtype == dtype for one in (*theta.values(), *given))
    whole = len(step) > 2 and step[-1] % pool == 0 and step[-2] % pool == 0
    if not fits or not currents.numel() or (pool > 1 and not whole):
        raise Unsupported("quantities that belong to another train")


class UnitScan(NamedTuple):
    """Compiled scan of a unit, an example of its state, and whether every state starts at 0."""

    scan: Scan
    form: State
    rests_at_zero: bool


def compiled(unit: Unit, like: Tensor, *others: Tensor) -> UnitScan | None:
    """Return the compiled scan of a unit; None if there is none for these tensors.

    Args:
        unit: the equation.
        like: currents.
        others: all other tensors that the scan is going to read.
    """
    return None if like.device.type != "cpu" or not ordinary(like, *others) else kernel_of(unit)


def kernel_of(unit: Unit) -> UnitScan | None:
    """Return the compiled scan of a unit, whatever it is going to read; None if there is none."""
    try:
        return _scan(unit, _changeable(unit))
    except TypeError:  # the unit, or one of its attributes, is not hashable
        return None


def state_leaves(state: State) -> list[Tensor]:
    """Return the tensors of a state, in order."""
    leaves: list[Tensor] = []

    def keep(leaf: Tensor) -> Tensor:
        leaves.append(leaf)
        return leaf

    map_state(state, keep)
    return leaves


def _changeable(unit: object) -> tuple[object, ...]:
    """Return all attributes, at any depth, that may change while the unit stays the same object.

    They are part of the key under which a scan is cached: a kernel has the values of the attributes
    compiled in. Of a frozen dataclass only attributes that are objects themselves are looked into.
    """
    # of the class itself: a subclass of a frozen dataclass need not be frozen
    parameters = vars(type(unit)).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        return tuple(
            (name, one, version(one) if isinstance(one, Tensor) else 0)
            for name, one in vars(unit).items()
        )
    values = [*getattr(unit, "__dict__", {}).values()]
    if "__slots__" in vars(type(unit)):
        values += [getattr(unit, name) for name in vars(type(unit))["__dataclass_fields__"]]
    parts = [one for one in values if type(one) not in _FIXED]
    return tuple(_changeable(one) for one in parts if hasattr(one, "__dict__"))


_FIXED = frozenset((float, int, bool, str, tuple, type(None)))


@lru_cache(maxsize=256)
def _scan(unit: Unit, _: tuple[object, ...]) -> UnitScan | None:
    """Make the scan of a unit; the second argument, `_changeable`, is part of the cache key."""
    try:
        form, other = unit.init(torch.zeros(1)), unit.init(torch.ones(1))
    except Exception:  # a user's unit may refuse a single neuron with any error
        return None
    if not _plain(form):
        return None

    def step(current: Tensor, thetas: list[Tensor], states: list[Tensor]) -> list[Tensor]:
        given = iter(states)
        state = map_state(form, lambda _: next(given))
        out, after = unit.step(state, current, dict(zip(unit.learn, thetas, strict=True)))
        return [out, *state_leaves(after)]

    zero = not any(bool(leaf.any()) for leaf in (*state_leaves(form), *state_leaves(other)))
    try:
        scan = Scan(step, len(unit.learn), len(state_leaves(form)), _about(unit))
        return UnitScan(scan, form, zero)
    except Unsupported:
        return None


def _about(unit: Unit) -> str:
    """Return name, settings and equation (from the docstring) of a unit."""
    kind = type(unit)
    lines = equations(kind)
    if isinstance(unit, Normed):
        lines += equations(type(unit.unit))
    said = lines or [first_line(kind) or "no docstring", "(without an equation in its docstring)"]
    return "\n".join((f"{kind.__module__}.{kind.__qualname__}", repr(unit), "", *said))


def kernel_source(
    unit: Unit, *, dtype: torch.dtype = torch.float32, pool: int = 1, local: bool = False
) -> str:
    """Return the generated code of a unit as text.

    It is a comment with the unit's equation, the forward pass, then the backward pass. Settings
    that are numbers are in the comment, not in the code: units that differ in them share it.

    Args:
        unit: the equation.
        dtype: of the currents.
        pool: side of an average pool after the unit.
        local: the code of one step that passes no gradient to the next, instead of a train's.

    Raises:
        UnsupportedNet: the unit has no kernels; the message says why.

    Example:
        >>> from spikeloom.neurons.leaky import LIF
        >>> print(kernel_source(LIF(alpha=0.5)).splitlines()[0])
        # A train, forward, float32.
    """
    found = compiled(unit, torch.empty(0, dtype=dtype))
    try:
        if found is None:
            raise Unsupported("no compiler, or a unit without hash or with another state")
        variant = Variant(io_type(dtype), pool=pool, tiled=bool(unit.learn))
        return found.scan.code(variant, local=local)
    except Unsupported as error:
        raise UnsupportedNet.of(
            f"neurons.{type(unit).__name__}",
            "a unit with compiled kernels",
            error,
            "it runs on torch's operators, where its step is all the code",
        ) from error


def _plain(state: State) -> bool:
    """Whether a state consists of tensors in (nested) tuples, as compiled loops need it."""
    if isinstance(state, tuple):
        return all(_plain(part) for part in state)
    return state is None or isinstance(state, Tensor)
