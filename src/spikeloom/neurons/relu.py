"""The rectified linear unit, for baselines, hybrid networks and conversion."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeloom.base.fields import Checked
from spikeloom.neurons.base import UNITS, Theta


@UNITS.register("relu")
@dataclass(frozen=True)
class Relu(Checked):
    r"""Rectified linear unit, without state.

    .. math:: y = \max(0, c)

    Source:
        Panda et al. 2020, sec. 6: front layers of hybrid networks and the ANN baselines.
    """

    spiking: ClassVar[bool] = False
    stateful: ClassVar[bool] = False
    # not annotated, so neither fields of the dataclass nor ClassVars, which `Unit` does not allow
    learn = ()
    per_channel = False

    def init(self, current: Tensor) -> None:
        """Return no state."""

    def step(self, state: None, current: Tensor, theta: Theta) -> tuple[Tensor, None]:
        """Rectify a current of any shape, also a whole train."""
        return current.relu(), None

    def rate(self, current: Tensor, theta: Theta) -> Tensor:
        """Return the output."""
        return current.relu()
