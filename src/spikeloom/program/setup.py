"""From a recipe to live objects: data, net, head, rule, optimizer, device."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ConfigError, ShapeError, addressed
from spikeloom.base.seeding import SampleRng, derive_seed
from spikeloom.base.types import ALONE, Across, Batch, InputKind
from spikeloom.data import Samples, Splits
from spikeloom.data.augment import Augment
from spikeloom.data.units import axes_advice
from spikeloom.encoders import Encoder
from spikeloom.heads.base import HEADS, Head
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.site import Site
from spikeloom.nets.module.size import measure
from spikeloom.nets.spec.codec import from_options
from spikeloom.program.fabric import DTYPES, Place, default_type, make_fabric
from spikeloom.program.inputs import load_splits
from spikeloom.program.joint_norm import join_norms
from spikeloom.program.processes import Team
from spikeloom.program.recipe import HEAD_OWN, Recipe
from spikeloom.program.room import check_room, check_train
from spikeloom.program.stage import Optimizer, Stage
from spikeloom.program.tables import placed
from spikeloom.program.weights import class_weights
from spikeloom.rules.base import LearningRule


@dataclass(frozen=True)
class Workbench:
    """All that one stage of a run works with."""

    recipe: Recipe
    number: int
    fabric: Place
    team: Team
    splits: Splits
    encoder: Encoder
    augment: Augment | None
    net: SpikingNet
    head: Head
    rule: LearningRule
    steps: int

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.recipe.stages[self.number]

    @property
    def dtype(self) -> torch.dtype:
        """Type of inputs and weights."""
        return DTYPES.get(self.recipe.precision, torch.float32)

    @property
    def input_kind(self) -> InputKind:
        """What the net is given: said by encoder and data; a net without time sees real values."""
        spiking = self.rule.facts.spiking
        return self.encoder.gives(self.splits.values) if spiking else "constant"

    def modules(self) -> nn.ModuleDict:
        """Return net and head under one roof, for weights on disk."""
        return nn.ModuleDict({"net": self.net, "head": self.head})

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return what is trained, by name."""
        named = [*self.modules().named_parameters()]
        named += [(f"rule.{row}", one) for row, one in enumerate(self.rule.parameters())]
        return [(name, one) for name, one in named if one.requires_grad]

    def set_training(self) -> None:
        """Bring net and head into the mode they are trained in; a frozen body keeps its norms."""
        self.net.train(not self.stage.freeze_body)
        self.head.train()

    def inference_parameters(self) -> list[nn.Parameter]:
        """Return the parameters a prediction needs, shared ones once."""
        head = [one for site in self.head.inference_sites for one in site.synapse.parameters()]
        return [*self.net.parameters(), *head]

    @cached_property
    def class_weights(self) -> Tensor | None:
        """What a sample of each class counts in the loss, on the device; None where all count 1."""
        weights = class_weights(self.stage, self.splits)
        return None if weights is None else weights.to(self.fabric.device)

    def batch(
        self,
        samples: Samples,
        index: Tensor,
        *,
        epoch: int,
        part: str,
        number: int = 0,
        across: Across = ALONE,
    ) -> Batch:
        """Encode some samples; draws depend on (seed, part, epoch, sample) alone.

        `across` is for batches that all processes learn from at once, and for no others.
        """
        x, target = samples.raw(index)
        device = self.fabric.device
        rng = SampleRng(self.recipe.seed, epoch, index, stream=part)
        x = x.to(device)  # as stored: bytes travel faster than floats
        if self.augment is not None and part == "train":
            x = self.augment.apply(x, rng, samples.scaling)
        x = samples.scaling.apply(x, self.dtype)
        if self.rule.facts.spiking:
            xs = self.encoder.encode(x, self.steps, rng)
        else:
            xs = self.encoder.still(x).unsqueeze(0)
        return Batch(xs, target.to(device), rng, number, across)


