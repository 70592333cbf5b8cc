"""Networks by name: the nets of the papers, as text with their neurons.

A preset is a body and a number of classes; `preset` builds its spec. Widths that the papers leave
open are ours and said so in `note`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from spikeloom.base.citation import Citation
from spikeloom.base.errors import unknown_name
from spikeloom.nets.grammar import parse
from spikeloom.nets.layer import Norm
from spikeloom.nets.spec import NetSpec
from spikeloom.neurons.base import Unit
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.relu import Relu
from spikeloom.neurons.surrogate import Sigmoid, Triangle

PANDA = Citation(
    "Panda, Aketi & Roy",
    "Toward Scalable, Efficient, and Accurate Deep Spiking Neural Networks With Backward "
    "Residual Connections, Stochastic Softmax, and Hybridization",
    "Frontiers in Neuroscience 14:653",
    2020,
    "arXiv:1910.13931",
)
OTTT = Citation(
    "Xiao et al.",
    "Online Training Through Time for Spiking Neural Networks",
    "NeurIPS",
    2022,
    "arXiv:2210.04195",
)

PANDA_LIF = LIF(v_th=1.0, alpha=0.95, order="next_step", surrogate=Triangle(gamma=0.3))
"""Eq. 2-4 of Panda et al.: decay and reset act on the same old potential."""

OTTT_LIF = LIF(v_th=1.0, alpha=0.5, surrogate=Sigmoid(k=4.0))
"""OTTT's code: fire, then subtract; tau = 2."""

CIFAR = (3, 32, 32)
IMAGENET = (3, 224, 224)


@dataclass(frozen=True)
class Preset:
    """A named network.

    Args:
        name: as `preset` takes it.
        body: the network's text without its readout.
        note: what the source fixes and what is ours.
        source: where the net comes from.
        in_shape: one sample's shape in the source, (C, H, W).
        classes: width of the readout in the source.
        unit: neurons of every layer that names none itself.
        bias: whether synapses have one.
        norm: of layers with weights.
        gain: amplitude of a spike.
    """

    name: str
    body: str
    note: str
    source: Citation = PANDA
    in_shape: tuple[int, int, int] = CIFAR
    classes: int = 10
    unit: Unit = PANDA_LIF
    bias: bool = False
    norm: Norm = "none"
    gain: float = 1.0

    @property
    def text(self) -> str:
        """The net's text, readout included."""
        return f"{self.body} f{self.classes}"

    def spec(self, *, unit: Unit | None = None, classes: int | None = None) -> NetSpec:
        """Build the net, with other neurons or classes where given.

        Layers that name their own unit (the ReLU part of hybrid nets) keep it.
        """
        return parse(
            self.text if classes is None else f"{self.body} f{classes}",
            unit=self.unit if unit is None else unit,
            bias=self.bias,
            norm=self.norm,
            gain=self.gain,
        )


def preset(name: str, *, unit: Unit | None = None, classes: int | None = None) -> NetSpec:
    """Return the network called `name`.

    Args:
        name: one of `PRESETS`.
        unit: neurons in the place of the preset's; its ReLU layers stay.
        classes: width of the readout instead of the preset's.

    Raises:
        ConfigError: no such network; the message names the nearest.

    Example:
        >>> preset("vgg2x4", classes=100).classes
        100
    """
    if name not in PRESETS:
        raise unknown_name("nets.preset", "network", name, PRESETS)
    return PRESETS[name].spec(unit=unit, classes=classes)


def _relu(width: int) -> str:
    return f'c{width}{{unit = "relu"}}'


def _relus(*words: int | str) -> str:
    """Write a chain in which numbers are ReLU convolutions."""
    return " ".join(_relu(word) if isinstance(word, int) else word for word in words)


def _vgg(*stages: tuple[int, int], classifier: str) -> str:
    """Write stages of (width, convolutions), each closed by a pool."""
    return " ".join(f"{f'c{width} ' * count}P" for width, count in stages) + f" {classifier}"


_SKIP = '[c36]{join = "before_unit"}'
_FC = "P f1024"
_BIG = "f4096 f4096"
_BIG_RELU = 'f4096{unit = "relu"} f4096{unit = "relu"}'

