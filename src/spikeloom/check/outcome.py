"""How a check ends: silently, with what is wrong, or with why it does not apply."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from traceback import FrameSummary
from typing import Any, TypeAlias

import torch
from torch import Tensor

Places: TypeAlias = Iterable[tuple[str, Callable[[], Any]]]
"""What a check tries, by place: a net, a head, a type. An attempt may return further places."""


ALSO = " / "
"""Between net, kernels, layout in the name of a place."""


class CheckFailed(AssertionError):
    """A rule does not keep what a check asks.

    The message reads ``subject: expected ..., got ...; todo.``
    Failures with the same `expected` and `todo` have one cause; the rest may differ between places.

    Args:
        subject: tensor, field or call that is wrong.
        expected: what holds for right rules.
        came: what was found.
        todo: what its author does.
    """

    def __init__(self, subject: str, expected: str, came: object, todo: str) -> None:
        super().__init__(f"{subject}: expected {expected}, got {came}; {todo}.")
        self.cause = (expected, todo)


class CheckSkipped(Exception):  # noqa: N818
    """The check says nothing about this rule; the message says why."""


def require(held: bool, subject: str, expected: str, came: object, todo: str) -> None:
    """Fail the check unless the condition holds; see `CheckFailed`."""
    if not held:
        raise CheckFailed(subject, expected, came, todo)


def agree(
    found: Mapping[str, Tensor],
    right: Mapping[str, Tensor],
    expected: str,
    todo: str,
    *,
    rtol: float = 1e-9,
    atol: float = 1e-11,
) -> None:
    """Fail the check unless tensors are the `right` ones, to rounding; name those that differ.

    `expected` and `todo` are words as in `CheckFailed`; `rtol` and `atol` of 0 ask for equal bits.
    """
    alone = sorted(found.keys() ^ right.keys())
    require(not alone, listed(alone), expected, "it in one of two runs only", todo)
    other = [
        key
        for key, value in found.items()
        if not torch.allclose(value, right[key], rtol=rtol, atol=atol)
    ]
    require(not other, listed(other), expected, "other values", todo)


def listed(names: Iterable[str], most: int = 3) -> str:
    """Return names in a row; of many, how many more there are."""
    names = [*names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def place(frames: Iterable[FrameSummary], rule: object) -> str:
    """Return file and line of what happened: the last in a rule's own file, if it passed there."""
    frames, own = [*frames], inspect.getsourcefile(type(rule))
    last = [frame for frame in frames if frame.filename == own][-1:] or frames[-1:]
    return f"{Path(last[0].filename).name}:{last[0].lineno}"
