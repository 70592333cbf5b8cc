"""Checks user input, from Python or TOML, against the annotations of fields and arguments."""

import dataclasses
import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeGuard

import numpy as np
from torch import Tensor

from spikeloom.base.checks import Limit, Range, Reader, check_number, expect, shown
from spikeloom.base.errors import ConfigError, unknown_name, wrong_choice
from spikeloom.base.registry import Registry
from spikeloom.base.toml import LARGEST_WHOLE

Build = Callable[[Any, object, str], Any]
"""Builds a value: takes its type, a TOML table, and the path of the table."""


@dataclasses.dataclass(frozen=True)
class Family:
    """A protocol for objects that users pass: its registry, and the attributes it requires."""

    registry: Registry[Any]
    needs: tuple[str, ...]


FAMILIES: dict[type, Family] = {}
"""Families by protocol; each entry is made next to the definition of the protocol."""


class Checked:
    """Base of frozen dataclasses that a user constructs.

    Every field is checked against its annotation. Numpy numbers become Python numbers and lists
    become tuples; other values of a wrong type, or outside an annotated range, are refused. A class
    checks relations between fields in its own `__post_init__`, which calls this one first.

    Raises:
        ConfigError: an unknown field, or a value that is of a wrong type, out of range or not
            finite.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class LIF(Checked):
        ...     alpha: float = 0.5
        ...     renamed: ClassVar[Mapping[str, str]] = {"tau": "write alpha"}
        >>> LIF(np.float32(0.25))
        LIF(alpha=0.25)
        >>> LIF(tau=2.0)
        Traceback (most recent call last):
        spikeloom.base.errors.ConfigError: base.LIF: unknown field 'tau'; write alpha. Known: alpha.
    """

    called: ClassVar[str] = ""
    """Name of the class in messages; "" for package and class name (rules.SLTT)."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """Names of fields in other libraries, with what to write instead."""

    def __new__(cls, *args: Any, **kwargs: Any) -> typing.Self:
        """Refuse unknown fields; the dataclass would raise a TypeError."""
        if not kwargs.keys() <= (known := _parameters(cls)) and "**" not in known:
            name = next(name for name in kwargs if name not in known)
            raise unknown_field(cls.place(), "field", name, cls, known)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if not dataclasses.is_dataclass(self):
            return
        for name, (hint, plain) in _fields(type(self)).items():
            value = getattr(self, name)
            if plain.takes(value):
                continue
            todo = self._todo(name, value)
            typed = conform(hint, value, f"{self.place()}.{name}", todo=todo)
            if typed is not value:
                object.__setattr__(self, name, typed)

    @classmethod
    def place(cls) -> str:
        """Return the name of the class in messages."""
        if cls.called:
            return cls.called
        package, _, rest = cls.__module__.partition(".")
        room = f"{rest.split('.')[0]}." if package == "spikeloom" else ""
        return f"{room}{cls.__name__}"

    def expect(self, name: str, good: bool, expected: str, todo: str = "change it") -> None:
        """Raise ConfigError about the value of a field unless `good`."""
        expect(good, f"{self.place()}.{name}", expected, getattr(self, name), todo)

    def expect_in(self, name: str, allowed: Range, todo: str = "change it") -> None:
        """Raise ConfigError for a field outside a range; None is accepted."""
        allowed.check(f"{self.place()}.{name}", getattr(self, name), todo)

    def _todo(self, name: str, value: object) -> str | None:
        """Return advice about a field of a wrong type; None for the usual advice."""
        return None


def unknown_field(
    where: str, kind: str, name: object, owner: object, known: Collection[str]
) -> ConfigError:
    """Build the error for an unknown field, with advice from `owner.renamed`."""
    renamed: Mapping[str, str] = getattr(owner, "renamed", {})
    known = [other for other in known if other != "self"]
    return unknown_name(where, kind, name, known, renamed.get(str(name), ""))


def checked(where: str) -> Callable[[Any], Any]:
    """Return a decorator that checks the arguments of a function against their annotations.

    Args:
        where: name of the function in messages.
    """

    def wrap(function: Any) -> Any:
        signature = inspect.signature(function)
        hints: dict[str, tuple[Any, _Plain]] = {}

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in signature.parameters:
                    owner = type(args[0]) if args else None
                    raise unknown_field(where, "option", name, owner, [*signature.parameters])
            bound = signature.bind(*args, **kwargs)
            if not hints:
                found = typing.get_type_hints(function, include_extras=True)
                hints.update({name: (hint, _plainly(hint)) for name, hint in found.items()})
            for name, value in bound.arguments.items():
                if name in hints and not hints[name][1].takes(value):
                    bound.arguments[name] = conform(hints[name][0], value, f"{where}.{name}")
            return function(*bound.args, **bound.kwargs)

        return call

    return wrap


def conform(
    hint: Any, value: object, where: str, *, build: Build | None = None, todo: str | None = None
) -> Any:
    """Return a value converted to its annotation, or raise an error.

    Args:
        hint: the annotation.
        value: to be checked.
        where: path of the value.
        build: builds values from tables; given if the value comes from TOML.
        todo: what to do, instead of the usual advice.

    Raises:
        ConfigError: a wrong type, a value out of range, or a number that is not finite.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    deeper = functools.partial(conform, build=build, todo=todo)
    if origin is Annotated:
        for mark in args[1:]:
            if isinstance(mark, Reader):
                return mark.read(value, where)
        return _limited(deeper(args[0], value, where), value, where, args[1:])
    if origin in (typing.Union, types.UnionType):
        said = build is not None and value == "none"  # TOML has no None
        absent = value is None or (said and not any("none" in typing.get_args(arg) for arg in args))
        if absent and type(None) in args:
            return None
        return _any_of(args, value, where, deeper)
    if origin is tuple:
        return _tuple(args, value, where, build, deeper)
    if origin is Literal:
        if any(type(value) is type(arg) and value == arg for arg in args):
            return value
        raise wrong_choice(where, value, args, todo)
    if origin is dict:
        return _table(args, value, where, deeper)
    if build is not None and _is_table(hint):
        return build(hint, value, where)
    if hint in FAMILIES:
        return _member(hint, value, where)
    if hint in _SCALARS:
        return _scalar(hint, value, where, todo)
    if _plain(hint) and not isinstance(value, hint):
        raise _refusal(where, hint.__name__, value, todo)
    return value


