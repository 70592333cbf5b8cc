"""What every contender has to train: one net on one shape of input, the same weights for all."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeloom.base.errors import ConfigError
from spikeloom.heads.base import Head
from spikeloom.heads.softmax import Softmax
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.weight import Standardised
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Arctan

RATE = 0.2
"""Share of ones in the input, drawn anew at every step."""

UNIT = LIF(alpha=0.5, v_th=1.0, detach_reset=True, surrogate=Arctan(2.0))
"""The neuron: soft reset, no gradient through the reset."""


class Fire(nn.Module):
    """Stands where a layer has neurons; each contender puts its own there."""


@dataclass(frozen=True)
class Workload:
    """One net on one shape of input.

    Args:
        name: as `--workloads` takes it.
        about: the net in words.
        text: the net in the grammar of `nets.spec.grammar`; plain chains of conv, linear and pools.
        shape: of one sample.
        steps: T.
        batch: B.
        standardised: scaled weight standardisation in every layer with neurons.
    """

    name: str
    about: str
    text: str
    shape: tuple[int, ...]
    steps: int
    batch: int
    standardised: bool = False

    @property
    def images(self) -> bool:
        """Whether a sample is [C, H, W]."""
        return len(self.shape) == 3

    def sized(self, *, steps: int | None = None, batch: int | None = None) -> "Workload":
        """Return it with another T or B."""
        return replace(self, steps=steps or self.steps, batch=batch or self.batch)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Workload":
        """Build it from `to_dict`'s table, also after a trip through JSON."""
        return cls(**{**table, "shape": tuple(table["shape"])})

    def data(self) -> tuple[Tensor, Tensor]:
        r"""Draw the input and the labels; the same at every call.

        Shape:
            input: [T, B, \*shape]; labels: [B].
        """
        generator = torch.Generator().manual_seed(1)
        size = (self.steps, self.batch, *self.shape)
        spikes = (torch.rand(size, generator=generator) < RATE).float()
        return spikes, torch.randint(10, (self.batch,), generator=generator)

    def spiking(self, *, feedback: bool = False) -> tuple[SpikingNet, Head]:
        """Return the net as ours, with its own initial weights: chosen so that layers fire.

        Args:
            feedback: with an edge from the first layer to itself besides, for rules that want one.
        """
        norm = "weight" if self.standardised else "none"
        text = self.text
        if feedback:
            lateral = f"{text.split()[0]}{{bias = false}}"
            edge = f"source = 0, target = 0, layers = '{lateral}', restrict = 1.0"
            text = f"{{feedback = [{{{edge}}}]}} {text}"
        net = SpikingNet(parse(text, unit=UNIT, norm=norm), self.shape)
        return net, Softmax.of(net)

    def layers(self) -> list[nn.Module]:
        """Return the net as torch's own modules with the same weights; `Fire` where neurons are."""
        net, head = self.spiking()
        synapses = [site.synapse for site in (*net.sites, *head.sites) if site.spec.weighted]
        modules = list(self._chain())
        theirs = [one for one in modules if isinstance(one, (nn.Conv2d, nn.Linear))]
        for synapse, module in zip(synapses, theirs, strict=True):
            assert synapse.bias is not None
            module.weight, module.bias = synapse.weight, synapse.bias
            if isinstance(synapse.shaping, Standardised):
                parametrize.register_parametrization(module, "weight", synapse.shaping)
        return modules

    def _chain(self) -> Iterator[nn.Module]:
        spec, channels, sides = parse(self.text), self.shape[0], list(self.shape[1:])
        hidden = [block.layers[0] for block in spec.blocks]
        assert spec.readout is not None and all(len(one.layers) == 1 for one in spec.blocks)
        for layer in (*hidden, spec.readout):
            if layer.kind == "linear" and sides:
                yield nn.Flatten()
                for side in sides:
                    channels *= side
                sides = []
            yield _module(layer, channels)
            if layer.kind in ("avg_pool", "global_pool"):
                sides = [side // layer.kernel_size for side in sides]
                sides = [1 for _ in sides] if layer.kind == "global_pool" else sides
                continue
            channels = layer.out
            if layer is not spec.readout:
                yield Fire()


def _module(layer: LayerSpec, channels: int) -> nn.Module:
    match layer.kind:
        case "avg_pool":
            return nn.AvgPool2d(layer.kernel_size)
        case "global_pool":
            return nn.AdaptiveAvgPool2d(1)
        case "conv":
            return nn.Conv2d(channels, layer.out, layer.kernel_size, padding=layer.pad_size)
        case "linear":
            return nn.Linear(channels, layer.out)
        case _:
            raise ConfigError(
                f"bench.workloads: expected layers c, f, P and G, got '{layer.kind}'; leave it out."
            )


_ALL = (
    Workload(
        "conv",
        "3x32x32: conv 64, conv 128, pool, conv 256, pool, full 256, full 10",
        "c64 c128 P c256 P f256 f10",
        (3, 32, 32),
        steps=8,
        batch=16,
    ),
    Workload("mlp", "784-512-512-10", "f512 f512 f10", (784,), steps=25, batch=128),
    Workload(
        "vgg11-ws",
        "VGG-11 with weight standardisation on 3x32x32, global pool (Xiao et al. 2022)",
        "c64 c128 P c256 c256 P c512 c512 P c512 c512 G f10",
        (3, 32, 32),
        steps=6,
        batch=32,
        standardised=True,
    ),
    Workload(
        "long",
        "512-512-10, one layer of 512 neurons over a long train",
        "f512 f10",
        (512,),
        steps=500,
        batch=16,
    ),
)

WORKLOADS: Mapping[str, Workload] = MappingProxyType({one.name: one for one in _ALL})
"""All workloads by name."""

QUICK: Mapping[str, Workload] = MappingProxyType(
    {
        one.name: one.sized(steps=max(2, one.steps // 5), batch=max(2, one.batch // 8))
        for one in _ALL
    }
)
"""The same nets, shorter and on small batches: to see that everything runs, not to judge."""

SMALL_CONV = Workload(
    "small conv",
    "3x16x16: conv 16, conv 32, pool, full 64, full 10",
    "c16 c32 P f64 f10",
    (3, 16, 16),
    steps=8,
    batch=16,
)
"""A conv net small enough for T and B in many sizes."""
