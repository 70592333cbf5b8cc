"""Multiply-accumulates of a topology from its spec and shapes alone: no weight is allocated."""

from dataclasses import dataclass
from typing import Literal

import torch

from spikeloom.base.errors import UnsupportedNet
from spikeloom.meters._pairs import count, formula, pairs
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.site import Role
from spikeloom.nets.module.synapse import Shape, Synapse
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.nets.spec.net import NetSpec


@dataclass(frozen=True)
class LayerMacs:
    """One layer of one pass, run once.

    Args:
        name: of the site; "readout" is the spec's last linear layer.
        unit: "spiking", "analog" or "none".
        role: where it lies.
        formula: eq. 8's MACs.
        pairs: the same, padding excluded.
    """

    name: str
    unit: Literal["spiking", "analog", "none"]
    role: Role
    formula: int
    pairs: int


@dataclass(frozen=True)
class Topology:
    """The layers with weights of a net, in order of computation, and their sums.

    Args:
        layers: passes apart.
        parameters: trained numbers, shared ones once, the readout's among them.
        unique: layers with weights, shared ones once.
    """

    layers: tuple[LayerMacs, ...]
    parameters: int
    unique: int

    @property
    def logical(self) -> int:
        """Layers with weights, every pass counted."""
        return sum(layer.role != "feedback" for layer in self.layers)

    @property
    def formula(self) -> int:
        """Eq. 8's MACs of one run, feedback left out."""
        return sum(layer.formula for layer in self.layers if layer.role != "feedback")

    @property
    def pairs(self) -> int:
        """The same, padding excluded."""
        return sum(layer.pairs for layer in self.layers if layer.role != "feedback")

    @property
    def ceiling(self) -> float:
        r"""Bound on the energy efficiency of a hybrid net in the paper's convention.

        .. math:: EE \le \frac{\sum_l MAC_l}{\sum_{l \in ReLU} MAC_l}

        Infinite without an analog layer. A readout behind spikes counts as spiking.

        Source:
            Eq. 8-11 of Panda et al. 2020 with free spiking layers.
        """
        analog = sum(layer.formula for layer in self.layers if layer.unit == "analog")
        return self.formula / analog if analog else float("inf")


def topology(spec: NetSpec | str, in_shape: Shape) -> Topology:
    """Lay a net out on the meta device and count.

    Args:
        spec: the network, or its text.
        in_shape: one sample's shape, (C, H, W) or (D,).

    Raises:
        ConfigError, ShapeError, UnsupportedNet: an impossible net, named by layer.

    Source:
        Panda et al. 2020, eq. 8.

    Example:
        >>> topology(parse("c64 P [c64]x4 P f1024 f10", bias=False), (3, 32, 32)).formula
        43722752
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    for edge in spec.feedback:
        if edge.mask is not None:
            raise UnsupportedNet(
                "meters.topology: expected feedback without fixed sparse wiring, got a mask; "
                "use topology(spec.as_ann(), in_shape), which has no feedback."
            )
    readout: Synapse | None = None
    with torch.device("meta"):
        plan = Plan(spec, tuple(in_shape))
        if spec.readout is not None:
            readout = Synapse(spec.readout, (count(plan.out_shape),), "readout")
    layers = [
        LayerMacs(
            site.name,
            _unit_kind(site.spec),
            site.role,
            formula(site.synapse),
            pairs(site.synapse),
        )
        for site in plan.sites
        if site.spec.weighted
    ]
    parameters = sum(one.numel() for one in plan.parameters())
    unique = len({id(site.synapse) for site in plan.sites if site.spec.weighted})
    if readout is not None:
        layers.append(LayerMacs("readout", "none", "readout", formula(readout), pairs(readout)))
        parameters += sum(one.numel() for one in readout.parameters())
        unique += 1
    return Topology(tuple(layers), parameters, unique)


def _unit_kind(spec: LayerSpec) -> Literal["spiking", "analog", "none"]:
    if spec.neurons is None:
        return "none"
    return "spiking" if spec.neurons.spiking else "analog"
