"""What the input of a batch is: as its encoder said, checked, or read from a bare train."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeloom.base.errors import DataError, wrong_choice
from spikeloom.base.types import InputKind
from spikeloom.nets.walk.walk import is_constant

KINDS = ("constant", "real", "events", "counts")


@dataclass(frozen=True, eq=False)
class Input:
    """The input of a batch.

    Args:
        constant: every step is the first one again, so that it is computed once.
        events: which samples are made of events; others are real-valued, whatever their values.

    Shape:
        events: [B], bool.
    """

    constant: bool
    events: Tensor


def read_input(xs: Tensor, kind: InputKind | None, where: str) -> Input:
    r"""Hold an input against what is said of it.

    Args:
        xs: the train.
        kind: see `meters.base.watch`.
        where: place for messages.

    Shape:
        xs: [T, B, \*in_shape].

    Raises:
        ConfigError: no such kind.
        DataError: a constant that changes, events beside -1, 0 and 1, counts that are no whole
            numbers, or one step of events seen T times through a view.
    """
    if kind is not None and kind not in KINDS:
        raise wrong_choice(f"{where}.kind", kind, KINDS)
    view = is_constant(xs)
    if kind in ("events", "counts"):
        _check_events(xs, kind, view, where)
        return Input(False, _of_all(xs, True))
    same = view or (kind != "real" and bool((xs[1:] == xs[:1]).all()))
    if kind == "constant" and not same:
        raise DataError(
            f"{where}: expected a constant input, the same at every step, got one that changes; "
            "say kind = 'real', 'events' or 'counts'."
        )
    if kind is not None or (view and len(xs) > 1):
        return Input(same, _of_all(xs, False))
    plain = ((xs == 0) | (xs.abs() == 1)).transpose(0, 1).flatten(1).all(1)  # [B]
    if same and len(xs) > 1 and not bool(plain.all()):
        return Input(True, _of_all(xs, False))
    return Input(len(xs) == 1, plain)


def _check_events(xs: Tensor, kind: str, view: bool, where: str) -> None:
    if view and len(xs) > 1:
        raise DataError(
            f"{where}: expected {kind} of their own at every step, got one step seen {len(xs)} "
            "times; say kind = 'constant', or pass xs.contiguous()."
        )
    good = (xs == xs.round()) if kind == "counts" else (xs == 0) | (xs.abs() == 1)
    if not bool(good.all()):
        expected = "whole numbers" if kind == "counts" else "-1, 0 and 1"
        raise DataError(
            f"{where}: expected {kind}, which are {expected}, got {xs[~good][0].item():.6g}; say "
            "kind = 'real', or give the data their scale."
        )


def _of_all(xs: Tensor, truth: bool) -> Tensor:
    return torch.full((xs.shape[1],), truth, device=xs.device)
