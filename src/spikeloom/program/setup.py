"""From a recipe to live objects: data, net, head, rule, optimizer, device."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
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
from spikeloom.nets.module.size import measure
from spikeloom.nets.spec.codec import from_options
from spikeloom.program.batching import check_batches
from spikeloom.program.fabric import DTYPES, Place, default_type, make_fabric
from spikeloom.program.inputs import load_splits
from spikeloom.program.joint_norm import join_norms
from spikeloom.program.processes import Team
from spikeloom.program.recipe import HEAD_OWN, Recipe
from spikeloom.program.room import check_room, check_train
from spikeloom.program.stage import Optimizer, Stage
from spikeloom.program.tables import placed
from spikeloom.program.weights import class_weights
from spikeloom.rules.base import LearningRule, rules_within
from spikeloom.rules.commit import named_parameters
from spikeloom.rules.memory import Memory
from spikeloom.tasks.base import TASKS, Task


@dataclass(eq=False)
class Workbench:
    """The objects of one stage of a run: data, net, head, rule, optimizer settings, device.

    `memory` is what the rule remembers now. The other fields stay as they are.
    """

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
    task: Task
    memory: Memory = field(default_factory=Memory)

    @cached_property
    def stage(self) -> Stage:
        """The stage."""
        return self.recipe.stages[self.number]

    @property
    def dtype(self) -> torch.dtype:
        """Type of inputs and weights."""
        return DTYPES.get(self.recipe.precision, torch.float32)

    @property
    def input_kind(self) -> InputKind:
        """Kind of the net's input, from encoder and data; a net without time sees real values."""
        spiking = self.rule.facts.spiking
        return self.encoder.gives(self.splits.values) if spiking else "constant"

    def modules(self) -> nn.ModuleDict:
        """Return net and head as one module, for weights on disk."""
        return nn.ModuleDict({"net": self.net, "head": self.head})

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return what is trained, by name."""
        return [(name, one) for name, one in self.all_parameters() if one.requires_grad]

    def all_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return all parameters, by name: frozen ones and the rule's own too."""
        return named_parameters(self.rule, self.memory, self.net, self.head)

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
    task = recipe.build_task()
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
        raise ConfigError.of(
            "net",
            f"a last layer of {splits.classes} neurons for data '{splits.name}'",
            f"f{spec.readout.out}",
            todo,
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
            raise ConfigError.of(
                "class_weights",
                "a head whose loss takes weights of samples",
                f"'{recipe.head.name}'",
                "drop them, or let its loss take weights=",
            )
    numbers = splits.train.y.is_floating_point()
    if task.labels == numbers:
        fitting = [name for name in TASKS.names() if TASKS.find(name).labels != numbers]
        kind = "real numbers" if numbers else "class numbers"
        raise ConfigError.of(
            "task",
            f"one for the {kind} of data '{splits.name}': {', '.join(fitting)}",
            f"'{recipe.task.name}'",
            "set it",
        )
    for part, samples in splits.parts():
        with addressed(f"data.{splits.name}", "task"):
            task.check(f"data.{splits.name}.{part}", samples.y, splits.classes)
    if head.classes != splits.classes:
        raise ConfigError.of(
            "net",
            f"a last population of {splits.classes} neurons for data '{splits.name}'",
            head.classes,
            f"end with [f{splits.classes}]",
        )
    if now.freeze_body:
        net.requires_grad_(False)
    if team.size > 1:
        join_norms(net)
    augment = recipe.build_augment()
    if augment is not None:
        augment.check(splits.shape, splits.values)
    bench = Workbench(
        recipe, number, fabric, team, splits, encoder, augment, net, head, rule, steps, task
    )
    bench.modules().to(fabric.device)
    check_batches(bench)
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
    with ExitStack() as stack:
        for rule, path in rules_within(bench.rule, f"stages.{bench.number}.rule"):
            stack.enter_context(addressed(f"{rule.place()}.", f"{path}."))  # its options alone
        memory = bench.rule.prepare(bench.net, bench.head.sites, sample)
    bench.memory = Memory() if memory is None else memory


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
        raise ConfigError.of(
            f"encoder '{recipe.encoder.name}'",
            f"data {'with' if encoder.reads_time else 'without'} a time axis",
            f"'{splits.name}' with time = {str(time).lower()}",
            f"take encoder 'frames', with steps = {splits.shape[0]}"
            if time and len(splits.shape) == 2
            else axes_advice(splits.shape),
        )
    with placed(f"encoder '{recipe.encoder.name}' with rule '{rule}', T = {stage.steps}"):
        if stage.learning_rule().facts.spiking:
            check_train("steps", stage.steps, encoder.still(x))
            train = encoder.encode(x, stage.steps, SampleRng(recipe.seed, 0, index))
        else:
            train = encoder.still(x).unsqueeze(0)
    shape = tuple(train.shape[2:])
    if len(shape) not in (1, 3):
        raise ShapeError.of(
            f"encoder '{recipe.encoder.name}'",
            "[C, H, W] or [D] at every step",
            f"{list(shape)} from data '{splits.name}'",
            axes_advice(splits.shape),
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


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
