"""Presets: the networks of the papers by name, as text with their neurons.

`preset` builds the spec of a name. Widths that a paper does not state are ours; `note` says so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from spikeloom.base.citation import Citation
from spikeloom.base.errors import unknown_name
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.spec.layer import Norm
from spikeloom.nets.spec.net import NetSpec
from spikeloom.neurons.base import Unit
from spikeloom.neurons.integrate_fire import IF
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

DSR = Citation(
    "Meng, Xiao, Yan, Wang, Lin & Luo",
    "Training High-Performance Low-Latency Spiking Neural Networks by Differentiation on Spike "
    "Representation",
    "CVPR",
    2022,
    "arXiv:2205.00459",
)

PANDA_LIF = LIF(v_th=1.0, alpha=0.95, order="next_step", surrogate=Triangle(gamma=0.3))
"""Eq. 2-4 of Panda et al.: decay and reset act on the same old potential."""

OTTT_LIF = LIF(v_th=1.0, alpha=0.5, surrogate=Sigmoid(k=4.0))
"""OTTT's code: reset by subtraction after a spike; tau = 2."""

DSR_IF = IF(v_th=6.0, fire_fraction=0.5, learn=("v_th",), v_th_min=0.01)
"""DSR's IF: fires at half of v_th, emits spikes of size v_th, and trains v_th."""

DSR_DT = 0.05
DSR_LIF = LIF(
    v_th=0.3,
    alpha=math.exp(-DSR_DT),
    scale_input=True,
    fire_fraction=0.3,
    learn=("v_th",),
    v_th_min=0.0005,
)
"""DSR's LIF at T = 20: tau = 1, dt = 0.05; its spikes have size v_th / dt."""

CIFAR = (3, 32, 32)
EVENTS = (2, 48, 48)
IMAGENET = (3, 224, 224)


@dataclass(frozen=True)
class Preset:
    """A named network.

    Args:
        name: the name that `preset` takes.
        body: the network's text without its readout.
        note: what the source states and what is ours.
        source: the paper.
        in_shape: one sample's shape in the source, (C, H, W).
        classes: number of classes in the source.
        unit: neuron model of every layer that does not set its own.
        bias: whether synapses have a bias.
        norm: norm of layers with weights.
        gain: size of a spike for the next layer.
        spikes: whether the last layer is part of the body and its spike rates are the scores of
            the classes (head "rates").
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
    spikes: bool = False

    @property
    def text(self) -> str:
        """The net's text, readout included."""
        return self.text_for(self.classes)

    def text_for(self, classes: int) -> str:
        """Return the net's text for a number of classes."""
        last = f"f{classes}"
        return f"{self.body} " + (f"[{last}{{dropout = 0.0}}]" if self.spikes else last)

    def spec(self, *, unit: Unit | None = None, classes: int | None = None) -> NetSpec:
        """Build the net's spec, with another neuron model or number of classes if given.

        Layers that set their own unit (the ReLU layers of hybrid nets) keep it.
        """
        return parse(
            self.text_for(self.classes if classes is None else classes),
            unit=self.unit if unit is None else unit,
            bias=self.bias,
            norm=self.norm,
            gain=self.gain,
        )


def preset(name: str, *, unit: Unit | None = None, classes: int | None = None) -> NetSpec:
    """Return the network called `name`.

    Args:
        name: one of `PRESETS`.
        unit: neuron model in place of the preset's; ReLU layers of hybrid nets stay.
        classes: number of classes in place of the preset's.

    Raises:
        ConfigError: no such network; the message suggests the nearest name.

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
    """Write a chain of tokens; a number stands for a ReLU convolution of that width."""
    return " ".join(_relu(word) if isinstance(word, int) else word for word in words)


def _vgg(*stages: tuple[int, int], classifier: str) -> str:
    """Write stages, given as (width, number of convolutions), each followed by a pool."""
    return " ".join(f"{f'c{width} ' * count}P" for width, count in stages) + f" {classifier}"


_LINEAR = '{unit = "none", norm = "none", amplitude = "unit", gain = 1.0}'


def preact_resnet18(width: int = 64) -> str:
    """Write PreAct-ResNet-18 as in DSR's code, without the readout.

    Norm and neurons come before each convolution. A shortcut starts after the block's first neurons
    and adds their spikes to the current of the next block.

    Args:
        width: channels of the first stage; each further stage has twice as many.
    """
    first = _LINEAR.replace("{", "{bias = false, ", 1)
    words = ['{default = {norm = "batch_all", amplitude = "v_th"}}', f"c{width}{first}"]
    for stage in range(4):
        out = width * 2**stage
        for block in range(2):
            halves = stage > 0 and block == 0
            step = "s2" if halves else ""
            path = f", shortcut = 'c{out}k1s2{_LINEAR}'" if halves else ""
            words.append(
                f'[I c{out}{step} c{out}{_LINEAR}]{{join = "add", tap = "first_unit"{path}}}'
            )
    return " ".join([*words, 'I P4 I{norm = "none"}'])


_EVENT_VGG = (
    '{default = {norm = "batch_all", amplitude = "v_th", dropout = 0.1, dropout_held = false}} '
    "c64 P c128 P c256 c256 P c512 c512 P c512 c512 P U7"
)
_FED = '{feedback = [{source = 10, target = 0, layers = "U8 c64", detach = true, zero = true}]} '
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
    Preset(
        "vgg11-f",
        f"{_FED}c64 c128 P c256 c256 P c512 c512 P c512 c512 G",
        "vgg11-ws with feedback from its last spikes to its first current, as in OTTT's code",
        source=OTTT,
        unit=OTTT_LIF,
        bias=True,
        norm="weight",
        gain=2.74,
    ),
    Preset(
        "preact-resnet18",
        preact_resnet18(),
        "as in DSR's code, IF neurons at T = 20 and 5",
        source=DSR,
        unit=DSR_IF,
        bias=True,
        spikes=True,
    ),
    Preset(
        "preact-resnet18-w16",
        preact_resnet18(16),
        "preact-resnet18 a quarter as wide (ours)",
        source=DSR,
        unit=DSR_IF,
        bias=True,
        spikes=True,
    ),
    Preset(
        "preact-resnet18-lif",
        preact_resnet18(),
        "as in DSR's code, LIF neurons at T = 20",
        source=DSR,
        unit=DSR_LIF,
        bias=True,
        gain=1 / DSR_DT,
        spikes=True,
    ),
    Preset(
        "vgg11-dvs",
        _EVENT_VGG,
        "as in DSR's code, LIF neurons at T = 20; the last map of 1x1 is repeated 49 times",
        source=DSR,
        in_shape=EVENTS,
        unit=DSR_LIF,
        bias=True,
        gain=1 / DSR_DT,
        spikes=True,
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({entry.name: entry for entry in _ALL})
"""All presets by name, in the order of their papers."""
