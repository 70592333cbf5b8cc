"""Synapses that use the weights of a user's layer, read from the layer at every use."""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.weight_norm import WeightNorm

from spikeloom.base.torch_private import hooks_of, prunes, share_tables
from spikeloom.nets.module.synapse import Shape, Synapse
from spikeloom.nets.spec.layer import LayerSpec


class LentSynapse(Synapse):
    """The linear map of a user's layer: weight and bias are read from the layer at every use.

    The dicts of parameters, buffers and children are the layer's own objects, not copies. So a
    parameter that is replaced, moved, pruned or parametrised in the layer changes here too, and
    parameter names are those of any other synapse.

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
        # set as plain attributes: as children they would also become children of the layer
        object.__setattr__(self, "shaping", shaping)
        object.__setattr__(self, "layer", layer)

    def _make_parameters(self) -> None:
        """Make no parameters: the layer has them."""

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer's weight, as the layer's own forward uses it."""
        return made(self.layer, "weight")

    @property
    def bias(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer's bias, as the layer's own forward uses it."""
        return made(self.layer, "bias")


def made(layer: nn.Module, name: str) -> Any:
    """Return a layer's weight or bias as its forward uses it: pruned, normed, parametrised."""
    for hook in hooks_of(layer):
        if isinstance(hook, BasePruningMethod) and prunes(hook, layer, name):
            return hook.apply_mask(layer)
        if isinstance(hook, WeightNorm) and hook.name == name:
            return hook.compute_weight(layer)
    return getattr(layer, name)
