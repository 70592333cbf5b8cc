"""Converts specs to plain tables (dicts) and back, and tables to one line of TOML.

A table holds only the fields that differ from their defaults. Objects of a registered family (e.g.
units and surrogates) are tables with a ``name``; they may also be given by the name alone.
"""

import dataclasses
import json
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from spikeloom.base.checks import expect
from spikeloom.base.errors import ConfigError, SpikeloomError
from spikeloom.base.fields import FAMILIES, conform, unknown_field
from spikeloom.nets.spec.layer import UNSET, LayerSpec

S = TypeVar("S")


def to_table(spec: Any) -> dict[str, Any]:
    """Return the fields of a spec that differ from their defaults, as plain values."""
    table: dict[str, Any] = {}
    for family in FAMILIES.values():
        for name in family.registry.names():
            if type(spec) is family.registry.find(name):
                table["name"] = name
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if value != _default(spec, field):
            table[field.name] = _plain(value)
    return table


def from_table(kind: type[S], table: object, where: str) -> S:
    """Build a spec of type `kind` from a table.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range; names the path.
    """
    family = FAMILIES.get(kind)
    if family is not None:
        if isinstance(table, str):
            table = {"name": table}
        table = dict(_expect_table(table, where))
        if (name := table.pop("name", None)) is None:
            raise ConfigError.of(f"{where}.name", f"a {family.registry.kind}", "none", "add it")
        kind = family.registry.find(str(name), where)
    table = _expect_table(table, where)
    hints = typing.get_type_hints(kind, include_extras=True)
    known = [field.name for field in dataclasses.fields(kind) if field.init]  # pyright: ignore
    values = {}
    for key, value in table.items():
        if key not in known:
            raise unknown_field(f"{where}.{key}", "key", key, kind, known)
        values[key] = conform(hints[key], value, f"{where}.{key}", build=from_table)
    missing = [f"'{name}'" for name in _required(kind) if name not in values]
    if missing:
        raise ConfigError(
            f"{where}: expected all required keys, got no {', '.join(missing)}; add them."
        )
    try:
        return kind(**values)
    except ConfigError as error:
        raise _placed(error, kind, where) from None


def _placed(error: SpikeloomError, kind: Any, where: str) -> SpikeloomError:
    """Return an error with the path of the table that an object was built from.

    Args:
        error: raised by the constructor of `kind`.
        kind: the class; its `place()` is the path that it uses in its own messages.
        where: path of the table, which replaces that path.
    """
    place = getattr(kind, "place", None)
    error = error if place is None else error.moved(place(), where)
    return error if error.starts_with(where) else error.within(where)


def inline(value: Any) -> str:
    """Write a plain value as one line of TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {inline(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(inline(part) for part in value) + "]"
    return json.dumps(value)


def _required(kind: Any) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]


def _default(spec: Any, field: dataclasses.Field[Any]) -> Any:
    if isinstance(spec, LayerSpec) and field.default is UNSET:
        return (
            getattr(LayerSpec(spec.kind, spec.out, kernel=spec.kernel), field.name)
            if (field.name != "kernel")
            else LayerSpec(spec.kind, spec.out).kernel
        )
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _plain(value: Any) -> Any:
    if value is None:
        return "none"
    if dataclasses.is_dataclass(value):
        return to_table(value)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def _expect_table(table: object, where: str) -> Mapping[str, Any]:
    expect(isinstance(table, Mapping), where, "a table", table, "write {key = value}")
    assert isinstance(table, Mapping)
    return table


def from_options(
    build: Callable[..., Any], options: Mapping[str, Any], where: str, skip: Collection[str] = ()
) -> dict[str, Any]:
    """Check keyword options against a callable's signature and types, and return them typed.

    Args:
        build: a class or function with annotated keyword parameters.
        options: what the user gave.
        where: path of the options, for messages.
        skip: parameters that the caller sets itself.

    Raises:
        ConfigError: an unknown key or a wrong type.
    """
    call = build.__init__ if isinstance(build, type) else build
    hints = typing.get_type_hints(call, include_extras=True)
    own = {name: hint for name, hint in hints.items() if name not in {"return", *skip}}
    return from_hints(build, own, options, where)


def from_hints(
    owner: object, hints: Mapping[str, Any], options: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Check keyword options against types by name, and return them typed.

    Args:
        owner: class or function that takes the options, for messages.
        hints: types by name.
        options: what the user gave.
        where: path of the options, for messages.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range.
    """
    values = {}
    for key, value in options.items():
        if key not in hints:
            raise unknown_field(f"{where}.{key}", "key", key, owner, hints)
        values[key] = conform(hints[key], value, f"{where}.{key}", build=from_table)
    return values
