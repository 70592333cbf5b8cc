"""Synapses whose weights are a user's: read from their layer at every use."""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.weight_norm import WeightNorm

from spikeloom.base.torch_private import hooks_of, prunes, share_tables
from spikeloom.nets.module.synapse import Shape, Synapse
from spikeloom.nets.spec.layer import LayerSpec


class LentSynapse(Synapse):
    """The map of a user's own layer: weight and bias are read from the layer at every use.

    Its tables of parameters, buffers and children *are* the layer's, so that whatever is exchanged,
    moved, pruned or parametrised there is so here, and names stay those of any other synapse.

    Args:
        spec: the layer's spec.
        in_shape: see `Synapse`.
        where: the layer's name, for errors.
        layer: the user's Conv2d, ConvTranspose2d or Linear.
    """

    layer: nn.Module

    def __init__(self, spec: LayerSpec, in_shape: Shape, where: str, layer: nn.Module) -> None:
        super().__init__(spec, in_shape, where)
        shaping = self.shaping
        share_tables(self, layer)
        # not as children, which would be the layer's too
        object.__setattr__(self, "shaping", shaping)
        object.__setattr__(self, "layer", layer)

    def _make_parameters(self) -> None:
        """Make none: they are the layer's."""

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer's weight, as its own forward would see it."""
        return made(self.layer, "weight")

    @property
    def bias(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer's bias, likewise."""
        return made(self.layer, "bias")


def made(layer: nn.Module, name: str) -> Any:
    """Return a layer's weight or bias as its forward would see it: pruned, normed, parametrised."""
    for hook in hooks_of(layer):
        if isinstance(hook, BasePruningMethod) and prunes(hook, layer, name):
            return hook.apply_mask(layer)
        if isinstance(hook, WeightNorm) and hook.name == name:
            return hook.compute_weight(layer)
    return getattr(layer, name)
