"""Recipes: a run as typed, frozen values; a wrong key fails before any data is read."""

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import model_validator

from spikeloom.base.checks import Form, Length, at_least, expect
from spikeloom.base.errors import ConfigError, addressed, unknown_name
from spikeloom.base.toml import LARGEST_WHOLE
from spikeloom.data import DATA
from spikeloom.data.augment import Augment
from spikeloom.encoders import ENCODERS, Encoder
from spikeloom.heads.base import HEADS
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.size import check_weights
from spikeloom.nets.spec.codec import from_hints, from_options, from_table, to_table
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.layer import Share
from spikeloom.nets.spec.net import NetSpec
from spikeloom.nets.spec.presets import PRESETS, preset
from spikeloom.neurons.base import UNITS, Unit
from spikeloom.neurons.leaky import LIF
from spikeloom.program.own_time import with_own_time
from spikeloom.program.places import located
from spikeloom.program.shipped import recipe_file
from spikeloom.program.stage import Choice, Stage
from spikeloom.program.tables import Strict, build_model, placed, read_toml
from spikeloom.tasks.base import TASKS, Task

Name = Annotated[
    str,
    Form(
        r"[A-Za-z0-9][A-Za-z0-9._-]*",
        "letters, digits and . _ -, the first a letter or digit",
    ),
]
"""Name of a recipe or comparison, and so of its folder."""

Seed = Annotated[int, at_least(0, most=LARGEST_WHOLE)]

HEAD_OWN = ("features", "classes", "bias", "seed")
"""Options of a head that the net and the seed decide."""

_DEFAULTS = ("norm", "bias", "gain", "dropout")
_BESIDE = {
    "text": ("classes",),
    "preset": _DEFAULTS,
    "table": ("classes", "unit", *_DEFAULTS),
}


class Net(Strict):
    """The network: a text, a preset or a table; a bare string is a text or a preset's name.

    Args:
        text: in the grammar of `nets.spec.grammar`.
        preset: name of a preset.
        table: fields of `NetSpec` (blocks, readout, feedback, input_psp).
        classes: width of the readout in the place of the preset's.
        unit: neurons of layers that name none; options without a name change the default or the
            preset's.
        norm, bias, gain, dropout: defaults of layers the text says nothing about.
    """

    bare: ClassVar[str | None] = "net"

    text: str | None = None
    preset: str | None = None
    table: dict[str, Any] | None = None
    classes: Annotated[int, at_least(2)] | None = None
    unit: Choice | None = None
    norm: Literal["none", "batch_all", "batch_step", "weight"] | None = None
    bias: bool | None = None
    gain: float | None = None
    dropout: Share | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Let options of a unit without its name change the recipe's own or the default unit."""
        unit = value.get("unit") if isinstance(value, Mapping) else None
        if not isinstance(unit, Mapping):
            return value
        chosen = PRESETS.get(str(value.get("preset")))
        return {**value, "unit": _completed(unit, LIF() if chosen is None else chosen.unit)}

    @model_validator(mode="after")
    def _one_source(self) -> "Net":
        sources = [key for key in ("text", "preset", "table") if getattr(self, key) is not None]
        if len(sources) != 1:
            came = " and ".join(sources) or "none"
            raise ConfigError.of("", "one of text, preset and table", came, "give one")
        for key in _BESIDE[sources[0]]:
            value = getattr(self, key)
            expect(value is None, key, f"none beside a {sources[0]}", value, "drop it")
        return self

    def spec(self) -> NetSpec:
        """Build the spec."""
        if self.table is not None:
            return from_table(NetSpec, self.table, "net.table")
        unit = self._unit()
        if self.preset is not None:
            return preset(self.preset, unit=unit, classes=self.classes)
        assert self.text is not None
        fields = {name: getattr(self, name) for name in _DEFAULTS} | {"unit": unit}
        given = {name: value for name, value in fields.items() if value is not None}
        try:
            spec = parse(self.text, **given)
        except ConfigError:
            if get_close_matches(self.text, PRESETS):
                raise unknown_name("net", "preset", self.text, PRESETS) from None
            raise
        units = [layer.neurons for block in spec.blocks for layer in block.layers if layer.neurons]
        if unit is not None and units and unit not in units:
            raise ConfigError.of(
                "net.unit",
                "layers that name no unit",
                f"'{self.text}', whose own text names all of them",
                "change them there, or drop net.unit",
            )
        return spec

    def _unit(self) -> Unit | None:
        if self.unit is None:
            return None
        table = {"name": self.unit.name} | self.unit.options
        return from_table(Unit, table, "net.unit")  # pyright: ignore[reportAbstractUsage]


def _completed(table: Mapping[str, Any], base: Unit) -> dict[str, Any]:
    """Return a unit's table with the name, and where that was missing the fields, of `base`.

    A surrogate without a name likewise changes the one that the unit has.
    """
    full = dict(table)
    if "name" not in full:
        full = to_table(base) | full
    elif full["name"] in UNITS.names() and full["name"] != to_table(base)["name"]:
        base = UNITS.find(str(full["name"]))()
    own, slope = vars(base).get("surrogate"), full.get("surrogate")
    if own is not None and isinstance(slope, Mapping) and "name" not in slope:
        full["surrogate"] = to_table(own) | dict(slope)
    return full


