"""The memory of a rule between updates: a value that says how several processes keep it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ConfigError, NumericalError, SpikeloomError

Value: TypeAlias = Tensor | int | float | bool
Kept = Literal["averaged", "same", "local"]

BETWEEN = "/"
"""Stands between the names on the way to a leaf."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """A tensor or number, and what several processes make of it.

    Args:
        value: an `nn.Parameter` is trained by the optimizer, and is the "same" everywhere.
        kept: "averaged": each process brings the new value of its samples, and all keep the mean,
            weighted by samples; "same": every process has the same; "local": each has its own.

    Raises:
        ConfigError: no tensor or number, or one that has no mean or is trained where it says so.
    """

    value: Value
    kept: Kept

    def __post_init__(self) -> None:
        value = self.value
        good = isinstance(value, Tensor | int | float)
        _expect(good, "a tensor or number", value, "keep nothing else")
        real = value.is_floating_point() if isinstance(value, Tensor) else type(value) is float
        _expect(real or self.kept != "averaged", "real numbers to average", value, "say same(...)")
        trained = isinstance(value, nn.Parameter) and self.kept != "same"
        _expect(not trained, "a trained parameter to be the same", self.kept, "say same(...)")

    @property
    def tensor(self) -> Tensor:
        """The value as a tensor that holds all its digits."""
        kinds = {bool: torch.bool, int: torch.int64, float: torch.float64}
        value = self.value
        return value if isinstance(value, Tensor) else torch.tensor(value, dtype=kinds[type(value)])

    def back(self, tensor: Tensor) -> Value:
        """Return what `tensor` said as a value of this kind, on the same device."""
        if isinstance(self.value, Tensor):
            return tensor.to(self.value.device)
        return type(self.value)(tensor.item())

    @property
    def _kind(self) -> torch.dtype | type:
        value = self.value
        return value.dtype if isinstance(value, Tensor) else type(value)

    @property
    def words(self) -> str:
        """What it is, e.g. "averaged, float32 [8, 4]"."""
        value = self.value
        if not isinstance(value, Tensor):
            return f"{self.kept}, {type(value).__name__}"
        how = "trained" if isinstance(value, nn.Parameter) else self.kept
        return f"{how}, {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"

    def like(self, other: "Leaf") -> bool:
        """Whether both are kept alike and hold a number of one kind, or tensors of one type."""
        return self.kept == other.kept and self._kind == other._kind


def averaged(value: Tensor | float) -> Leaf:
    """Return a leaf whose new values are averaged over the processes, weighted by samples."""
    return Leaf(value, "averaged")


def same(value: Value) -> Leaf:
    """Return a leaf that is the same in every process; what it depends on must be, too."""
    return Leaf(value, "same")


def local(value: Value) -> Leaf:
    """Return a leaf that each process keeps for itself."""
    return Leaf(value, "local")


class Memory(Mapping[str, Any]):
    """A tree of tensors and numbers by name, never changed: `replace` gives the next one.

    A leaf is read as its value, ``memory["mean"]``. A part may be the memory of another rule.
    Tensors in it are not written to; new values are new tensors. Parameters are trained in place.

    Args:
        parts: leaves (`averaged`, `same`, `local`) and memories by name; more by keyword.

    Raises:
        ConfigError: another part, or a name that is empty or has a / in it.

    Example:
        >>> memory = Memory(mean=averaged(torch.zeros(2)), seen=same(0))
        >>> memory.replace(seen=memory["seen"] + 1)["seen"]
        1
    """

    def __init__(self, parts: "Mapping[str, Leaf | Memory] | None" = None, **more: Any) -> None:
        self._parts: dict[str, Leaf | Memory] = {**(parts or {}), **more}
        for name, part in self._parts.items():
            good = isinstance(name, str) and bool(name) and BETWEEN not in name
            _expect(good, f"names without {BETWEEN}", name, "rename it")
            good = isinstance(part, Leaf | Memory)
            _expect(good, f"'{name}' as averaged(...), same(...) or local(...)", part, "say which")

    def __getitem__(self, name: str) -> Any:
        """Return a value, or the memory in its place."""
        part = self._parts[name]
        return part.value if isinstance(part, Leaf) else part

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Memory):
            return NotImplemented
        here, there = dict(self.leaves()), dict(other.leaves())
        return here.keys() == there.keys() and all(
            leaf.like(there[path]) and torch.equal(leaf.tensor, there[path].tensor)
            for path, leaf in here.items()
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"Memory({', '.join(f'{path}: {leaf.words}' for path, leaf in self.leaves())})"

    def replace(self, parts: Mapping[str, Any] | None = None, **more: Any) -> "Memory":
        """Return a memory with new values for some of its names, kept as the old ones are.

        Raises:
            ConfigError: a name that it does not have.
        """
        changed = dict(self._parts)
        for name, value in {**(parts or {}), **more}.items():
            _expect(name in changed, f"one of {', '.join(self)}", name, "make it in prepare")
            old = changed[name]
            changed[name] = Leaf(value, old.kept) if isinstance(old, Leaf) else value
        return Memory(changed)

    def leaves(self) -> Iterator[tuple[str, Leaf]]:
        """Yield every leaf with its path, names joined by /."""
        for name, part in self._parts.items():
            if isinstance(part, Leaf):
                yield name, part
            else:
                yield from ((f"{name}{BETWEEN}{path}", leaf) for path, leaf in part.leaves())

    def mapped(self, change: Callable[[str, Leaf], Value]) -> "Memory":
        """Return a memory with a function's value for every path and leaf.

        A parameter stays the one it is and takes the values over.
        """
        return self._mapped(change, "")

    def _mapped(self, change: Callable[[str, Leaf], Value], above: str) -> "Memory":
        parts: dict[str, Leaf | Memory] = {}
        for name, part in self._parts.items():
            if isinstance(part, Memory):
                parts[name] = part._mapped(change, f"{above}{name}{BETWEEN}")
                continue
            value = change(f"{above}{name}", part)
            if isinstance(part.value, nn.Parameter) and value is not part.value:
                with torch.no_grad():
                    part.value.copy_(value)  # pyright: ignore[reportArgumentType]
                value = part.value
            parts[name] = Leaf(value, part.kept)
        return Memory(parts)

    def parameters(self) -> list[nn.Parameter]:
        """Return the leaves that are trained."""
        values = (leaf.value for _, leaf in self.leaves())
        return [value for value in values if isinstance(value, nn.Parameter)]

    def with_values_of(self, other: "Memory") -> "Memory":
        """Take over the leaves that `other` has under one path, of one kind and shape."""
        there = dict(other.leaves())

        def taken(path: str, leaf: Leaf) -> Value:
            old = there.get(path)
            fits = old is not None and leaf.like(old) and leaf.tensor.shape == old.tensor.shape
            return old.value if old is not None and fits else leaf.value

        return self.mapped(taken)

    def fault_after(self, before: "Memory", place: str) -> SpikeloomError | None:
        """Return what is wrong with this as the memory that follows another; None for nothing.

        Args:
            before: what `prepare` or the last update left.
            place: of the rule, for messages.
        """
        here, there = dict(self.leaves()), dict(before.leaves())
        for path in sorted(here.keys() ^ there.keys()):
            came = "none" if path in there else "one"
            todo = "make every leaf in prepare, and go on with commit.memory.replace(...)"
            return ConfigError.of(f"{place}: memory", f"as many '{path}' as before", came, todo)
        for path, leaf in here.items():
            old, where = there[path], f"{place}: memory '{path}'"
            if not leaf.like(old):
                return ConfigError.of(where, old.words, leaf.words, "keep its kind")
            if isinstance(old.value, nn.Parameter) and leaf.value is not old.value:
                todo = "train it in place, or keep a tensor"
                return ConfigError.of(where, "the same parameter as before", "another", todo)
            if not bool(torch.isfinite(leaf.tensor).all()):
                todo = "lower the learning rate or check the input"
                return NumericalError.of(where, "finite values", "NaN or infinity", todo)
        return None


def _expect(good: bool, expected: str, came: object, todo: str) -> None:
    if not good:
        raise ConfigError.of("memory", expected, repr(came)[:80], todo)
