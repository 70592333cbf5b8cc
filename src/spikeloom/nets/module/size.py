"""Size of a net before it is built, so that nets that do not fit into memory fail at once."""

from dataclasses import dataclass, replace
from math import prod

import torch

from spikeloom.base.errors import ConfigError, too_big
from spikeloom.base.memory import in_words, total_bytes
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.synapse import Shape, Synapse
from spikeloom.nets.spec.net import NetSpec

LEAST = 4
"""Bytes of a value: nets are built in float32."""


@dataclass
class Size:
    """Size of a net that is not built yet.

    Args:
        parameters: number of weights and biases of all synapses, shared ones counted once.
        widest: number of outputs of the largest layer for one sample at one step.
        features: number of features that the head reads for one sample at one step.
    """

    parameters: int = 0
    widest: int = 0
    features: int = 0


def measure(spec: NetSpec, in_shape: Shape) -> Size:
    """Build a net on torch's meta device, which takes no memory, and count.

    Raises:
        ConfigError: the weights, or a layer's outputs for one sample, do not fit into memory.
        ShapeError, UnsupportedNet: a net that cannot be built; names the layer.
    """
    size, room = Size(), total_bytes()

    def see(synapse: Synapse, where: str) -> None:
        size.parameters += sum(one.numel() for one in synapse.parameters())
        size.widest = max(size.widest, prod(synapse.out_shape))
        for what, count in (("weights", size.parameters), ("maps of one sample", size.widest)):
            if room is not None and LEAST * count > room:
                raise _refused(where, f"{what} that fit into", room, in_words(LEAST * count))

    bare = replace(spec, feedback=tuple(replace(edge, mask=None) for edge in spec.feedback))
    try:
        with torch.device("meta"):
            plan = Plan(bare, in_shape, see)
    except RuntimeError as error:
        if too_big(error) is None:
            raise
        raise _refused("net", "sizes that fit into", room or 2**63, "more than 64 bits") from None
    size.features = prod(plan.out_shape)
    return size


def check_weights(spec: NetSpec) -> None:
    """Refuse a net whose weights do not fit into memory, whatever the shape of the data.

    Raises:
        ConfigError: it is too large.
    """
    room, least = total_bytes(), LEAST * least_parameters(spec)
    if room is not None and least > room:
        raise _refused("net", "weights that fit into", room, f"{in_words(least)} at least")


def least_parameters(spec: NetSpec) -> int:
    """Return a lower bound on the number of weights, without knowing the shape of the input.

    It adds up in channels times out channels times window over all layers.
    """
    least, channels = 0, 1
    layers = [layer for block in spec.blocks for layer in block.layers]
    for layer in (*layers, *([spec.readout] if spec.readout else [])):
        if layer.weighted:
            least += channels * layer.out * layer.kernel_size**2
            channels = layer.out
    return least


def _refused(where: str, expected: str, room: int, came: str) -> ConfigError:
    place = where if where == "net" else f"net layer {where}"
    return ConfigError(
        f"{place}: expected {expected} the {in_words(room)} of this machine, got {came}; make the "
        "net or the samples smaller."
    )
