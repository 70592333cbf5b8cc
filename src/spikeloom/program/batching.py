"""How samples are cut into batches, and which batches a net or a rule cannot take."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site

if TYPE_CHECKING:
    from spikeloom.program.setup import Workbench


def batches(count: int, size: int, seed: int | None) -> list[Tensor]:
    """Cut `count` samples into batches of at most `size`, alike within one sample.

    A batch of one is avoided, since it has no statistics: an odd number in pairs ends in a three.

    Args:
        count: number of samples.
        size: largest batch.
        seed: of the order; None keeps the stored order.
    """
    order = torch.arange(count)
    if seed is not None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    parts = -(-count // size)
    if size > 1 and count > parts > count // 2:
        parts = count // 2
    return list(torch.tensor_split(order, parts))


def check_batches(bench: "Workbench") -> None:
    """Refuse batches too small for the norms, and teams that a rule or a batch cannot feed."""
    where, size = f"stages.{bench.number}", bench.team.size
    smallest = min(map(len, batches(len(bench.splits.train), bench.stage.batch, None)))
    if smallest < fewest_samples(bench):
        raise ShapeError.of(
            f"{where}.batch",
            "2 samples or more for a batch norm that sees one value per channel of each",
            smallest,
            "raise it (and data.train_size) or use norm = 'weight'",
        )
    if smallest < size:
        raise ConfigError.of(
            "devices",
            f"at most {smallest} processes for batches of {smallest}",
            size,
            f"raise {where}.batch or use fewer",
        )
    facts = bench.rule.facts
    if size > 1 and not (facts.linear_in_batch or facts.gathers):
        raise ConfigError.of(
            "devices",
            f"1 process for rule '{bench.stage.rule.name}', whose update is not the mean over "
            "the batch",
            size,
            "drop --devices",
        )
    looped = _norm_in_a_loop(bench.net) if facts.order == "equilibrium" else None
    if size > 1 and looped is not None:
        raise ConfigError.of(
            "devices",
            f"1 process for rule '{bench.stage.rule.name}' with a batch norm inside a feedback "
            f"loop (layer {looped.name})",
            f"{size}: each process solves for its own samples, and the norm couples them",
            "drop --devices or that norm",
        )


def _norm_in_a_loop(net: SpikingNet) -> Site | None:
    """Return a site with batch norm that a feedback edge's signal passes on its way round."""
    for edge in net.plan.edges:
        blocks = net.plan.blocks[edge.spec.target : edge.spec.source + 1]
        first = blocks[0].passes[0].sites[0] if blocks else None  # its norm is before the sum
        for site in (*edge.sites, *(site for block in blocks for site in block.sites)):
            if site.norm is not None and site is not first:
                return site
    return None


def fewest_samples(bench: "Workbench") -> int:
    """Return how many samples a batch must have for every norm to have a variance: 1 or 2."""
    blocks, tail = bench.net.plan.blocks, bench.net.spec.tail
    once = {site for block in blocks[tail:] for site in block.sites} if tail is not None else set()
    together = bench.steps if bench.rule.facts.order == "layer" else 1
    values = (
        site.values_per_channel(1, 1 if site in once else together)
        for site in bench.net.sites
        if site.norm is not None
    )
    return 1 if min(values, default=2) > 1 else 2