class Paper(Strict):
    """Which publication a recipe follows."""

    title: str
    doi: str = ""
    table: str = ""
    row: str = ""


class Published(Strict):
    """What the publication reports, and what it leaves open."""

    accuracy: float | None = None
    tolerance: float | None = None
    steps: int | None = None
    open: str = ""


class Recipe(Strict):
    """A whole run.

    Args:
        name: of the run folder.
        net, data, encoder: what is trained on what.
        task: what is learned, and how answers are judged.
        head: what is trained on the net's features; the task's own where none is named.
        augment: random changes of training pictures, as `Augment` takes them.
        execution: how the net is computed, as `Execution` takes it.
        stages: one after the other; weights are handed on by name.
        seed: of weights, order and every draw.
        precision: Lightning Fabric's names, e.g. "32-true", "bf16-mixed", "64-true".
        device: "auto", "cpu" or "cuda".
        devices: how many processes share each batch.
        paper, published: what it reproduces.
    """

    name: Name
    net: Net
    data: Choice
    task: Choice = Choice(name="classify")
    head: Choice = Choice(name="softmax")
    encoder: Choice = Choice(name="constant")
    augment: dict[str, Any] = {}
    execution: dict[str, Any] = {}
    stages: Annotated[tuple[Stage, ...], Length(1, "stage")]
    seed: Seed = 0
    precision: Literal["32-true", "64-true", "bf16-mixed"] = "32-true"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, at_least(1, most=1024)] = 1
    paper: Paper | None = None
    published: Published | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Let options of task, head and encoder stand without the name of the default.

        What the data alone decide, encoder and T, is completed where it is left out.
        """
        if not isinstance(value, Mapping):
            return value
        defaults = {key: cls.model_fields[key].default.name for key in ("task", "head", "encoder")}
        task = value.get("task", defaults["task"])
        task = task.get("name", defaults["task"]) if isinstance(task, Mapping) else task
        own = TASKS.find(task).head if task in TASKS.names() else defaults["head"]
        if own != defaults["head"]:
            defaults["head"] = own
            value = {"head": own} | dict(value)
        named = {
            key: {"name": name} | dict(value[key])
            for key, name in defaults.items()
            if isinstance(value.get(key), Mapping)
        }
        return with_own_time({**value, **named})

    @property
    def last(self) -> Stage:
        """The last stage: the one whose net is reported."""
        return self.stages[-1]

    def build_task(self) -> Task:
        """Build the task."""
        kind = TASKS.find(self.task.name, "task")
        return from_table(kind, self.task.options, "task")

    def build_encoder(self) -> Encoder:
        """Build the encoder."""
        kind = ENCODERS.find(self.encoder.name, "encoder")
        return from_table(kind, self.encoder.options, "encoder")

    def build_augment(self) -> Augment | None:
        """Build what changes training pictures; None for nothing."""
        return from_table(Augment, self.augment, "augment") if self.augment else None

    def build_execution(self) -> Execution:
        """Build what says how the net is computed."""
        return from_table(Execution, self.execution, "execution")

    def check(self) -> "Recipe":
        """Find every name and build everything that needs no data.

        Raises:
            ConfigError: with the path of the key.
        """
        for row, stage in enumerate(self.stages):
            stage.learning_rule(f"stages.{row}.rule")
        task = self.build_task()
        self.build_encoder()
        self.build_augment()
        self.build_execution()
        check_weights(self.net.spec())
        head = HEADS.find(self.head.name, "head")
        if head.labels != task.labels:
            fitting = [name for name in HEADS.names() if HEADS.find(name).labels == task.labels]
            raise ConfigError.of(
                "head",
                f"one for the targets of task '{self.task.name}': {', '.join(fitting)}",
                f"'{self.head.name}'",
                "choose one, or change the task",
            )
        with addressed(f"head.{self.head.name}", "head"):
            head(2, 2, **from_options(head, self.head.options, "head", skip=HEAD_OWN))
        info = DATA.find(self.data.name, "data")
        from_hints(info.load, info.hints, self.data.options, "data")
        return self

    def with_seed(self, seed: int) -> "Recipe":
        """Return the recipe with another seed."""
        return self.model_copy(update={"seed": seed})


def fingerprint(recipe: Recipe) -> str:
    """Return a short text that differs for recipes that differ."""
    return _fingerprint(recipe.model_dump(mode="json"))


def fingerprint_as_written(recipe: Recipe) -> str:
    """Return the fingerprint of a recipe as it was read, without keys that it did not have.

    Of the recipe in a run folder this is its fingerprint at the time it was written, also where the
    library has gained settings since.
    """
    return _fingerprint(recipe.model_dump(mode="json", exclude_unset=True))


def _fingerprint(table: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe file, or a shipped recipe by its name.

    Its path of data is relative to the file (`located`).
    """
    file = recipe_file(path)
    table = read_toml(file)
    with placed(str(path)):
        table = located(table, file.parent)
    return build_recipe(table, str(path))


def build_recipe(table: Mapping[str, Any], where: str) -> Recipe:
    """Build and check a recipe from its table.

    Raises:
        ConfigError: with the path of the key.
    """
    if "entries" in table:
        raise ConfigError.of(
            where, "a recipe", "a comparison with entries", "use `spikeloom compare`"
        )
    recipe = build_model(Recipe, table, where)
    with placed(where):
        return recipe.check()
