"""The spec of a network: frozen and comparable, without tensors and without shapes of data."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from spikeloom.base.checks import Length, above, at_least, expect
from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.base.fields import Checked
from spikeloom.nets.spec.layer import LARGEST, Filter, LayerSpec, MaskSpec
from spikeloom.neurons.base import Unit
from spikeloom.neurons.declared import OUTPUTS
from spikeloom.neurons.relu import Relu

MOST_LAYERS = 4000
"""Most layers of a net, counted once per pass of their block. Larger nets take long to build.

The deepest published nets have about 1,200 layers.
"""

Fit = Literal["none", "drop", "topk", "average"]
Join = Literal["none", "add", "and", "iand", "before_unit"]


Path = Annotated[tuple[LayerSpec, ...], Length(1, "layer")]


@dataclass(frozen=True)
class BlockSpec(Checked):
    """Layers that run in order, `repeat` times with shared weights (BackRes).

    A single layer is a block too. Each pass has its own state, thresholds and norm statistics.

    Args:
        layers: the layers, at least one.
        repeat: number of passes. The first pass reads the block's input, each further pass the
            output of the pass before.
        fit: how the output gets the number of input channels for the next pass. "drop" keeps a
            fixed random subset of the channels, "topk" the most active ones, "average" takes the
            mean of groups. If there are too few channels, zeros are appended.
        fit_seed: seed of the random subset of "drop".
        join: how the shortcut S and a pass's output A are combined: "add" A + S, "and" A S, "iand"
            (1 - A) S, or "before_unit", which adds S to the current of the last layer.
        shortcut: layers of the shortcut; empty for the identity.
        tap: start of the shortcut: the block's input, or the output of its first unit.
        reads: for a non-spiking block after a spiking one: "mean" runs it once on the mean of its
            input over time, "step" runs it at every step.

    Raises:
        ConfigError: no layers, repeat below 1, a shortcut without a join, or a join that the units
            do not allow.

    Source:
        Panda et al. 2020, sec. 4 (BackRes); Fang et al. 2021 (joins).
    """

    layers: Path
    repeat: Annotated[int, at_least(1, "pass")] = 1
    fit: Fit = "none"
    fit_seed: int = 0
    join: Join = "none"
    shortcut: tuple[LayerSpec, ...] = ()
    tap: Literal["input", "first_unit"] = "input"
    reads: Literal["mean", "step"] = "mean"

    called: ClassVar[str] = "block"

    def __post_init__(self) -> None:
        super().__post_init__()
        lone = self.join == "none" and bool(self.shortcut or self.tap != "input")
        self.expect("join", not lone, "a join beside a shortcut or tap", "set join, e.g. 'add'")
        before = self.layers[:-1] if self.join == "before_unit" else self.layers
        fires = self.tap == "input" or any(layer.neurons for layer in before)
        self.expect("tap", fires, "a layer with a unit before the join", "use tap = 'input'")
        if self.join in ("and", "iand"):
            self._check_gate()
        last = self.layers[-1].neurons is not None or self.join != "before_unit"
        self.expect("join", last, "a last layer with a unit", "give it one, or join by 'add'")

    def _check_gate(self) -> None:
        """Refuse the joins "and" and "iand" for units whose outputs are not 0 or 1."""
        for layer in (self.layers[-1], *self.shortcut[-1:]):
            outputs = None if layer.neurons is None else OUTPUTS.of(layer.neurons)
            if outputs is not None and not outputs.binary:
                expected = f"units whose outputs are 0 or 1 for '{self.join}'"
                raise ConfigError.of(f"{self.place()}.join", expected, str(outputs), "use 'add'")

    @property
    def is_linear_layer(self) -> bool:
        """Whether this is one linear layer and nothing else."""
        alone = self == BlockSpec(self.layers) and len(self.layers) == 1
        return alone and self.layers[0].kind == "linear"


@dataclass(frozen=True)
class FeedbackSpec(Checked):
    """A feedback edge: the output of `source` at step t - delay adds to the current of `target`.

    It adds to the current of the target block's first layer, after the norm, in the first pass.
    With `source` equal to `target` it is lateral recurrence.

    Args:
        source: number of the block whose output is sent.
        target: number of the block that receives it.
        layers: layers on the way, e.g. one linear layer with unit None.
        delay: number of steps, 1 or more.
        restrict: upper bound on the norm of the last weight matrix; None for no bound.
        restrict_norm: "spectral" (IDE, with a trained scale within the bound), or "frobenius"
            (SPIDE).
        mask: fixed sparse connections of the last weight matrix.
        detach: whether to pass no gradient through the edge.
        zero: whether the last weights start at 0, so that the net starts without feedback.

    Raises:
        ConfigError: a field is out of range, or mask, restrict or zero do not suit the last layer.

    Source:
        Xiao et al. 2021 (IDE), Xiao et al. 2022 (VGG-11-F), Zhang & Li 2019 (ST-RSBP).
    """

    source: int
    target: int
    layers: Path
    delay: Annotated[int, at_least(1, "step", most=LARGEST)] = 1
    restrict: Annotated[float, above(0, "a bound")] | None = None
    restrict_norm: Literal["spectral", "frobenius"] = "spectral"
    mask: MaskSpec | None = None
    detach: bool = False
    zero: bool = False

    called: ClassVar[str] = "feedback"

    def __post_init__(self) -> None:
        super().__post_init__()
        last = self.layers[-1]
        for name in ("mask", "restrict"):
            good = last.weighted or getattr(self, name) is None
            self.expect(name, good, "none beside a last layer without weights", "drop it")
        plain = last.weighted and self.restrict is None and last.norm != "weight"
        if self.zero and not plain:
            raise ConfigError.of(
                f"{self.place()}.zero",
                "last weights that are used as they are",
                f"'{last.kind}' with restrict = {self.restrict} and norm = '{last.norm}'",
                "drop zero or those",
            )
        alone = self.mask is None or last.norm != "weight"
        self.expect(
            "mask", alone, "none beside weight standardisation", "drop the mask or the norm"
        )


@dataclass(frozen=True)
class NetSpec(Checked):
    """A network: blocks, feedback edges, and the last linear layer, which the head uses.

    Args:
        blocks: the body of the net.
        readout: the head's linear layer; its width is the number of classes or outputs.
        feedback: feedback edges.
        input_psp: low-pass on the network's input.

    Raises:
        ConfigError: a feedback edge to a block that does not exist, or a readout that is not a
            plain linear layer.
        UnsupportedNet: a spiking block or a feedback edge after a block that reads the mean over
            time.
    """

    blocks: tuple[BlockSpec, ...]
    readout: LayerSpec | None = None
    feedback: tuple[FeedbackSpec, ...] = field(default=())
    input_psp: Filter | None = None

    called: ClassVar[str] = "net"

    def __post_init__(self) -> None:
        super().__post_init__()
        count = sum(
            block.repeat * (len(block.layers) + len(block.shortcut)) for block in self.blocks
        ) + sum(len(edge.layers) for edge in self.feedback)
        expect(
            count <= MOST_LAYERS,
            self.place(),
            f"{MOST_LAYERS} layers at most, those of repeated blocks once per pass",
            count,
            "lower the passes (x..) or use fewer layers",
        )
        last = len(self.blocks) - 1
        for number, edge in enumerate(self.feedback):
            for name in ("source", "target"):
                block = getattr(edge, name)
                place = f"{self.place()}.feedback.{number}.{name}"
                expect(0 <= block <= last, place, f"a block from 0 to {last}", block)
        readout = self.readout
        self.expect(
            "readout",
            readout is None
            or readout == LayerSpec("linear", readout.out, bias=readout.bias, unit=None),
            "a linear layer with a width and a bias or none, nothing else",
            "end the net with f<classes>",
        )
        self._check_tail()

    def _check_tail(self) -> None:
        tail = self.tail
        for number in range(tail, len(self.blocks)) if tail is not None else ():
            if _has_unit(self.blocks[number], spiking=True):
                raise UnsupportedNet(
                    f"net.blocks.{number}: expected no spiking block behind block {tail}, which "
                    f"reads the time mean, got one; set reads = 'step' on block {tail}."
                )
        for number, edge in enumerate(self.feedback if tail is not None else ()):
            if tail is not None and max(edge.source, edge.target) >= tail:
                raise UnsupportedNet(
                    f"net.feedback.{number}: expected no edge from or to block {tail} or later, "
                    f"which read the time mean, got {edge.source} -> {edge.target}; set "
                    f"reads = 'step' on block {tail}."
                )

    @cached_property
    def tail(self) -> int | None:
        """Number of the first block that runs once on the mean over time; None if there is none."""
        spiked = False
        for number, block in enumerate(self.blocks):
            if spiked and block.reads == "mean" and _has_unit(block, spiking=False):
                return number
            spiked = spiked or _has_unit(block, spiking=True)
        return None

    @property
    def spiking(self) -> bool:
        """Whether any unit spikes."""
        return any(_has_unit(block, spiking=True) for block in self.blocks)

    @property
    def classes(self) -> int | None:
        """Width of the readout."""
        return self.readout.out if self.readout else None

    def map_layers(self, change: Callable[[LayerSpec], LayerSpec]) -> "NetSpec":
        """Return the net with each layer of blocks and shortcuts replaced by change(layer)."""
        blocks = tuple(
            replace(
                block,
                layers=tuple(change(layer) for layer in block.layers),
                shortcut=tuple(change(layer) for layer in block.shortcut),
            )
            for block in self.blocks
        )
        return replace(self, blocks=blocks)

    def with_unit(self, unit: Unit) -> "NetSpec":
        """Return the net with `unit` in place of every unit."""
        return self.map_layers(lambda one: replace(one, unit=unit) if one.neurons else one)

    def as_ann(self) -> "NetSpec":
        """Return the ReLU net with the same layers: the non-spiking baseline.

        It runs for a single step, so feedback edges are removed; so are spike amplitudes and
        low-passes. A last linear layer whose spikes encode the classes becomes the readout.
        """
        plain = self.map_layers(
            lambda one: (
                replace(one, unit=Relu(), gain=1.0, amplitude="unit", psp=None)
                if one.neurons
                else replace(one, psp=None)
            )
        )
        blocks, readout = plain.blocks, plain.readout
        if readout is None and len(blocks) > 1 and blocks[-1].is_linear_layer:
            last = blocks[-1].layers[0]
            blocks, readout = blocks[:-1], LayerSpec("linear", last.out, bias=last.bias, unit=None)
        return replace(plain, blocks=blocks, readout=readout, feedback=(), input_psp=None)


def _has_unit(block: BlockSpec, *, spiking: bool) -> bool:
    layers = (*block.layers, *block.shortcut)
    return any(one.neurons is not None and one.neurons.spiking == spiking for one in layers)
