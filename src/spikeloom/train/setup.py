"""From a recipe to live objects: data, net, head, rule, optimizer, device."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ConfigError, ShapeError
from spikeloom.base.seeding import SampleRng, derive_seed
from spikeloom.base.types import Batch
from spikeloom.data import Samples, Splits, load_data
from spikeloom.encoders import Encoder
from spikeloom.heads.base import HEADS, Head
from spikeloom.nets.codec import from_options
from spikeloom.nets.net import SpikingNet
from spikeloom.rules.base import LearningRule
from spikeloom.train.recipe import HEAD_OWN, Optimizer, Recipe, Schedule, Stage
from spikeloom.train.tables import placed

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_DTYPES = {"64-true": torch.float64}


@dataclass(frozen=True)
class Workbench:
    """All that one run works with."""

    recipe: Recipe
    fabric: "Fabric"
    splits: Splits
    encoder: Encoder
    net: SpikingNet
    head: Head
    rule: LearningRule
    steps: int

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.recipe.stage

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
        self, samples: Samples, index: Tensor, *, epoch: int, part: str, number: int = 0
    ) -> Batch:
        """Encode some samples; draws depend on (seed, part, epoch, sample) alone."""
        x, target = samples.take(index, dtype=self.dtype)
        device = self.fabric.device
        rng = SampleRng(self.recipe.seed, epoch, index, stream=part)
        x = x.to(device)
        if self.rule.facts.spiking:
            xs = self.encoder.encode(x, self.steps, rng)
        else:
            xs = self.encoder.still(x).unsqueeze(0)
        return Batch(xs, target.to(device), rng, number)


def set_up(recipe: Recipe, splits: Splits | None = None, *, prepared: bool = True) -> Workbench:
    """Build everything a recipe names.

    Args:
        recipe: checked.
        splits: data already loaded, for several runs on the same data.
        prepared: let the rule check the net and set up what it owns.

    Raises:
        ConfigError, DataError, ShapeError, UnsupportedNet: what does not fit, with its path.
    """
    recipe.check()
    fabric = make_fabric(recipe)
    if splits is None:
        splits = load_data(recipe.data.name, **recipe.data.options)
    encoder = recipe.build_encoder()
    rule = recipe.stage.learning_rule()
    spiking = rule.facts.spiking
    steps = recipe.stage.steps if spiking else 1
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
    shape = _input_shape(recipe, splits, encoder, steps if spiking else None)
    with fabric.init_module(), torch.device("cpu"):  # draws are the CPU's on every device
        net = SpikingNet(spec, shape, seed=derive_seed(seed, "net"))
        kind = HEADS.find(recipe.head.name)
        options = from_options(kind, recipe.head.options, "head", skip=HEAD_OWN)
        head = kind.of(net, seed=derive_seed(seed, "head"), **options)
    if recipe.stage.freeze_body:
        net.requires_grad_(False)
    bench = Workbench(recipe, fabric, splits, encoder, net, head, rule, steps)
    bench.modules().to(fabric.device)
    smallest = min(map(len, batches(len(splits.train), recipe.stage.batch, None)))
    if smallest == 1 and any(site.norm is not None for site in net.sites):
        raise ShapeError(
            "stages.0.batch: expected 2 samples or more for a net with batch norm, got 1; raise "
            "it (and data.train_size) or use norm = 'weight'."
        )
    if prepared:
        prepare(bench)
    return bench


def prepare(bench: Workbench) -> None:
    """Let the rule check its net and set up what it owns.

    Raises:
        UnsupportedNet: the rule cannot train the net.
    """
    train = bench.splits.train
    first = torch.arange(min(2, len(train)))
    sample = bench.batch(train, first, epoch=0, part="prepare")
    bench.rule.prepare(bench.net, bench.head.sites, sample)


def _input_shape(
    recipe: Recipe, splits: Splits, encoder: Encoder, steps: int | None
) -> tuple[int, ...]:
    """Encode one sample and return its shape at a time step; no steps means a net without time.

    Raises:
        ShapeError: data and encoder do not fit, in T or in rank.
    """
    index = torch.zeros(1, dtype=torch.long)
    x, _ = splits.train.take(index)
    with placed(
        f"encoder '{recipe.encoder.name}' with rule '{recipe.stage.rule.name}', T = {steps}"
    ):
        if steps is None:
            train = encoder.still(x).unsqueeze(0)
        else:
            train = encoder.encode(x, steps, SampleRng(recipe.seed, 0, index))
    if splits.scaling.mean and encoder.still(x).dim() < x.dim():
        raise ConfigError(
            "data.normalise: expected false for data with a time axis, got true, which would "
            "normalise each frame by itself; normalise the file's values beforehand."
        )
    shape = tuple(train.shape[2:])
    if len(shape) not in (1, 3):
        raise ShapeError(
            f"encoder '{recipe.encoder.name}': expected [C, H, W] or [D] at every step, got "
            f"{list(shape)} from data '{splits.name}' {list(splits.shape)}; take encoder "
            "'frames' for data with a time axis, another for data without."
        )
    return shape


def make_fabric(recipe: Recipe) -> "Fabric":
    """Return Lightning Fabric for the recipe's device and precision.

    Raises:
        ConfigError: the device does not exist here, or lacks the precision.
    """
    cuda = torch.cuda.is_available()
    if recipe.device == "cuda" and not cuda:
        raise ConfigError("device: expected a CUDA device for 'cuda', got none; use 'cpu'.")
    from lightning.fabric import Fabric

    return Fabric(accelerator=recipe.device, devices=1, precision=recipe.precision)


def make_optimizer(
    settings: Optimizer, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimizer."""
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    match settings.name:
        case "sgd":
            return torch.optim.SGD(parameters, momentum=settings.momentum, **common)
        case "adam":
            return torch.optim.Adam(parameters, **common)
        case "adamw":
            return torch.optim.AdamW(parameters, **common)


def make_schedule(
    settings: Schedule, optimizer: torch.optim.Optimizer, epochs: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Build the schedule; it advances once per epoch."""
    schedulers = torch.optim.lr_scheduler
    match settings.name:
        case "constant":
            return schedulers.ConstantLR(optimizer, factor=1.0)
        case "cosine":
            return schedulers.CosineAnnealingLR(optimizer, T_max=epochs)
        case "step":
            return schedulers.StepLR(optimizer, settings.every, settings.factor)


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
