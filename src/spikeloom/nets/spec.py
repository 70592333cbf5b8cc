"""A network as a value: frozen, comparable, serialisable; no tensors, no shapes of data."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.fields import Checked
from spikeloom.nets.layer import LARGEST, Filter, LayerSpec, MaskSpec, require
from spikeloom.neurons.base import Unit
from spikeloom.neurons.declared import OUTPUTS
from spikeloom.neurons.relu import Relu

MOST_LAYERS = 4000
"""Most layers of a net, each counted once per pass of its block: beyond, laying it out takes long.

The deepest published nets have about 1,200.
"""

Fit = Literal["none", "drop", "topk", "average"]
Join = Literal["none", "add", "and", "iand", "before_unit"]


@dataclass(frozen=True)
class BlockSpec(Checked):
    """Layers run in order, `repeat` times with shared weights (BackRes); one layer is a block too.

    Each pass has its own state, thresholds and norm statistics.

    Args:
        layers: at least one.
        repeat: number of passes n; the input enters the first, each further pass reads the last.
        fit: how out channels re-enter when their number differs from the in channels:
            "drop" keeps a fixed random subset, "topk" the most active, "average" averages groups;
            fewer out than in channels are padded with zeros.
        fit_seed: of the subset kept by "drop".
        join: how a shortcut meets a pass's output: "add" A + S, "and" A S, "iand" (1 - A) S, or
            "before_unit": added to the current of the last layer (classic spiking residual).
        shortcut: projection path; empty is the identity.
        tap: where the shortcut starts: at the block's input or after its first unit.
        reads: a non-spiking block after a spiking one runs once on the time "mean" of its input,
            or at every "step".

    Raises:
        ConfigError: no layers, repeat below 1, or a shortcut without a join.

    Source:
        Panda et al. 2020, sec. 4 (BackRes); Fang et al. 2021 (joins).
    """

    layers: tuple[LayerSpec, ...]
    repeat: int = 1
    fit: Fit = "none"
    fit_seed: int = 0
    join: Join = "none"
    shortcut: tuple[LayerSpec, ...] = ()
    tap: Literal["input", "first_unit"] = "input"
    reads: Literal["mean", "step"] = "mean"

    called: ClassVar[str] = "block"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.layers) >= 1, "block.layers", "at least one layer", 0, "add one")
        require(self.repeat >= 1, "block.repeat", "1 pass or more", self.repeat, "change it")
        require(
            self.join != "none" or not (self.shortcut or self.tap != "input"),
            "block.shortcut",
            "a join beside a shortcut or tap",
            self.join,
            "set join, e.g. 'add'",
        )
        before = self.layers[:-1] if self.join == "before_unit" else self.layers
        require(
            self.tap == "input" or any(layer.neurons for layer in before),
            "block.tap",
            "a layer with a unit before the join",
            self.tap,
            "use tap = 'input'",
        )
        if self.join in ("and", "iand"):
            self._check_gate()
        if self.join == "before_unit":
            last = self.layers[-1]
            require(
                last.neurons is not None, "block.join", "a last layer with a unit", last.kind, "fix"
            )

    def _check_gate(self) -> None:
        """Refuse a product of outputs that are not all 0 or 1."""
        for layer in (self.layers[-1], *self.shortcut[-1:]):
            outputs = None if layer.neurons is None else OUTPUTS.of(layer.neurons)
            require(
                outputs is None or outputs.binary,
                "block.join",
                f"units whose outputs are 0 or 1 for '{self.join}'",
                outputs,
                "use 'add'",
            )

    @property
    def is_linear_layer(self) -> bool:
        """Whether this is one linear layer and nothing else."""
        alone = self == BlockSpec(self.layers) and len(self.layers) == 1
        return alone and self.layers[0].kind == "linear"


@dataclass(frozen=True)
class FeedbackSpec(Checked):
    """An edge back in time: block `source` at step t - delay adds to the current of `target`.

    The contribution enters the first layer of the target block after its norm, in its first pass.
    `source` equal to `target` is lateral recurrence.

    Args:
        source: block whose output is sent.
        target: block that receives.
        layers: the path, e.g. one linear layer with unit None.
        delay: steps, 1 or more.
        restrict: bound on a norm of the last weight matrix.
        restrict_norm: "spectral" (IDE; with a trained scale within the bound), or "frobenius"
            (SPIDE).
        mask: fixed sparse wiring of the last weight matrix.
        detach: no gradient through the edge.
        zero: the last weights start at 0, so that the net begins without feedback.

    Source:
        Xiao et al. 2021 (IDE), Xiao et al. 2022 (VGG-11-F), Zhang & Li 2019 (ST-RSBP).
    """

    source: int
    target: int
    layers: tuple[LayerSpec, ...]
    delay: int = 1
    restrict: float | None = None
    restrict_norm: Literal["spectral", "frobenius"] = "spectral"
    mask: MaskSpec | None = None
    detach: bool = False
    zero: bool = False

    called: ClassVar[str] = "feedback"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            1 <= self.delay <= LARGEST, "feedback.delay", "1 step or more", self.delay, "change it"
        )
        require(len(self.layers) >= 1, "feedback.layers", "at least one layer", 0, "add one")
        require(
            self.restrict is None or self.restrict > 0,
            "feedback.restrict",
            "a bound above 0",
            self.restrict,
            "change it",
        )
        require(
            self.layers[-1].weighted or (self.mask is None and self.restrict is None),
            "feedback.mask/restrict",
            "a last layer with weights",
            self.layers[-1].kind,
            "drop mask and restrict",
        )
        last = self.layers[-1]
        plain = last.weighted and self.restrict is None and last.norm != "weight"
        require(
            not self.zero or plain,
            "feedback.zero",
            "last weights that are used as they are",
            f"{last.kind} with restrict = {self.restrict} and norm = {last.norm}",
            "drop zero or those",
        )
        require(
            self.mask is None or self.layers[-1].norm != "weight",
            "feedback.mask",
            "a last layer without weight standardisation",
            self.layers[-1].norm,
            "drop the mask or the norm",
        )


@dataclass(frozen=True)
class NetSpec(Checked):
    """A network: body blocks, feedback edges, and the last linear layer, which is the head's.

    Args:
        blocks: the body.
        readout: the head's linear layer; its width is the number of classes.
        feedback: edges back in time.
        input_psp: low-pass on the network's input.

    Raises:
        ConfigError: a feedback edge to a block that does not exist, or a readout that is not a
            plain linear layer.
        UnsupportedNet: a spiking block behind one that reads the time mean, or a feedback edge
            there.
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
        require(
            count <= MOST_LAYERS,
            "net",
            f"{MOST_LAYERS} layers at most, those of repeated blocks once per pass",
            count,
            "lower the passes (x..) or use fewer layers",
        )
        last = len(self.blocks) - 1
        for number, edge in enumerate(self.feedback):
            require(
                0 <= edge.source <= last and 0 <= edge.target <= last,
                f"feedback.{number}",
                f"blocks from 0 to {last}",
                (edge.source, edge.target),
                "change source or target",
            )
        readout = self.readout
        require(
            readout is None
            or readout == LayerSpec("linear", readout.out, bias=readout.bias, unit=None),
            "net.readout",
            "a linear layer with a width and a bias or none, nothing else",
            readout,
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
        """Number of the first block that runs once on the time mean; None if there is none."""
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
        """Return the net with every body layer (shortcuts too) replaced by change(layer)."""
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
        """Return the net with `unit` in the place of every unit it has."""
        return self.map_layers(lambda one: replace(one, unit=unit) if one.neurons else one)

    def as_ann(self) -> "NetSpec":
        """Return the ReLU net of the same topology, run once: the baseline of every comparison.

        Spike amplitudes and low-passes go, and so do feedback edges (there is no second step). A
        last linear layer that spikes for the classes becomes the readout.
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
