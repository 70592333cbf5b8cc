"""Tables of a recipe: read from TOML, changed at a path, turned into typed values."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from spikeloom.base import toml
from spikeloom.base.checks import check_number, shown
from spikeloom.base.errors import ConfigError, SpikeloomError, unknown_name
from spikeloom.base.fields import conform
from spikeloom.nets.spec.presets import PRESETS

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of all parts of a recipe: frozen, no unknown keys, no silent conversion.

    Values are held to their annotations by `base.fields.conform`, as those of every other object
    are; pydantic nests, copies and writes them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bare: ClassVar[str | None] = None
    """What a bare text in the place of the table is: a "name", or a "net"."""

    reads_tables: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _conformed(cls, value: Any) -> Any:
        if isinstance(value, str) and cls.bare:
            value = opened(cls.bare, value)
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError.of("", "a table", shown(value))
        hints = get_type_hints(cls, include_extras=True)
        table = {}
        for key, part in value.items():
            if key in cls.model_fields:
                part = conform(hints[key], part, key, build=_left)
            elif cls.model_config.get("extra") == "forbid":
                raise unknown_name(str(key), "key", key, cls.model_fields)
            table[key] = part
        return table


def _left(kind: Any, value: object, path: str) -> object:
    """Leave a table within a table to its own class."""
    return value


def opened(key: str, text: str) -> dict[str, Any]:
    """Return the table that a bare text under `key` stands for."""
    return {("preset" if text in PRESETS else "text") if key == "net" else "name": text}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it does not exist or is not TOML.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(toml.LONGEST + 1)
        return toml.read(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: expected a recipe file, found none; check the path, or "
            "take a name from `spikeloom list recipes`."
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: expected a recipe file, got a folder; name the file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: expected a readable text file, got '{error}'; fix it."
        ) from None
    except toml.TomlError as error:
        raise ConfigError(f"{path}: expected TOML, got an error: {error}; fix the file.") from None


def parse_value(text: str, where: str) -> Any:
    """Read a value given on the command line: TOML where it parses, else a plain string.

    Raises:
        ConfigError: it is nested too deep, or holds a number of more than 64 bits.
    """
    try:
        table = toml.read(f"v = {text}")
    except toml.NoToml:
        return text
    except toml.TomlError as error:
        raise ConfigError(
            f"{where}: expected a value as TOML has them, got {error} in '{text}'; change it."
        ) from None
    return table["v"] if len(table) == 1 else text


def override(table: Mapping[str, Any], path: str, value: Any, where: str) -> dict[str, Any]:
    """Return a copy of `table` with the value at a dotted path replaced, e.g. stages.0.epochs.

    A bare name on the way opens into a table, so that options can be set beside it; tables that
    are missing are made.

    Raises:
        ConfigError: the path leads through something that is no table or list.
    """
    copy: Any = _copied(table)
    target, keys = copy, path.split(".", toml.DEEPEST)
    if len(keys) > toml.DEEPEST:
        raise ConfigError(
            f"{where}: expected a path of at most {toml.DEEPEST} keys, got '{path}'; shorten it."
        )
    if not all(keys):
        raise ConfigError(
            f"{where}: expected a path of keys, got '{path}'; write e.g. stages.0.epochs."
        )
    for row, key in enumerate(keys):
        last = row == len(keys) - 1
        index: Any = key
        if isinstance(target, list):
            if not (key.isascii() and key.isdigit() and len(key) < 10) or int(key) >= len(target):
                raise ConfigError(
                    f"{where}: expected an index from 0 to {len(target) - 1} in '{path}', got "
                    f"'{key}'; change it."
                )
            index = int(key)
        elif not isinstance(target, dict):
            raise ConfigError(
                f"{where}: expected a table at '{'.'.join(keys[:row])}', got {target!r}; "
                f"fix '{path}'."
            )
        elif not last and isinstance(target.get(key), str):
            target[key] = opened(key, target[key])
        elif not last and target.get(key) is None:  # missing, or none in a stored recipe
            target[key] = {}
        if last:
            target[index] = value
        target = target[index]
    return copy


def build_model(kind: type[Model], table: Mapping[str, Any], where: str) -> Model:
    """Validate a table; the first problem becomes one ConfigError with the key's path."""
    try:
        for path, number in _numbers(table):
            check_number(path, number)
        return kind.model_validate(dict(table))
    except ConfigError as error:
        raise error.within(where) from None
    except ValidationError as error:
        raise _worded(error, where) from None
    except RecursionError:
        raise _too_deep(where) from None


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put a place in front of the errors raised inside."""
    try:
        yield
    except SpikeloomError as error:
        raise error.within(where) from None
    except RecursionError:
        raise _too_deep(where) from None


def _too_deep(where: str) -> ConfigError:
    return ConfigError(
        f"{where}: expected tables a few levels deep, got hundreds of levels; flatten them."
    )


def _worded(error: ValidationError, where: str) -> SpikeloomError:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    own = first.get("ctx", {}).get("error")
    if isinstance(own, SpikeloomError) and own.expected:  # of a table, which says where in it
        return own.under(place).within(where)
    if first["type"] == "missing":
        return ConfigError.of(place, "a value", "none", "add the key").within(where)
    return ConfigError.of(place, f"'{first['msg']}'", shown(first["input"])).within(where)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, (list, tuple)) else value


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, int | float]]:
    parts: Any = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    elif isinstance(value, int | float):
        yield path, value
    for key, part in parts:
        yield from _numbers(part, f"{path}.{key}" if path else str(key))
