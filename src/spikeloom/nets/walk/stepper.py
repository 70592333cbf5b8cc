"""A net that runs step by step and keeps its state inside."""

from collections.abc import Callable

from torch import Tensor

from spikeloom.nets.walk.state import NetState


class Stepper:
    """Runs a net step by step; see `SpikingNet.stepper`.

    Args:
        step: returns features and the new state from an input and the state before it (None at
            the first step).
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
