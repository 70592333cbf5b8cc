"""Builds blocks of layers from the steps of a forward: chains, and skip connections."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from spikeloom.nets.from_torch.graph import INPUT, Step
from spikeloom.nets.from_torch.layers import SYNAPSES, Fields, check, layer_fields, refusal
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.nets.spec.net import BlockSpec, Join
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.relu import Relu

Statistics = Literal["batch_step", "batch_all"]

ONE_SKIP = (
    "a net has one skip connection at a time, from before a chain of layers to behind it: write it "
    "so, or train your module as it is, with Neuron and backpropagation through time"
)


@dataclass(eq=False)
class Draft:
    """A layer that is being built: its fields and the user's modules that it uses.

    `where` is the layer's place in the user's module, for messages.
    """

    where: str
    fields: Fields
    synapse: nn.Module | None = None
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    norm_where: str = ""
    neuron: Neuron | None = None
    dropout: tuple[str, nn.Module] | None = None
    """Place of the dropout, and the module whose mode turns it on and off."""
    flat: bool = False
    """Whether a Flatten comes directly before the layer."""
    features: int | None = None
    """Width that this Flatten (or reshape) requires."""

    @property
    def weighted(self) -> nn.Module | None:
        """The module with the weights; None for pools, of which only the settings are used."""
        return self.synapse if "out" in self.fields else None

    def layer(self) -> LayerSpec:
        """Return the layer's spec."""
        fields: Fields = {"unit": None, **self.fields}
        return LayerSpec(**fields)

    def add_unit(self, step: Step) -> None:
        """Use the Neuron or ReLU of a step as the layer's unit."""
        layer = step.layer
        self.neuron = layer if isinstance(layer, Neuron) else None
        self.fields["unit"] = layer.unit if isinstance(layer, Neuron) else Relu()


@dataclass(eq=False)
class BlockDraft:
    """A block that is being built: `main` is its layers, `side` the layers of its shortcut."""

    where: str
    main: list[Draft]
    join: Join = "none"
    side: list[Draft] = field(default_factory=list)

    def block(self) -> BlockSpec:
        """Return the block's spec."""
        layers, shortcut = (
            tuple(draft.layer() for draft in path) for path in (self.main, self.side)
        )
        return BlockSpec(layers, join=self.join, shortcut=shortcut, reads="step")