_ALL = (
    Preset("vgg7", f"c64 P c64 c64 c64 c64 {_FC}", "5 conv and 2 FC as printed; widths ours"),
    Preset("vgg2x4", f"c64 P [c64]x4 {_FC}", "conv 2 computed 4 times as printed; widths ours"),
    Preset(
        "vgg3x2-v1",
        f"c64 P [c64 c64]x2 {_FC}",
        "conv 2 and 3 computed twice as printed; the order of the repeats (2 3 2 3) is ours",
    ),
    Preset("vgg3", "c64 P P f1024", "FC2 is the classifier as printed; widths ours"),
    Preset("vgg5", f"c64 P c64 c64 {_FC}", "only the depth is printed"),
    Preset("vgg3x2-v2", f"c64 P [c64]x2 {_FC}", "logical depth of vgg5 as printed; 3 = unique"),
    Preset("vgg3x4", f"c64 P [c64]x4 {_FC}", "logical depth 7 as printed; same net as vgg2x4"),
    Preset(
        "vgg9-hybrid",
        _relus(64, 64, "P c128 c128 P c256 c256 c256 P f1024"),
        "conv 1 and 2 with ReLU, 7 conv and 2 FC as printed; widths ours",
    ),
    Preset(
        "vgg8x2-hybrid",
        _relus(64, 64, "P c128 c128 P c256 [c256]x2 P f1024"),
        "conv 1 and 2 with ReLU, conv 6 computed twice; widths ours",
    ),
    Preset("resnet2", f"c36 {_SKIP} P P f1024", "36 maps as in ReStoCNet; skips join the current"),
    Preset(
        "resnet2x2",
        'c36 [c36]x2{join = "before_unit"} P P f1024',
        "conv 2 computed twice, each pass with its own skip (ours)",
    ),
    Preset("resnet3", f"c36 {_SKIP} {_SKIP} P P f1024", "depth as printed; skips as resnet2"),
    Preset(
        "convnn",
        "c64 P c128 P f1024",
        "classifier on STDP features (36 maps); only 'larger convolutional network' is printed",
        in_shape=(36, 32, 32),
        unit=Relu(),
    ),
    Preset(
        "vgg16",
        _vgg((64, 2), (128, 2), (256, 3), (512, 3), (512, 3), classifier=_BIG),
        "the standard net, average pools",
        in_shape=IMAGENET,
        classes=1000,
    ),
    Preset(
        "vgg13",
        _vgg((64, 2), (128, 2), (256, 2), (512, 2), (512, 2), classifier=_BIG),
        "the standard net, average pools",
        in_shape=IMAGENET,
        classes=1000,
    ),
    Preset(
        "vgg13-hybrid",
        _relus(64, 64, "P", 128, 128, "P c256 c256 P", 512, 512, "P", 512, 512, "P", _BIG_RELU),
        "ReLU but for the middle two convs, taken as conv 5 and 6; later layers read the mean",
        in_shape=IMAGENET,
        classes=1000,
    ),
    Preset(
        "vgg11x2",
        "c64 [c64]x2 P c128 [c128]x2 P c256 [c256]x2 P c512 [c512]x2 P [c512]x2 P f4096",
        "11 unique and 16 logical layers as printed; 9 conv and 2 FC are ours",
        in_shape=IMAGENET,
        classes=1000,
    ),
    Preset(
        "vgg11x2-3fc",
        f"c64 P c128 P c256 [c256]x3 P c512 [c512]x2 P [c512]x2 [c512]x2 P {_BIG}",
        "vgg11x2 with the 3 FC of vgg16; one conv must then be computed three times (ours)",
        in_shape=IMAGENET,
        classes=1000,
    ),
    Preset(
        "vgg11-ws",
        "c64 c128 P c256 c256 P c512 c512 P c512 c512 G",
        "as in OTTT's code: scaled weight standardisation, spikes of size 2.74",
        source=OTTT,
        unit=OTTT_LIF,
        bias=True,
        norm="weight",
        gain=2.74,
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({entry.name: entry for entry in _ALL})
"""All presets by name, in the order of their papers."""
