"""Rates of the blocks that send feedback, measured while a net runs step by step."""

from torch import Tensor

from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.walk.state import NetState
from spikeloom.neurons.base import Unit
from spikeloom.neurons.reduction import RunningMean, decay_of


class EdgeRates:
    r"""Running mean rates of the blocks that send feedback.

    Each mean is weighted over time by the decay of the unit that sends
    (`neurons.reduction.RunningMean`).

    Args:
        net: a net with at least one feedback edge.

    Example:
        >>> import torch
        >>> net = SpikingNet('{feedback = [{source = 0, target = 0, layers = "f4"}]} f4 f2', (3,))
        >>> rates, state = EdgeRates(net), None
        >>> for frame in torch.ones(5, 2, 3):
        ...     features, state = net.step(frame, state)
        ...     rates.add(state)
        >>> rates.values[0].shape
        torch.Size([2, 4])
    """

    def __init__(self, net: SpikingNet) -> None:
        self._means = {
            edge.number: RunningMean(decay_of(_unit_before(net, edge.spec.source)))
            for edge in net.plan.edges
        }

    def add(self, state: NetState) -> None:
        """Add the outputs of one step, from the state after it."""
        for number, mean in self._means.items():
            mean.add(state.feedback[number][-1])

    @property
    def values(self) -> dict[int, Tensor]:
        r"""Rates so far, by the edge's number.

        Shape:
            each: [B, \*out_shape], with out_shape of the edge's source block.
        """
        return {number: mean.value for number, mean in self._means.items()}


def _unit_before(net: SpikingNet, block: int) -> Unit | None:
    site = net.plan.blocks[block].upstream
    return None if site is None else site.unit
