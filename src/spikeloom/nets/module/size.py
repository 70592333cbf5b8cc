"""What a net takes, before anything of it is built: what no machine can hold is refused at once."""

from dataclasses import dataclass, replace
from math import prod

import torch

from spikeloom.base.errors import ConfigError, too_big
from spikeloom.base.memory import in_words, total_bytes
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.synapse import Shape, Synapse
from spikeloom.nets.spec.net import NetSpec

LEAST = 4
"""Bytes of a weight, and of what a layer computes, in the types that are built."""


@dataclass
class Size:
    """Numbers of a net that is not there yet.

    Args:
        parameters: weights and biases of all synapses, shared ones once.
        widest: values that the widest layer computes for one sample at one step.
        features: what the head reads of one sample at one step.
    """

    parameters: int = 0
    widest: int = 0
    features: int = 0


def measure(spec: NetSpec, in_shape: Shape) -> Size:
    """Lay a net out without memory for it, and count.

    Raises:
        ConfigError: weights, or a layer's values for one sample, do not fit into this machine.
        ShapeError, UnsupportedNet: an impossible net, named by layer.
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
    """Refuse a net whose weights no data could make small enough for this machine.

    Raises:
        ConfigError: it is too large.
    """
    room, least = total_bytes(), LEAST * least_parameters(spec)
    if room is not None and least > room:
        raise _refused("net", "weights that fit into", room, f"{in_words(least)} at least")


def least_parameters(spec: NetSpec) -> int:
    """Return channels times width times window, added over all layers: at most what a net has."""
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
