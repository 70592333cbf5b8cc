"""The spec of one layer: synapse, norm, unit, dropout, and the size of its outputs."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from spikeloom.base.checks import at_least, within
from spikeloom.base.errors import ConfigError
from spikeloom.base.fields import Checked
from spikeloom.neurons.base import Unit
from spikeloom.neurons.declared import FIRING_THRESHOLD
from spikeloom.neurons.leaky import LIF

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

WEIGHTED: tuple[Kind, ...] = ("conv", "conv_transpose", "linear")
POOLS: tuple[Kind, ...] = ("avg_pool", "max_pool")


LARGEST = 2**31 - 1
"""Largest width, kernel, stride, padding and delay. Torch has sizes in 64 bits, and products of
two of these fit into that."""


Size = Annotated[int, at_least(0, most=LARGEST)]
Window = Annotated[int, at_least(1, most=LARGEST)]
Share = Annotated[float, within(0, 1, "[)", "a share")]


class Unset:
    """Default of fields that depend on the kind of layer; construction replaces it by a value."""


UNSET = Unset()


@dataclass(frozen=True)
class Filter(Checked):
    r"""Low-pass between a unit and the next synapse: :math:`y[t] = decay\,y[t-1] + scale\,s[t]`.

    Args:
        decay: decay per step, in [0, 1).
        scale: size of the response to one spike.

    Source:
        Yang et al. 2021 (NA): decay 1 - 1/tau_s, scale 1/tau_s.
    """

    decay: Annotated[float, within(0, 1, "[)", "a decay")]
    scale: float = 1.0

    called: ClassVar[str] = "psp"


@dataclass(frozen=True)
class MaskSpec(Checked):
    """Fixed random connections: each weight is kept with probability `density`.

    Args:
        density: probability, in (0, 1].
        seed: of the random draws.
        self_connections: whether weights on the diagonal (neuron i to neuron i) may be kept.
    """

    density: Annotated[float, within(0, 1, "(]", "a share")] = 1.0
    seed: int = 0
    self_connections: bool = True

    called: ClassVar[str] = "mask"


@dataclass(frozen=True)
class LayerSpec(Checked):
    """One layer: synapse, then norm, then unit, then dropout, gain and low-pass.

    Args:
        kind: the synapse. "identity" has no synapse (only norm and unit, as in pre-activation
            nets); pools and "upsample" (nearest neighbour) have no weights.
        out: number of output channels or neurons, for kinds with weights.
        kernel: side of the window; for "upsample" the factor. Default: 3 for convolutions, 2 for
            pools and "upsample", 1 for kinds without a window.
        stride: default 1; for pools the kernel.
        padding: default kernel // 2 for convolutions, 0 for pools.
        output_padding: rows and columns added to the output of "conv_transpose".
        bias: whether the synapse has a bias.
        unit: the neuron model; None for a linear layer. Default: LIF() for kinds with weights and
            for "identity", None for others.
        norm: "batch_all" is batch norm with statistics over T and B, "batch_step" over B at each
            step; "weight" is scaled weight standardisation.
        dropout: share of unit outputs set to 0 in training; the others are scaled by
            1 / (1 - dropout).
        dropout_held: whether one mask is used for all T steps; else each step draws a new one.
        gain: size of a spike for the next layer (2.74 in OTTT's nets).
        amplitude: "v_th" multiplies the gain by the unit's threshold (DSR).
        psp: low-pass between this unit and the next synapse. Energy estimates count the spikes
            before it.

    Raises:
        ConfigError: a field is out of range, or has no meaning for the kind.
    """

    kind: Kind
    out: Size = 0
    kernel: Window | Unset = UNSET
    stride: Window | Unset = UNSET
    padding: Size | Unset = UNSET
    output_padding: Size = 0
    bias: bool = True
    unit: Unit | None | Unset = UNSET
    norm: Norm = "none"
    dropout: Share = 0.0
    dropout_held: bool = True
    gain: float = 1.0
    amplitude: Literal["unit", "v_th"] = "unit"
    psp: Filter | None = None

    called: ClassVar[str] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.kind
        weighted, pool = kind in WEIGHTED, kind in POOLS
        point = kind in ("linear", "identity", "global_pool")
        self._default("kernel", 1 if point else 3 if kind in ("conv", "conv_transpose") else 2)
        self.expect("kernel", not point or self.kernel == 1, f"none for '{kind}'", "drop it")
        self._default("stride", self.kernel if pool else 1)
        self._default("padding", 0 if pool or not weighted else self.kernel_size // 2)
        self._default("unit", LIF() if weighted or kind == "identity" else None)
        width = "a width of 1 or more" if weighted else f"no width for '{kind}'"
        todo = "set out" if weighted else "leave out at 0"
        self.expect("out", (self.out >= 1) == weighted, width, todo)
        self._check_window()
        lacking = f"weights to standardise, which '{kind}' has not"
        self.expect("norm", self.norm != "weight" or weighted, lacking, "use none")
        if self.amplitude != "unit" and not FIRING_THRESHOLD.made(self.unit):
            came = f"'{self.amplitude}' with {self.unit!r}"
            path = f"{self.place()}.amplitude"
            expected = "a unit with a threshold, declared as firing_threshold for its step"
            todo = "use amplitude 'unit', or add it to the class"
            raise ConfigError.of(path, expected, came, todo)

    def _check_window(self) -> None:
        kind, extra = self.kind, self.output_padding
        sized = kind in ("conv", "conv_transpose", *POOLS)
        self.expect("stride", sized or self.step_size == 1, f"1 for '{kind}'", "drop it")
        self.expect("padding", sized or self.pad_size == 0, f"0 for '{kind}'", "drop it")
        half = self.kernel_size // 2
        inside = kind not in POOLS or self.pad_size <= half
        self.expect("padding", inside, f"half the window, {half}, at most", "lower it")
        low_enough = extra < (self.step_size if kind == "conv_transpose" else 1)
        expected = "0 or more and below the stride of a conv_transpose"
        self.expect("output_padding", low_enough, expected)

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
        """The neuron model; None for a linear layer."""
        assert not isinstance(self.unit, Unset)
        return self.unit

    @property
    def weighted(self) -> bool:
        """Whether the synapse has weights."""
        return self.kind in WEIGHTED
