"""From a recipe to live objects: data, net, head, rule, optimizer, device."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import SampleRng, derive_seed
from spikeloom.base.types import ALONE, Across, Batch
from spikeloom.data import Samples, Splits
from spikeloom.data.augment import Augment
from spikeloom.data.units import axes_advice
from spikeloom.encoders import Encoder
from spikeloom.heads.base import HEADS, Head
from spikeloom.nets.codec import from_options
from spikeloom.nets.net import SpikingNet
from spikeloom.rules.base import LearningRule
from spikeloom.train.inputs import load_splits
from spikeloom.train.joint_norm import join_norms
from spikeloom.train.processes import Team
from spikeloom.train.recipe import HEAD_OWN, Recipe
from spikeloom.train.stage import Optimizer, Stage
from spikeloom.train.tables import placed

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_DTYPES = {"64-true": torch.float64}


@dataclass(frozen=True)
class Workbench:
    """All that one stage of a run works with."""

    recipe: Recipe
    number: int
    fabric: "Fabric"
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
        return _DTYPES.get(self.recipe.precision, torch.float32)

    def modules(self) -> nn.ModuleDict:
        """Return net and head under one roof, for weights on disk."""
        return nn.ModuleDict({"net": self.net, "head": self.head})

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return what is trained, by name."""
        named = [*self.modules().named_parameters()]
        named += [(f"rule.{row}", one) for row, one in enumerate(self.rule.parameters())]
        return [(name, one) for name, one in named if one.requires_grad]

    def inference_parameters(self) -> list[nn.Parameter]:
        """Return the parameters a prediction needs, shared ones once."""
        head = [one for site in self.head.inference_sites for one in site.synapse.parameters()]
        return [*self.net.parameters(), *head]

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
    fabric: "Fabric | None" = None,
    prepared: bool = True,
) -> Workbench:
    """Build everything a stage of a recipe names.

    Args:
        recipe: checked.
        splits: data already loaded, for several runs on the same data.
        stage: number of the stage; the last one is the one a finished run is left with.
        fabric: launched; None makes one for this process alone.
        prepared: let the rule check the net and set up what it owns.

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
    shape = _input_shape(recipe, now, splits, encoder)
    with fabric.init_module(), torch.device("cpu"):  # draws are the CPU's on every device
        execution = recipe.build_execution()
        net = SpikingNet(spec, shape, seed=derive_seed(seed, "net"), execution=execution)
        named = HEADS.find(recipe.head.name)
        kind = named if spiking else named.baseline()
        options = from_options(kind, recipe.head.options, "head", skip=HEAD_OWN)
        head = kind.of(net, seed=derive_seed(seed, "head"), **options)
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
    if smallest == 1 and any(site.norm is not None for site in bench.net.sites):
        raise ShapeError(
            f"{where}.batch: expected 2 samples or more for a net with batch norm, got 1; raise "
            "it (and data.train_size) or use norm = 'weight'."
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


def prepare(bench: Workbench) -> None:
    """Let the rule check its net and set up what it owns.

    Raises:
        UnsupportedNet: the rule cannot train the net.
    """
    train = bench.splits.train
    first = torch.arange(min(2, len(train)))
    sample = bench.batch(train, first, epoch=0, part="prepare")
    bench.rule.prepare(bench.net, bench.head.sites, sample)


def _input_shape(recipe: Recipe, stage: Stage, splits: Splits, encoder: Encoder) -> tuple[int, ...]:
    """Encode one sample and return its shape at a time step.

    Raises:
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
            train = encoder.encode(x, stage.steps, SampleRng(recipe.seed, 0, index))
        else:
            train = encoder.still(x).unsqueeze(0)
    shape = tuple(train.shape[2:])
    if len(shape) not in (1, 3):
        raise ShapeError(
            f"encoder '{recipe.encoder.name}': expected [C, H, W] or [D] at every step, got "
            f"{list(shape)} from data '{splits.name}'; {axes_advice(splits.shape)}"
        )
    return shape


def make_fabric(recipe: Recipe, *, processes: int | None = None) -> "Fabric":
    """Return Lightning Fabric for the recipe's device and precision, not yet launched.

    Under torchrun the processes are there already and may lie on several machines.

    Args:
        recipe: names device, precision and number of processes.
        processes: instead of the recipe's.

    Raises:
        ConfigError: the device does not exist here, or not as often, or torchrun started another
            number of processes.
    """
    count = recipe.devices if processes is None else processes
    there = torch.cuda.device_count()
    if recipe.device == "cuda" and not there:
        raise ConfigError("device: expected a CUDA device for 'cuda', got none; use 'cpu'.")
    cuda = there > 0 and recipe.device != "cpu"
    most = there if cuda else max(2, os.cpu_count() or 1)  # two show what several do, anywhere
    if count > most and not _launched():
        what = "CUDA devices" if cuda else "processor cores"
        raise ConfigError(
            f"devices: expected at most the {most} {what} of this machine, got {count}; use fewer, "
            "or torchrun for several machines."
        )
    if _launched() and count != int(os.environ["WORLD_SIZE"]):
        raise ConfigError(
            f"devices: expected one process for each that torchrun started, "
            f"{os.environ['WORLD_SIZE']}, got {count}; start without torchrun, or as many."
        )
    from lightning.fabric import Fabric

    for room in ("fabric", "pytorch"):  # its greetings are no news to the user
        logging.getLogger(f"lightning.{room}").setLevel(logging.WARNING)
    machines = int(os.environ.get("GROUP_WORLD_SIZE", "1")) if _launched() else 1
    return Fabric(
        accelerator=recipe.device,
        devices=max(1, count // machines),
        num_nodes=machines,
        strategy="ddp" if count > 1 else "auto",
        precision=recipe.precision,
    )


def _launched() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def make_optimizer(
    settings: Optimizer, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimizer; Adam's and AdamW's updates are torch's fused ones."""
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    adam: dict[str, Any] = common | {"betas": settings.betas, "fused": True}
    match settings.name:
        case "sgd":
            return torch.optim.SGD(parameters, momentum=settings.momentum, **common)
        case "adam":
            return torch.optim.Adam(parameters, **adam)
        case "adamw":
            return torch.optim.AdamW(parameters, **adam)
        case "radam":
            return torch.optim.RAdam(parameters, betas=settings.betas, **common)


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
