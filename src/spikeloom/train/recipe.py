"""Recipes: a run as typed, frozen values, read from TOML; a wrong key fails before any data."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spikeloom.base.errors import ConfigError, SpikeloomError, unknown_name
from spikeloom.data import DATA
from spikeloom.encoders import ENCODERS, Encoder
from spikeloom.heads.base import HEADS
from spikeloom.nets.codec import from_options, from_table
from spikeloom.nets.grammar import parse
from spikeloom.nets.presets import PRESETS, preset
from spikeloom.nets.spec import NetSpec
from spikeloom.neurons.base import UNITS, Unit
from spikeloom.rules.base import RULES, LearningRule

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of all parts: frozen, no unknown keys, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Choice(BaseModel):
    """Something found by name in a registry, with its options; a bare name is enough."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """Everything besides the name."""
        return dict(self.model_extra or {})


class Net(Strict):
    """The network: a text of the grammar, or a preset's name; a bare string is either.

    Args:
        text: in the grammar of `nets.grammar`.
        preset: name of a preset.
        unit, norm, bias, gain, dropout: defaults of layers the text says nothing about.
    """

    text: str | None = None
    preset: str | None = None
    unit: Choice | None = None
    norm: Literal["none", "batch_all", "batch_step", "weight"] | None = None
    bias: bool | None = None
    gain: float | None = None
    dropout: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"preset": value} if value in PRESETS else {"text": value}
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "Net":
        if (self.text is None) == (self.preset is None):
            raise ValueError("expected either text or preset")
        if self.preset is not None and any((self.norm, self.gain, self.dropout)):
            raise ValueError("expected no layer defaults beside a preset except unit")
        return self

    def spec(self) -> NetSpec:
        """Build the spec."""
        unit = self._unit()
        if self.preset is not None:
            return preset(self.preset, **({} if unit is None else {"unit": unit}))
        assert self.text is not None
        fields = {name: getattr(self, name) for name in ("norm", "bias", "gain", "dropout")}
        fields["unit"] = unit
        given = {name: value for name, value in fields.items() if value is not None}
        return parse(self.text, **given)

    def _unit(self) -> Unit | None:
        if self.unit is None:
            return None
        table = {"name": self.unit.name} | self.unit.options
        return from_table(Unit, table, "net.unit")  # pyright: ignore[reportAbstractUsage]


class Optimizer(Strict):
    """The optimizer: sgd, adam or adamw."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _momentum_is_sgds(self) -> "Optimizer":
        if self.momentum and self.name != "sgd":
            raise ValueError("expected momentum with sgd only")
        return self


class Schedule(Strict):
    """Learning rate over the epochs of a stage: constant, cosine to 0, or steps."""

    name: Literal["constant", "cosine", "step"] = "cosine"
    every: Annotated[int, Field(ge=1)] = 1
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1