class _Plain(NamedTuple):
    """The values that an annotation accepts unchanged; a fast path around `conform`.

    Args:
        kinds: exact types of these values, each with its limits.
        words: accepted texts.
    """

    kinds: dict[type, tuple[Limit, ...]]
    words: frozenset[str] = frozenset()

    def takes(self, value: Any) -> bool:
        """Whether `conform` certainly returns the value unchanged."""
        kind = type(value)
        limits = self.kinds.get(kind)
        if limits is None:
            return kind is str and value in self.words
        if kind is float and not math.isfinite(value) or kind is int and abs(value) > LARGEST_WHOLE:
            return False
        return not any(limit.fault(value) for limit in limits)


def _plainly(hint: Any) -> _Plain:
    """Return the fast path of an annotation."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        base, marks = _plainly(args[0]), args[1:]
        if any(isinstance(mark, Reader) for mark in marks):
            return _Plain({})
        limits = tuple(mark for mark in marks if isinstance(mark, Limit))
        return _Plain({kind: own + limits for kind, own in base.kinds.items()})
    if origin is Literal:
        return _Plain({}, frozenset(arg for arg in args if type(arg) is str))
    if origin in (typing.Union, types.UnionType):
        kinds: dict[type, tuple[Limit, ...]] = {}
        words: frozenset[str] = frozenset()
        if type(None) in args:
            kinds[type(None)] = ()
        for arg in args:
            part = _plainly(arg)
            if typing.get_origin(arg) is Annotated and not part.kinds:
                break  # it has a `Reader`: only `conform` knows what it accepts
            new = part.kinds.keys() - kinds.keys()
            if float in kinds:
                new -= {int}  # the alternative float comes first and converts an int
            kinds |= {kind: part.kinds[kind] for kind in new}
            words |= part.words
        return _Plain(kinds, words)
    if hint in (None, type(None)) or (_plain(hint) and hint not in FAMILIES):
        return _Plain({hint or type(None): ()})
    return _Plain({})


def _is_table(hint: Any) -> bool:
    """Whether values of a type are written as tables in TOML."""
    told = getattr(hint, "reads_tables", False)
    return hint in FAMILIES or dataclasses.is_dataclass(hint) or told


def _limited(value: Any, came: object, where: str, limits: tuple[object, ...]) -> Any:
    """Return the value if it is within all limits; the error quotes it as the user gave it."""
    for limit in limits:
        if isinstance(limit, Limit) and (expected := limit.fault(value)):
            raise ConfigError.of(where, expected, shown(came))
    return value


def _table(
    args: tuple[Any, ...], value: object, where: str, deeper: Callable[..., Any]
) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refusal(where, "a table", value, "write {key = value}")
    return {str(key): deeper(args[1], part, f"{where}.{key}") for key, part in value.items()}


def _plain(hint: object) -> TypeGuard[type]:
    """Whether `isinstance` can be used with a type."""
    return isinstance(hint, type) and hint is not Any and not getattr(hint, "_is_protocol", False)


def _any_of(args: tuple[Any, ...], value: object, where: str, deeper: Callable[..., Any]) -> Any:
    """Return the value by the first alternative that accepts it, else raise the first error."""
    first: ConfigError | None = None
    for arg in args:
        if arg is type(None):
            continue
        try:
            return deeper(arg, value, where)
        except ConfigError as error:
            first = first or error
    assert first is not None
    raise first


def _tuple(
    args: tuple[Any, ...], value: object, where: str, build: Build | None, deeper: Any
) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        expected, form = ("a list", "[..]") if build else ("a tuple", "(.., )")
        if isinstance(value, str | int | float):
            form = f"[{value!r}]" if build else f"({value!r},)"
        raise _refusal(where, expected, value, f"write {form}")
    if args[-1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise _refusal(where, f"{len(args)} values", value, "change their number")
    rows = enumerate(zip(args, value, strict=True))
    return tuple(deeper(arg, part, f"{where}.{row}") for row, (arg, part) in rows)


def _member(hint: type, value: object, where: str) -> object:
    """Check that an object, which may be of a user's own class, implements a protocol."""
    family, kind = FAMILIES[hint], hint.__name__
    if isinstance(value, type):
        raise _refusal(where, f"a {kind}", value, f"make one: {value.__name__}()")
    if isinstance(value, str) and value in family.registry.names():
        made = family.registry.find(value).__name__
        raise _refusal(where, f"a {kind}", value, f"pass {made}()")
    for name in family.needs:
        if not hasattr(value, name):
            classes = (family.registry.find(name).__name__ for name in family.registry.names())
            todo = f"pass one of {', '.join(classes)}, or give your own all of "
            raise _refusal(where, f"a {kind}", value, todo + ", ".join(family.needs))
    return value


