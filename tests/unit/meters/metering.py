"""Nets with exact arithmetic and shorthands to measure them."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from spikeloom.base.types import Batch, InputKind
from spikeloom.heads.softmax import Softmax
from spikeloom.meters._pairs import formula, pairs
from spikeloom.meters.base import watch
from spikeloom.meters.operations import OperationMeter
from spikeloom.meters.record import OperationRecord
from spikeloom.meters.spikes import SpikeMeter, SpikeRecord
from spikeloom.nets.module.build import Plan
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.synapse import Synapse
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.net import NetSpec

TEXT, SHAPE = "c8 P c8 f16 f10", (2, 8, 8)


def dyadic_net(text: str | NetSpec, in_shape: tuple[int, ...], seed: int = 0) -> SpikingNet:
    """A net whose weights are k/256, none of them 0: sums are exact in any order."""
    net = SpikingNet(text, in_shape).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            draw = torch.randint(-48, 80, weight.shape, generator=generator)
            weight.copy_((2 * draw + 1) / 256)
    return net


def set_weight(net: SpikingNet, site: int, weight: Tensor) -> None:
    with torch.no_grad():
        net.sites[site].synapse.weight.copy_(weight)


def bernoulli(*shape: int, p: float = 0.3, seed: int = 0) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < p).float()


def measure(
    net: SpikingNet,
    batches: Sequence[Tensor],
    *,
    by: str = "layer",
    head: Softmax | None = None,
    kind: InputKind | None = None,
) -> tuple[OperationRecord, SpikeRecord]:
    operations, spikes = OperationMeter(), SpikeMeter()
    for xs in batches:
        with torch.no_grad(), watch(net, xs, operations, spikes, kind=kind):
            features = net.run_by_time(xs) if by == "time" else net.run_by_layer(xs)
            if head is not None:
                scores = head.logits(head.reduced(features)).unsqueeze(0)
                for meter in (operations, spikes):
                    meter.see(head.site, features, scores, scores)
    return operations.read(), spikes.read()


def operations_of(net: SpikingNet, xs: Tensor, **options: object) -> OperationRecord:
    return measure(net, [xs], **options)[0]  # pyright: ignore[reportArgumentType]


def site_named(record: OperationRecord, name: str):
    return next(site for site in record.sites if site.name == name)


def learning(rule, steps, *, constant, batch=4, text=TEXT):
    """One call of a rule on a net with gradients in place."""
    net = SpikingNet(text, SHAPE)
    head = Softmax.of(net)
    generator = torch.Generator().manual_seed(1)
    xs = torch.rand(1 if constant else steps, batch, *SHAPE, generator=generator)
    xs = xs.expand(steps, -1, -1, -1, -1)
    data = Batch.of(xs, torch.arange(batch) % 10)

    def call():
        rule.learn(net, data, head.bind(data.target, data.rng), lambda: None)

    call()
    return call


class Laid:
    """A net laid out on the meta device: layers with weights, the readout last.

    `layers` holds role, unit ("spiking", "analog" or None) and MACs of eq. 8; `pairs` are those
    without padding. Feedback counts in neither sum.
    """

    def __init__(self, spec, in_shape):
        spec = parse(spec) if isinstance(spec, str) else spec
        with torch.device("meta"):
            plan = Plan(spec, in_shape)
            readout = Synapse(spec.readout, (prod(plan.out_shape),), "readout")
        sites = [site for site in plan.sites if site.spec.weighted]
        synapses = [*(site.synapse for site in sites), readout]
        roles = [*(site.role for site in sites), "readout"]
        kinds = [site.unit and ("spiking" if site.unit.spiking else "analog") for site in sites]
        self.layers = list(zip(roles, [*kinds, None], map(formula, synapses), strict=True))
        inside = [one for one, role in zip(synapses, roles, strict=True) if role != "feedback"]
        self.unique, self.logical = len(set(map(id, synapses))), len(inside)
        self.formula, self.pairs = sum(map(formula, inside)), sum(map(pairs, inside))
        self.parameters = sum(p.numel() for part in (plan, readout) for p in part.parameters())