class _Layers:
    """Collects the layers of one chain."""

    def __init__(
        self, norm: Statistics, *, flat: bool = False, features: int | None = None
    ) -> None:
        self.norm: Statistics = norm
        self.drafts: list[Draft] = []
        self.flat = flat
        self.features = features

    def take(self, step: Step) -> None:
        where, layer = step.where, step.layer
        assert layer is not None
        if self.flat and not isinstance(layer, (nn.Linear, nn.Flatten, nn.Dropout, nn.Identity)):
            raise refusal(where, "a Linear after Flatten", "it", "move Flatten before the Linear")
        if type_before_parametrizations(layer) in SYNAPSES:
            fields = layer_fields(where, layer)
            draft = Draft(where, fields, layer, flat=self.flat, features=self.features)
            self.drafts.append(draft)
            self.flat, self.features = False, None
        elif isinstance(layer, nn.Flatten):
            self.flat, self.features = True, step.features or self.features
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            self._norm(step, layer)
        elif isinstance(layer, nn.Dropout):
            self._free(where, ("dropout",)).fields["dropout"] = layer.p
            self.drafts[-1].fields["dropout_held"] = not step.over_time
            self.drafts[-1].dropout = (where, step.mode or layer)
        elif not isinstance(layer, nn.Identity):
            self._free(where, AFTER_UNIT).add_unit(step)

    def _norm(self, step: Step, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        where, joint = step.where, self.norm == "batch_all"
        came, todo = "a forward that gives it all steps at once", 'pass norm = "batch_all"'
        check(where, joint or not step.over_time, "statistics of each step", came, todo)
        check(where, layer.track_running_stats, "track_running_stats", False, "use one that tracks")
        draft = self._free(where, AFTER_NORM)
        draft.norm, draft.norm_where = layer, where
        draft.fields["norm"] = self.norm

    def _free(self, where: str, taken: tuple[str, ...]) -> Draft:
        """Return the last layer if it has none of the fields `taken`.

        Otherwise append and return a layer without a synapse.
        """
        if not self.drafts or not self.drafts[-1].fields.keys().isdisjoint(taken):
            self.drafts.append(Draft(where, {"kind": "identity"}))
        return self.drafts[-1]


AFTER_UNIT = ("unit", "dropout")
AFTER_NORM = ("norm", *AFTER_UNIT)


class Builder:
    """Builds blocks from steps: chains of layers, and two chains where a value is read twice."""

    def __init__(self, steps: Sequence[Step], norm: Statistics) -> None:
        self.steps = steps
        self.norm: Statistics = norm
        self.readers: dict[int, list[int]] = {}
        for number, step in enumerate(steps):
            for source in step.inputs:
                self.readers.setdefault(source, []).append(number)
        self._check_norms()
        self.blocks: list[BlockDraft] = []
        self.layers = _Layers(norm)
        number = INPUT
        while number in self.readers:
            number = self._advance(number, self.readers[number])
        self._flush()

    def _check_norms(self) -> None:
        """Refuse a norm that is used twice: its statistics would depend on the order of steps."""
        seen: set[nn.Module] = set()
        for step in self.steps:
            if isinstance(step.layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                first = step.layer not in seen
                todo = "give each place a norm of its own"
                check(step.where, first, "a norm at one place", "the same at two", todo)
                seen.add(step.layer)

    def _advance(self, number: int, readers: list[int]) -> int:
        """Add the layers that read a value, and return the number of the next value."""
        if len(readers) == 2:
            return self._fork(number, readers)
        step = self.steps[readers[0]]
        if len(readers) > 2 or step.join is not None:
            came = f"a value that is used {len(readers)} times" if len(readers) > 2 else "it"
            raise refusal(step.where, "two branches that join again", came, ONE_SKIP)
        self.layers.take(step)
        return readers[0]

    def _fork(self, number: int, readers: list[int]) -> int:
        """Add two chains up to their join, and the unit after the join, as one block."""
        (left, first, end), (right, _, other) = (self._chain(number, one) for one in readers)
        join = self.steps[end].join
        where = self.steps[end].where
        assert join is not None
        came = "branches that cross"
        check(where, end == other, "two branches that join again", came, ONE_SKIP)
        if first != self.steps[end].inputs[0]:
            left, right = right, left
        flat, features = self.layers.flat, self.layers.features
        self._flush()
        main, side = (self._read(path, where, flat, features) for path in (left, right))
        after = self.readers.get(end, [])
        unit = self.steps[after[0]] if len(after) == 1 else None
        if not _is_unit(unit) or join != "add":
            unit = None
        if join != "iand" and (not main or (side and unit and not _takes_unit(main[-1]))):
            main, side = side, main
        check(where, bool(main), "a layer on one of two branches", "none", "add one")
        block = BlockDraft(where, main, join, side)
        if unit is not None and _takes_unit(main[-1]):
            block.join = "before_unit"
            main[-1].add_unit(unit)
            end = after[0]
        self.blocks.append(block)
        return end

    def _chain(self, source: int, number: int) -> tuple[list[Step], int, int]:
        """Return the steps from `number` to a join, and the numbers of the last and the join."""
        chain: list[Step] = []
        while self.steps[number].join is None:
            step = self.steps[number]
            chain.append(step)
            readers = self.readers.get(number, [])
            came = f"a result used {len(readers)} times on one of two branches"
            check(step.where, len(readers) == 1, "a result that is used once", came, ONE_SKIP)
            source, number = number, readers[0]
        return chain, source, number

    def _read(self, chain: list[Step], where: str, flat: bool, features: int | None) -> list[Draft]:
        layers = _Layers(self.norm, flat=flat, features=features)
        for step in chain:
            layers.take(step)
        check(where, not layers.flat, "maps or a Linear's result", "a Flatten", "flatten behind it")
        return layers.drafts

    def _flush(self) -> None:
        """End a chain: each of its layers becomes a block."""
        self.blocks += [BlockDraft(draft.where, [draft]) for draft in self.layers.drafts]
        self.layers = _Layers(self.norm)


def _is_unit(step: Step | None) -> bool:
    return step is not None and isinstance(step.layer, (Neuron, nn.ReLU))


def _takes_unit(draft: Draft) -> bool:
    return draft.fields.keys().isdisjoint(AFTER_UNIT)