class Stage(Strict):
    """One way of training for a number of epochs.

    Args:
        rule: learning rule with options.
        steps: T; rules for the ReLU net run at 1 whatever stands here.
        epochs: passes over the training part.
        batch: samples per update; the last batches differ by one sample at most.
        optimizer, schedule: see there.
        freeze_body: train the head alone (a control).
        select: weights kept at the end: of the "last" epoch, or the "best" on validation.
    """

    rule: Choice
    steps: Annotated[int, Field(ge=1)] = 6
    epochs: Annotated[int, Field(ge=1)] = 10
    batch: Annotated[int, Field(ge=1)] = 128
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    freeze_body: bool = False
    select: Literal["last", "best"] = "last"

    def learning_rule(self) -> LearningRule:
        """Build the rule."""
        return from_table(
            RULES.find(self.rule.name, "rule"), self.rule.options, f"rule '{self.rule.name}'"
        )


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
        net, data, head, encoder: what is trained on what.
        stages: one after the other; at present exactly one.
        seed: of weights, order and every draw.
        precision: Lightning Fabric's names, e.g. "32-true", "bf16-mixed", "64-true".
        device: "auto", "cpu" or "cuda".
        paper, published: what it reproduces.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    net: Net
    data: Choice
    head: Choice = Choice(name="softmax")
    encoder: Choice = Choice(name="constant")
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=1, strict=False)]
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    paper: Paper | None = None
    published: Published | None = None

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.stages[0]

    def build_encoder(self) -> Encoder:
        """Build the encoder."""
        kind = ENCODERS.find(self.encoder.name, "encoder")
        return from_table(kind, self.encoder.options, "encoder")

    def check(self) -> "Recipe":
        """Find every name and build everything that needs no data.

        Raises:
            ConfigError: with the path of the key.
        """
        for row, stage in enumerate(self.stages):
            _located(f"stages.{row}", stage.learning_rule)
        _located("recipe", self.build_encoder)
        _located("recipe", self.net.spec)
        head = HEADS.find(self.head.name, "head")
        from_options(head, self.head.options, "head", skip=("features", "classes", "bias", "seed"))
        DATA.find(self.data.name, "data")
        return self


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it does not exist or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: expected a recipe file, found none; check the path."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a readable text file, got {error}; fix it.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML, got an error: {error}; fix the file.") from None


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe file."""
    return build_recipe(read_toml(path), str(path))


def build_recipe(table: Mapping[str, Any], where: str) -> Recipe:
    """Build and check a recipe from its table."""
    return _located(where, build_model(Recipe, table, where).check)


def build_model(kind: type[Model], table: Mapping[str, Any], where: str) -> Model:
    """Validate a table; the first problem becomes one ConfigError with the key's path."""
    try:
        return kind.model_validate(dict(table))
    except ValidationError as error:
        raise _as_config_error(error, kind, where) from None


def override(table: Mapping[str, Any], path: str, value: Any, where: str) -> dict[str, Any]:
    """Return a copy of `table` with the value at a dotted path replaced, e.g. stages.0.epochs.

    Raises:
        ConfigError: the path leads through something that is no table or list.
    """
    copy: Any = _copied(table)
    target, keys = copy, path.split(".")
    for row, key in enumerate(keys):
        last = row == len(keys) - 1
        if isinstance(target, list):
            if not key.isdigit() or int(key) >= len(target):
                raise ConfigError(
                    f"{where}: expected an index from 0 to {len(target) - 1} in '{path}', got "
                    f"'{key}'; change it."
                )
            index: Any = int(key)
        elif isinstance(target, dict):
            index = key
            if not last:
                # a bare name or text opens into a table, so that options can be set beside it
                if isinstance(target.get(key), str):
                    target[key] = {"text" if key == "net" else "name": target[key]}
                target.setdefault(key, {})
        else:
            raise ConfigError(
                f"{where}: expected a table at '{'.'.join(keys[:row])}', got {target!r}; fix '{path}'."
            )
        if last:
            target[index] = value
        target = target[index]
    return copy


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, (list, tuple)) else value


def _located(where: str, build: Any) -> Any:
    try:
        return build()
    except SpikeloomError as error:
        raise type(error)(f"{where}: {error}") from None


def _as_config_error(error: ValidationError, kind: type[BaseModel], where: str) -> ConfigError:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    place = f"{where}: {path}" if path else where
    if first["type"] == "extra_forbidden":
        known = _fields_at(kind, first["loc"][:-1])
        return unknown_name(place, "key", first["loc"][-1], known)
    if first["type"] == "missing":
        return ConfigError(f"{place}: expected a value, got none; add the key.")
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return ConfigError(f"{place}: {message}, got {first['input']!r}; change it.")


def _fields_at(kind: Any, path: tuple[int | str, ...]) -> list[str]:
    """Return the field names of the model a path of keys leads to."""
    for part in path:
        if isinstance(part, int):
            continue
        annotation = kind.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        kind = next(
            option for option in options if isinstance(option, type) and issubclass(option, BaseModel)
        )
    return list(kind.model_fields)


def names_of(what: str) -> tuple[str, ...]:
    """Return all names of one family, for listings."""
    families = {
        "rules": RULES,
        "heads": HEADS,
        "encoders": ENCODERS,
        "data": DATA,
        "units": UNITS,
    }
    return families[what].names()
