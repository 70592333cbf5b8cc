"""A unit over a train of currents: the reference loop, and one compiled kernel in its place."""

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
"""Which loop runs: the compiled one where it exists and is worth it, wherever it exists, never."""

WORTH = 1 << 14
"""Elements times steps below which a compiled loop saves less than its compilation takes."""


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

    Outputs have the type of the currents, the state is kept in float32 at least. A train that is
    one tensor seen T times (an expanded view) is read once, and its gradient summed at once.

    Args:
        unit: the equation.
        currents: its input.
        theta: trained quantities.
        state: before the first step; None starts clean.
        kernels: which loop.
        options: what is wanted. Without `final` the second result may be None; with `local` the
            state may come back as a `Pivot`, which only a further call like this one can read; a
            `rate` belongs to a `Normed` unit (`neurons.normed.through_statistics`).

    Shape:
        currents, outputs: [T, B, ...]; with a pool the outputs' last two axes are that much
        shorter.
    """
    assert options.rate is None or (state is None and not options.local)
    scan = None
    if kernels != "reference" and (kernels == "compiled" or currents.numel() >= WORTH):
        given = () if state is None else _given(state)
        scan = compiled(unit, currents, *theta.values(), *given)
    if scan is not None:
        try:
            return _compiled(scan, unit, currents, theta, state, options)
        except Unsupported:
            assert not isinstance(state, Pivot)
    if isinstance(state, Pivot):
        raise UnsupportedNet(
            f"neurons.{type(unit).__name__}: expected the next step on compiled kernels, as the "
            "last step, got a step inside a transform, tracer or mode of torch, or on the "
            "reference kernels; start that step with a fresh state."
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
        # units without a pivot keep whole states, as a train of one step does
        with suppress(Unsupported):
            return scan.run_step(currents, values, leaves, options)
    steps = currents.shape[0]
    # an expanded train is one step of memory: the kernel reads it T times, and its gradient is one
    # sum, which autograd would otherwise take over a written-out train
    once = currents[:1] if steps > 1 and currents.stride(0) == 0 else currents
    clean = bool(leaves) and leaves[0] is None

    # It keeps no train alive: currents and quantities come back from what autograd saved.
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
    """Leave to the reference what it answers otherwise: by an error, or in another type."""
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
    """A unit's compiled scan, the form of its state, and whether every state starts at 0."""

    scan: Scan
    form: State
    rests_at_zero: bool


def compiled(unit: Unit, like: Tensor, *others: Tensor) -> UnitScan | None:
    """Return the unit's compiled scan, or None where there is none for such currents.

    Args:
        unit: the equation.
        like: currents.
        others: what else the scan is going to read.
    """
    return None if like.device.type != "cpu" or not ordinary(like, *others) else kernel_of(unit)


def kernel_of(unit: Unit) -> UnitScan | None:
    """Return the unit's compiled scan, whatever it is going to read; None where there is none."""
    try:
        return _scan(unit, _changeable(unit))
    except TypeError:  # a unit without hash, or with an attribute that has none
        return None


def _given(state: State) -> list[Tensor]:
    """Return the tensors of a state before a first step."""
    return [state.value] if isinstance(state, Pivot) else state_leaves(state)


def state_leaves(state: State) -> list[Tensor]:
    """Return the tensors of a state, in order."""
    leaves: list[Tensor] = []

    def keep(leaf: Tensor) -> Tensor:
        leaves.append(leaf)
        return leaf

    map_state(state, keep)
    return leaves


def _changeable(unit: object) -> tuple[object, ...]:
    """Return what may be another value at the next call though the unit is the same."""
    parameters = vars(type(unit)).get("__dataclass_params__")  # a subclass may add what it likes
    if parameters is None or not parameters.frozen:
        return tuple((name, one, _written(one)) for name, one in vars(unit).items())
    values = [*getattr(unit, "__dict__", {}).values()]
    if "__slots__" in vars(type(unit)):
        values += [getattr(unit, name) for name in vars(type(unit))["__dataclass_fields__"]]
    parts = [one for one in values if type(one) not in _FIXED]
    return tuple(_changeable(one) for one in parts if hasattr(one, "__dict__"))


def _written(value: object) -> object:
    return version(value) if isinstance(value, Tensor) else 0


_FIXED = frozenset((float, int, bool, str, tuple, type(None)))


@lru_cache(maxsize=256)
def _scan(unit: Unit, _: tuple[object, ...]) -> UnitScan | None:
    """Compile a unit as it is; the second argument is `_changeable`."""
    try:
        form, other = unit.init(torch.zeros(1)), unit.init(torch.ones(1))
    except Exception:  # a unit that asks for more than a single neuron
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
    """Say whose code it is: the unit, its settings, and the equation of its docstring."""
    kind = type(unit)
    lines = equations(kind)
    if isinstance(unit, Normed):
        lines += equations(type(unit.unit))
    said = lines or [first_line(kind) or "no docstring", "(without an equation in its docstring)"]
    return "\n".join((f"{kind.__module__}.{kind.__qualname__}", repr(unit), "", *said))


def kernel_source(
    unit: Unit, *, dtype: torch.dtype = torch.float32, pool: int = 1, local: bool = False
) -> str:
    """Return the code that is generated and compiled for a unit, to read it.

    It is a comment with the unit's equation, the forward pass, then the backward pass. A setting
    that is a plain number stands in the comment, not in the code, which other values share.

    Args:
        unit: the equation.
        dtype: of the currents.
        pool: side of an average pool behind the unit.
        local: of one step that passes no gradient to the next, instead of a whole train.

    Raises:
        UnsupportedNet: the unit runs on torch's operators alone; the message says why.

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
        raise UnsupportedNet(
            f"neurons.{type(unit).__name__}: expected a unit with compiled kernels, got {error}; "
            "it runs on torch's operators, where its step is all the code."
        ) from error


def _plain(state: State) -> bool:
    """Whether all that a state carries are tensors, which a compiled loop can move on."""
    if isinstance(state, tuple):
        return all(_plain(part) for part in state)
    return state is None or isinstance(state, Tensor)
