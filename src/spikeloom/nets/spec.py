"""A network as a value: frozen, comparable, serialisable; no tensors, no shapes of data."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.neurons.base import Unit
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.relu import Relu

Kind = Literal[
    "conv",
    "conv_transpose",
    "linear",
    "identity",
    "avg_pool",
    "max_pool",
    "global_pool",
    "upsample",
]
Norm = Literal["none", "batch_all", "batch_step", "weight"]
Fit = Literal["none", "drop", "topk", "average"]
Join = Literal["none", "add", "and", "iand", "before_unit"]

WEIGHTED: tuple[Kind, ...] = ("conv", "conv_transpose", "linear")
POOLS: tuple[Kind, ...] = ("avg_pool", "max_pool")


class Unset:
    """Marks a field whose default depends on the kind of layer; never survives construction."""


UNSET = Unset()


def require(good: bool, where: str, expected: str, came: object, todo: str) -> None:
    """Raise the house's ConfigError unless `good`."""
    if not good:
        raise ConfigError(f"{where}: expected {expected}, got {came!r}; {todo}.")


@dataclass(frozen=True)
class Filter:
    r"""Low-pass between a unit and the next synapse: :math:`y[t] = decay\,y[t-1] + scale\,s[t]`.

    Source:
        Yang et al. 2021 (NA): decay 1 - 1/tau_s, scale 1/tau_s.
    """

    decay: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.decay < 1, "psp.decay", "a decay in [0, 1)", self.decay, "change it")


@dataclass(frozen=True)
class MaskSpec:
    """Fixed random wiring: each weight is kept with probability `density`, drawn from `seed`.

    With ``self_connections=False`` a square matrix keeps no weight on its diagonal.
    """

    density: float = 1.0
    seed: int = 0
    self_connections: bool = True

    def __post_init__(self) -> None:
        require(0 < self.density <= 1, "mask.density", "a share in (0, 1]", self.density, "fix it")


