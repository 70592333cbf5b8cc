"""A net on its way through time, with its state kept inside."""

from collections.abc import Callable

from torch import Tensor

from spikeloom.nets.walk.state import NetState


class Stepper:
    """Takes a net from step to step; see `SpikingNet.stepper`.

    Args:
        step: from an input and the state before it (None at first) to features and the state after.
    """

    def __init__(self, step: Callable[[Tensor, NetState | None], tuple[Tensor, NetState]]) -> None:
        self._step = step
        self._state: NetState | None = None

    def __call__(self, x: Tensor) -> Tensor:
        r"""Advance one time step and return its features.

        Shape:
            x: [B, \*in_shape]; features: [B, D].

        Raises:
            ShapeError, UnsupportedNet: as `SpikingNet.step`.
        """
        h, self._state = self._step(x, self._state)
        return h