def set_up(
    recipe: Recipe,
    splits: Splits | None = None,
    *,
    stage: int = -1,
    fabric: Place | None = None,
    prepared: bool = True,
    training: bool | None = None,
) -> Workbench:
    """Build everything a stage of a recipe names.

    Args:
        recipe: checked.
        splits: data already loaded, for several runs on the same data.
        stage: number of the stage; the last one is the one a finished run is left with.
        fabric: launched; None makes one for this process alone.
        prepared: let the rule check the net and set up what it owns.
        training: whether memory for gradients and optimizer must be there; None as `prepared`.

    Raises:
        ConfigError, DataError, ShapeError, UnsupportedNet: what does not fit, with its path.
    """
    recipe.check()
    number = range(len(recipe.stages))[stage]
    fabric = make_fabric(recipe, processes=1) if fabric is None else fabric
    team = Team(fabric)
    if splits is None:
        splits = load_splits(recipe)
    encoder = recipe.build_encoder()
    now = recipe.stages[number]
    rule = now.learning_rule()
    spiking = rule.facts.spiking
    steps = now.steps if spiking else 1
    spec = recipe.net.spec()
    if not spiking:
        spec = spec.as_ann()
    if spec.readout is not None and spec.readout.out != splits.classes:
        todo = "set net.classes to it" if recipe.net.preset else f"end with f{splits.classes}"
        raise ConfigError(
            f"net: expected a last layer of {splits.classes} neurons for data '{splits.name}', got "
            f"f{spec.readout.out}; {todo}."
        )
    seed = recipe.seed
    shape, encoded = _input_shape(recipe, now, splits, encoder)
    check_room(
        f"stages.{number}",
        now,
        measure(spec, shape),
        classes=splits.classes,
        samples=-(-min(now.batch, len(splits.train)) // team.size),
        encoded=encoded,
        kind=DTYPES.get(recipe.precision, torch.float32),
        device=fabric.device,
        training=prepared if training is None else training,
    )
    with default_type(recipe.precision):  # on the CPU, whose draws are those of every device
        execution = recipe.build_execution()
        net = SpikingNet(spec, shape, seed=derive_seed(seed, "net"), execution=execution)
        named = HEADS.find(recipe.head.name)
        kind = named if spiking else named.baseline()
        options = from_options(kind, recipe.head.options, "head", skip=HEAD_OWN)
        with addressed(f"head.{recipe.head.name}", "head"):
            head = kind.of(net, seed=derive_seed(seed, "head"), **options)
    with addressed("class_weights", f"stages.{number}.class_weights"):
        if class_weights(now, splits) is not None and not kind.takes_weights():
            raise ConfigError(
                f"class_weights: expected a head whose loss takes weights of samples, got "
                f"'{recipe.head.name}'; drop them, or let its loss take weights=."
            )
    if head.classes != splits.classes:
        raise ConfigError(
            f"net: expected a last population of {splits.classes} neurons for data "
            f"'{splits.name}', got {head.classes}; end with [f{splits.classes}]."
        )
    if now.freeze_body:
        net.requires_grad_(False)
    if team.size > 1:
        join_norms(net)
    augment = recipe.build_augment()
    if augment is not None:
        augment.check(splits.shape)
    bench = Workbench(
        recipe, number, fabric, team, splits, encoder, augment, net, head, rule, steps
    )
    bench.modules().to(fabric.device)
    _check_batches(bench)
    if prepared:
        prepare(bench)
    return bench


def _check_batches(bench: Workbench) -> None:
    """Refuse batches too small for the norms, and teams that a rule or a batch cannot feed."""
    where, size = f"stages.{bench.number}", bench.team.size
    smallest = min(map(len, batches(len(bench.splits.train), bench.stage.batch, None)))
    if smallest < fewest_samples(bench):
        raise ShapeError(
            f"{where}.batch: expected 2 samples or more for a batch norm that sees one value per "
            f"channel of each, got {smallest}; raise it (and data.train_size) or use norm = "
            "'weight'."
        )
    if smallest < size:
        raise ConfigError(
            f"devices: expected at most {smallest} processes for batches of {smallest}, got "
            f"{size}; raise {where}.batch or use fewer."
        )
    facts = bench.rule.facts
    if size > 1 and not (facts.linear_in_batch or facts.gathers):
        raise ConfigError(
            f"devices: expected 1 process for rule '{bench.stage.rule.name}', whose update is not "
            f"the mean over the batch, got {size}; drop --devices."
        )
    looped = _norm_in_a_loop(bench.net) if facts.order == "equilibrium" else None
    if size > 1 and looped is not None:
        raise ConfigError(
            f"devices: expected 1 process for rule '{bench.stage.rule.name}' with a batch norm "
            f"inside a feedback loop (layer {looped.name}), got {size}: each process solves for "
            "its own samples, and the norm couples them; drop --devices or that norm."
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


def fewest_samples(bench: Workbench) -> int:
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


def prepare(bench: Workbench) -> None:
    """Let the rule check its net and set up what it owns.

    Raises:
        UnsupportedNet: the rule cannot train the net.
    """
    train = bench.splits.train
    first = torch.arange(min(2, len(train)))
    sample = bench.batch(train, first, epoch=0, part="prepare")
    with addressed(f"{bench.rule.place()}.", f"stages.{bench.number}.rule."):  # its options alone
        bench.rule.prepare(bench.net, bench.head.sites, sample)


def _input_shape(
    recipe: Recipe, stage: Stage, splits: Splits, encoder: Encoder
) -> tuple[tuple[int, ...], int]:
    """Encode one sample; return its shape at a time step and its bytes over all steps.

    Raises:
        ConfigError: one sample alone does not fit into memory.
        ShapeError: data and encoder do not fit, in T or in rank.
    """
    index = torch.zeros(1, dtype=torch.long)
    x, _ = splits.train.take(index)
    rule, time = stage.rule.name, splits.scaling.time
    if time != encoder.reads_time and (time or splits.scaling.mean):
        raise ConfigError(
            f"encoder '{recipe.encoder.name}': expected data "
            f"{'with' if encoder.reads_time else 'without'} a time axis, got '{splits.name}' with "
            f"time = {str(time).lower()}; {axes_advice(splits.shape)}"
        )
    with placed(f"encoder '{recipe.encoder.name}' with rule '{rule}', T = {stage.steps}"):
        if stage.learning_rule().facts.spiking:
            check_train("steps", stage.steps, encoder.still(x))
            train = encoder.encode(x, stage.steps, SampleRng(recipe.seed, 0, index))
        else:
            train = encoder.still(x).unsqueeze(0)
    shape = tuple(train.shape[2:])
    if len(shape) not in (1, 3):
        raise ShapeError(
            f"encoder '{recipe.encoder.name}': expected [C, H, W] or [D] at every step, got "
            f"{list(shape)} from data '{splits.name}'; {axes_advice(splits.shape)}"
        )
    return shape, train.untyped_storage().nbytes()


def make_optimizer(
    settings: Optimizer,
    parameters: Iterable[nn.Parameter],
    *,
    undecayed: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Build the optimizer; Adam's and AdamW's updates are torch's fused ones.

    Args:
        settings: of the stage.
        parameters: what is trained.
        undecayed: those of them that no weight decay falls on.
    """
    groups = _groups(parameters, undecayed if settings.weight_decay else ())
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    adam: dict[str, Any] = common | {"betas": settings.betas, "fused": True}
    match settings.name:
        case "sgd":
            return torch.optim.SGD(groups, momentum=settings.momentum, **common)
        case "adam":
            return torch.optim.Adam(groups, **adam)
        case "adamw":
            return torch.optim.AdamW(groups, **adam)
        case "radam":
            return torch.optim.RAdam(groups, betas=settings.betas, **common)


def _groups(
    parameters: Iterable[nn.Parameter], undecayed: Iterable[nn.Parameter]
) -> list[dict[str, Any]]:
    """Put neighbours that are decayed alike into one group.

    Torch numbers parameters group by group. Groups of neighbours keep the order of `parameters`, so
    a saved state means the same parameters with and without weight decay.
    """
    spared = {id(parameter) for parameter in undecayed}
    return [
        {"params": list(neighbours)} | ({"weight_decay": 0.0} if free else {})
        for free, neighbours in groupby(parameters, key=lambda parameter: id(parameter) in spared)
    ]


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


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
