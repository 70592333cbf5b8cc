"""The rectifier as a unit: baseline networks, hybrid networks and conversion need it."""

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

    @property
    def learn(self) -> tuple[str, ...]:
        """Return nothing: there is no threshold and no decay."""
        return ()

    @property
    def per_channel(self) -> bool:
        """Return False."""
        return False

    def init(self, current: Tensor) -> None:
        """Return no state."""

    def step(self, state: None, current: Tensor, theta: Theta) -> tuple[Tensor, None]:
        """Rectify; any leading axes are allowed, since nothing is carried."""
        return current.relu(), None

    def rate(self, current: Tensor, theta: Theta) -> Tensor:
        """Return the output itself."""
        return current.relu()
