"""One layer as a value: synapse, norm, unit, and what an output looks like to the next layer."""

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
"""Largest width, kernel, stride, padding and delay; torch counts sizes in 64 bits, and these are
multiplied with each other."""


Size = Annotated[int, at_least(0, most=LARGEST)]
Window = Annotated[int, at_least(1, most=LARGEST)]
Share = Annotated[float, within(0, 1, "[)", "a share")]


class Unset:
    """Marks a field whose default depends on the kind of layer; never survives construction."""


UNSET = Unset()


@dataclass(frozen=True)
class Filter(Checked):
    r"""Low-pass between a unit and the next synapse: :math:`y[t] = decay\,y[t-1] + scale\,s[t]`.

    Source:
        Yang et al. 2021 (NA): decay 1 - 1/tau_s, scale 1/tau_s.
    """

    decay: Annotated[float, within(0, 1, "[)", "a decay")]
    scale: float = 1.0

    called: ClassVar[str] = "psp"


@dataclass(frozen=True)
class MaskSpec(Checked):
    """Fixed random wiring: each weight is kept with probability `density`, drawn from `seed`.

    With ``self_connections=False`` a square matrix keeps no weight on its diagonal.
    """

    density: Annotated[float, within(0, 1, "(]", "a share")] = 1.0
    seed: int = 0
    self_connections: bool = True

    called: ClassVar[str] = "mask"


@dataclass(frozen=True)
class LayerSpec(Checked):
    """One layer: synapse, then norm, then unit, then dropout, gain and low-pass.

    Args:
        kind: the synapse. "identity" has no synapse (norm and unit alone, as in pre-activation
            nets); pools and "upsample" (nearest) have no weights.
        out: channels or neurons, for kinds with weights.
        kernel: side of the window; for "upsample" the factor. Default 3, pools and upsample 2,
            1 for kinds without a window.
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
        """The unit, None for a linear layer."""
        assert not isinstance(self.unit, Unset)
        return self.unit

    @property
    def weighted(self) -> bool:
        """Whether the synapse has weights."""
        return self.kind in WEIGHTED
