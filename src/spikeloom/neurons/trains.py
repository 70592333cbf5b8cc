"""A unit over a train of currents: the reference loop, and one compiled kernel in its place."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.tracing import ordinary
from spikeloom.kernels.runs import Pivot
from spikeloom.kernels.scan import Scan
from spikeloom.kernels.source.program import Unsupported
from spikeloom.neurons.base import LOW_PRECISION, State, Theta, Unit, map_state
from spikeloom.neurons.normed import through_statistics

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
    pool: int = 1,
    final: bool = True,
    local: bool = False,
    spent: bool = False,
    rate: Tensor | None = None,
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
        pool: side of an average pool behind the unit, without overlap.
        final: whether the state after the last step is wanted; else the second result may be None.
        local: one step alone, whose state passes no gradient on; it may come back as a `Pivot`,
            which only a further call like this one can read.
        spent: the currents are nobody else's: outputs may take their place where `local`, else
            their gradient on the way back.
        rate: of a `Normed` unit whose norm has the statistics of these very currents, from rest;
            their gradient then goes through both (`neurons.normed.through_statistics`).

    Shape:
        currents, outputs: [T, B, ...]; with `pool` the outputs' last two axes are that much
        shorter.
    """
    assert rate is None or (state is None and not local)
    scan = None
    if kernels != "reference" and (kernels == "compiled" or currents.numel() >= WORTH):
        scan = compiled(unit, currents, *theta.values(), *_given(state))
    if scan is not None:
        try:
            return _compiled(scan, unit, currents, theta, state, pool, final, local, spent, rate)
        except Unsupported:
            assert not isinstance(state, Pivot)
    if isinstance(state, Pivot):
        raise UnsupportedNet(
            f"neurons.{type(unit).__name__}: expected the next step on compiled kernels, as the "
            "last step, got a step inside a transform, tracer or mode of torch, or on the "
            "reference kernels; start that step with a fresh state."
        )
    return _reference(unit, currents, theta, state, pool, rate)


def _compiled(
    found: "UnitScan",
    unit: Unit,
    currents: Tensor,
    theta: Theta,
    state: State,
    pool: int,
    final: bool,
    local: bool,
    spent: bool,
    rate: Tensor | None,
) -> tuple[Tensor, State]:
    scan = found.scan
    if state is None and not found.rests_at_zero:
        state = unit.init(currents[0])
    if isinstance(state, Pivot):
        leaves = [state.value]
    else:
        leaves = [None] * scan.states if state is None else state_leaves(state)
    _check(unit, currents, theta, leaves, pool)
    values = [theta[name] for name in unit.learn]
    if isinstance(state, Pivot):
        return scan.run_step(currents, values, state, pool=pool, spent=spent)
    if len(leaves) != scan.states:
        raise Unsupported("a state of another form")
    if local:
        with suppress(Unsupported):
            return scan.run_step(currents, values, leaves, pool=pool, spent=spent)
    steps = currents.shape[0]
    once = currents[:1] if steps > 1 and currents.stride(0) == 0 else currents
    clean = bool(leaves) and leaves[0] is None

    def again(once: Tensor, *rest: Tensor) -> list[Tensor]:
        train = once.expand(steps, *once.shape[1:])
        values, given = rest[: scan.thetas], iter(rest[scan.thetas :])
        theta: Any = dict(zip(unit.learn, values, strict=True))
        state = None if clean else map_state(found.form, lambda _: next(given))
        out, last = _reference(unit, train, theta, state, pool, rate)
        return [out, *(state_leaves(last) if final else [])]

    how = {"pool": pool, "finals": final, "spent": spent, "rate": rate}
    out, last = scan.run(once, values, leaves, steps=steps, again=again, **how)
    after = iter(last)
    return out, map_state(found.form, lambda _: next(after)) if final else None


def _reference(
    unit: Unit, currents: Tensor, theta: Theta, state: State, pool: int, rate: Tensor | None
) -> tuple[Tensor, State]:
    if rate is not None:
        theta = through_statistics(currents, theta, rate)
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
    if like.device.type != "cpu" or not ordinary(like, *others):
        return None
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
        return tuple((name, one, getattr(one, "_version", 0)) for name, one in vars(unit).items())
    values = [*getattr(unit, "__dict__", {}).values()]
    if "__slots__" in vars(type(unit)):
        values += [getattr(unit, name) for name in vars(type(unit))["__dataclass_fields__"]]
    parts = [one for one in values if type(one) not in _FIXED]
    return tuple(_changeable(one) for one in parts if hasattr(one, "__dict__"))


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
        return UnitScan(Scan(step, len(unit.learn), len(state_leaves(form))), form, zero)
    except Unsupported:
        return None


def _plain(state: State) -> bool:
    """Whether all that a state carries are tensors, which a compiled loop can move on."""
    if isinstance(state, tuple):
        return all(_plain(part) for part in state)
    return state is None or isinstance(state, Tensor)