@dataclass(frozen=True)
class LayerSpec:
    """One layer: synapse, then norm, then unit, then dropout, gain and low-pass.

    Args:
        kind: the synapse. "identity" has no synapse (norm and unit alone, as in pre-activation
            nets); pools and "upsample" (nearest) have no weights.
        out: channels or neurons, for kinds with weights.
        kernel: side of the window; for "upsample" the factor. Default 3, pools and upsample 2.
        stride: default 1, pools their kernel.
        padding: default kernel // 2 ("conv", "conv_transpose"), pools 0.
        output_padding: extra rows of "conv_transpose".
        bias: whether the synapse has one.
        unit: the neurons; None leaves the layer linear. Default LIF() for kinds with weights
            and "identity", None for the rest.
        norm: "batch_all" takes statistics over T and B, "batch_step" over B at each step,
            "weight" standardises the weights (scaled weight standardisation).
        dropout: share of unit outputs set to zero in training; the rest grows by 1/(1-dropout).
        dropout_held: one mask for all T steps instead of a fresh one at each.
        gain: amplitude of an output as the next layer sees it (2.74 in OTTT's nets).
        amplitude: "v_th" multiplies the gain by the unit's threshold (DSR).
        psp: low-pass between this unit and the next synapse; energy counts the spikes before it.

    Raises:
        ConfigError: a field out of range or meaningless for the kind.
    """

    kind: Kind
    out: int = 0
    kernel: int | Unset = UNSET
    stride: int | Unset = UNSET
    padding: int | Unset = UNSET
    output_padding: int = 0
    bias: bool = True
    unit: Unit | None | Unset = UNSET
    norm: Norm = "none"
    dropout: float = 0.0
    dropout_held: bool = True
    gain: float = 1.0
    amplitude: Literal["unit", "v_th"] = "unit"
    psp: Filter | None = None

    def __post_init__(self) -> None:
        kind = self.kind
        where = f"layer '{kind}'"
        require(kind in get_args(Kind), "layer.kind", f"one of {get_args(Kind)}", kind, "change it")
        weighted, pool = kind in WEIGHTED, kind in POOLS
        self._default("kernel", 3 if kind in ("conv", "conv_transpose") else 2)
        if kind in ("linear", "identity", "global_pool"):
            object.__setattr__(self, "kernel", 1)
        self._default("stride", self.kernel if pool else 1)
        self._default("padding", 0 if pool or not weighted else self.kernel_size // 2)
        self._default("unit", LIF() if weighted or kind == "identity" else None)
        require(
            (self.out >= 1) == weighted,
            f"{where}.out",
            "a width of 1 or more" if weighted else "no width",
            self.out,
            "set out" if weighted else "leave out at 0",
        )
        require(self.kernel_size >= 1, f"{where}.kernel", "1 or more", self.kernel, "change it")
        require(self.step_size >= 1, f"{where}.stride", "1 or more", self.stride, "change it")
        require(self.pad_size >= 0, f"{where}.padding", "0 or more", self.padding, "change it")
        require(0 <= self.dropout < 1, f"{where}.dropout", "[0, 1)", self.dropout, "change it")
        require(self.norm in get_args(Norm), f"{where}.norm", f"{get_args(Norm)}", self.norm, "fix")
        require(
            self.norm != "weight" or weighted, f"{where}.norm", "weights", self.norm, "use none"
        )
        require(
            self.amplitude == "unit" or hasattr(self.unit, "v_th"),
            f"{where}.amplitude",
            "a unit with a threshold",
            self.unit,
            "use amplitude 'unit'",
        )

    def _default(self, name: str, value: object) -> None:
        if isinstance(getattr(self, name), Unset):
            object.__setattr__(self, name, value)

    @property
    def kernel_size(self) -> int:
        """Side of the window."""
        assert isinstance(self.kernel, int)
        return self.kernel

    @property
    def step_size(self) -> int:
        """Stride."""
        assert isinstance(self.stride, int)
        return self.stride

    @property
    def pad_size(self) -> int:
        """Padding on each side."""
        assert isinstance(self.padding, int)
        return self.padding

    @property
    def neurons(self) -> Unit | None:
        """The unit, None for a linear layer."""
        assert not isinstance(self.unit, Unset)
        return self.unit

    @property
    def weighted(self) -> bool:
        """Whether the synapse has weights."""
        return self.kind in WEIGHTED


@dataclass(frozen=True)
class BlockSpec:
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

    def __post_init__(self) -> None:
        require(len(self.layers) >= 1, "block.layers", "at least one layer", 0, "add one")
        require(self.repeat >= 1, "block.repeat", "1 pass or more", self.repeat, "change it")
        require(self.fit in get_args(Fit), "block.fit", f"{get_args(Fit)}", self.fit, "change it")
        require(self.join in get_args(Join), "block.join", f"{get_args(Join)}", self.join, "fix it")
        require(
            self.join != "none" or not (self.shortcut or self.tap != "input"),
            "block.shortcut",
            "a join beside a shortcut or tap",
            self.join,
            "set join, e.g. 'add'",
        )
        if self.join == "before_unit":
            last = self.layers[-1]
            require(
                last.neurons is not None, "block.join", "a last layer with a unit", last.kind, "fix"
            )


@dataclass(frozen=True)
class FeedbackSpec:
    """An edge back in time: block `source` at step t - delay adds to the current of `target`.

    The contribution enters the first layer of the target block after its norm, in its first pass.
    `source` equal to `target` is lateral recurrence.

    Args:
        source: block whose output is sent.
        target: block that receives.
        layers: the path, e.g. one linear layer with unit None.
        delay: steps, 1 or more.
        restrict: bound on the spectral norm of the last weight matrix (learnable scale within).
        mask: fixed sparse wiring of the last weight matrix.
        detach: no gradient through the edge.

    Source:
        Xiao et al. 2021 (IDE), Xiao et al. 2022 (VGG-11-F), Zhang & Li 2019 (ST-RSBP).
    """

    source: int
    target: int
    layers: tuple[LayerSpec, ...]
    delay: int = 1
    restrict: float | None = None
    mask: MaskSpec | None = None
    detach: bool = False

    def __post_init__(self) -> None:
        require(self.delay >= 1, "feedback.delay", "1 step or more", self.delay, "change it")
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


@dataclass(frozen=True)
class NetSpec:
    """A network: body blocks, feedback edges, and the last linear layer, which is the head's.

    Args:
        blocks: the body.
        readout: the head's linear layer; its width is the number of classes.
        feedback: edges back in time.
        input_psp: low-pass on the network's input.

    Raises:
        ConfigError: a feedback edge to a block that does not exist, or a readout that is not a
            plain linear layer.
        UnsupportedNet: a spiking block behind one that reads the time mean.
    """

    blocks: tuple[BlockSpec, ...]
    readout: LayerSpec | None = None
    feedback: tuple[FeedbackSpec, ...] = field(default=())
    input_psp: Filter | None = None

    def __post_init__(self) -> None:
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
            readout is None or (readout.kind == "linear" and readout.neurons is None),
            "net.readout",
            "a linear layer without unit",
            readout,
            "end the net with f<classes>",
        )
        self._check_tail()

    def _check_tail(self) -> None:
        tail = self.tail
        for number in range(tail or 0, len(self.blocks)) if tail is not None else ():
            if _has_unit(self.blocks[number], spiking=True):
                raise UnsupportedNet(
                    f"net.blocks.{number}: expected no spiking block behind block {tail}, which "
                    f"reads the time mean, got one; set reads = 'step' on block {tail}."
                )

    @property
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

        Spike amplitudes and low-passes go, and so do feedback edges (there is no second step).
        """
        plain = self.map_layers(
            lambda one: replace(one, unit=Relu(), gain=1.0, amplitude="unit", psp=None)
            if one.neurons
            else replace(one, psp=None)
        )
        return replace(plain, feedback=(), input_psp=None)


def _has_unit(block: BlockSpec, *, spiking: bool) -> bool:
    layers = (*block.layers, *block.shortcut)
    return any(one.neurons is not None and one.neurons.spiking == spiking for one in layers)