def _scalar(hint: type, value: object, where: str, todo: str | None) -> object:
    if isinstance(value, np.bool_ | np.number):
        value = value.item()
    if hint is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        if not isinstance(value, int):
            value = float(value)
        check_number(where, value)
        return float(value)
    if hint is int and isinstance(value, int):
        check_number(where, value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise _refusal(where, _SCALARS[hint], value, todo)


_SCALARS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
}
"""Types of plain values, and their names in messages."""


def _refusal(where: str, expected: str, value: object, todo: str | None) -> ConfigError:
    usual = "change it"
    if expected == "Tensor":
        usual = "make it a tensor, e.g. by torch.as_tensor"
    elif isinstance(value, Tensor):
        usual = "pass a plain value, e.g. a number by its item()"
    return ConfigError.of(where, expected, shown(value), todo or usual)


@functools.cache
def _parameters(cls: type) -> frozenset[str]:
    """Return the argument names of a class; with "**" among them it takes any name."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return frozenset("**" if one.kind is one.VAR_KEYWORD else one.name for one in parameters)


@functools.cache
def _fields(cls: type) -> dict[str, tuple[Any, _Plain]]:
    """Return annotation and fast path of every field that the constructor takes."""
    hints = _hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init and field.name in hints]
    return {name: (hints[name], _plainly(hints[name])) for name in names}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Return the annotations of a class; {} if one of them cannot be resolved."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):
        return {}
