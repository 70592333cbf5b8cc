"""How a check ends: silently, with a sentence of what is wrong, or with why it does not apply."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from traceback import FrameSummary

import torch
from torch import Tensor


class CheckFailed(AssertionError):
    """A rule does not keep what the check asks; the message is a sentence for its author."""


class CheckSkipped(Exception):  # noqa: N818
    """The check says nothing about this rule; the message says why."""


def require(held: bool, message: str) -> None:
    """Fail the check unless the condition holds.

    Raises:
        CheckFailed: it does not.
    """
    if not held:
        raise CheckFailed(message)


def agree(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    why: str,
    where: str = "",
    *,
    rtol: float = 1e-9,
    atol: float = 1e-11,
) -> None:
    """Fail the check unless both hold the same, to rounding.

    Args:
        found: tensors by name.
        expected: what they should be.
        why: what to say behind the name of a tensor that differs.
        where: what to say before it.
        rtol: as in `torch.allclose`.
        atol: likewise.

    Raises:
        CheckFailed: they do not.
    """
    for key in found.keys() ^ expected.keys():
        raise CheckFailed(f"{where}{key} exists in one of two runs only; it {why}")
    for key, value in found.items():
        same = torch.allclose(value, expected[key], rtol=rtol, atol=atol)
        require(same, f"{where}{key} {why}")


def place(frames: Sequence[FrameSummary], rule: object) -> str:
    """Return file and line of what happened: the last in a rule's own file, if it passed there."""
    own = inspect.getsourcefile(type(rule))
    last = [frame for frame in frames if frame.filename == own][-1:] or frames[-1:]
    return f"{Path(last[0].filename).name}:{last[0].lineno}"
