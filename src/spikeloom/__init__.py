"""One spiking neural network, every way to train it, one honest table."""

from typing import TYPE_CHECKING

from spikeloom.base.lazy import lazily

if TYPE_CHECKING:
    from spikeloom.base.types import Batch
    from spikeloom.data.augment import Augment
    from spikeloom.data.base import load_data
    from spikeloom.heads.softmax import Softmax
    from spikeloom.heads.stochmax import Stochmax
    from spikeloom.nets.module.net import SpikingNet
    from spikeloom.nets.spec.grammar import parse
    from spikeloom.nets.spec.net import BlockSpec, FeedbackSpec, LayerSpec, NetSpec
    from spikeloom.neurons.integrate_fire import IF
    from spikeloom.neurons.leaky import LIF
    from spikeloom.neurons.module import Neuron
    from spikeloom.neurons.over_time import OverTime
    from spikeloom.neurons.relu import Relu
    from spikeloom.report.results import Results, results

__version__ = "0.1.0"

__all__ = [
    "IF",
    "LIF",
    "Augment",
    "Batch",
    "BlockSpec",
    "FeedbackSpec",
    "LayerSpec",
    "NetSpec",
    "Neuron",
    "OverTime",
    "Relu",
    "Results",
    "Softmax",
    "SpikingNet",
    "Stochmax",
    "load_data",
    "parse",
    "results",
]

__getattr__ = lazily(
    __name__,
    {
        "IF": "neurons.integrate_fire",
        "LIF": "neurons.leaky",
        "Augment": "data.augment",
        "Batch": "base.types",
        "BlockSpec": "nets.spec.net",
        "FeedbackSpec": "nets.spec.net",
        "LayerSpec": "nets.spec.net",
        "NetSpec": "nets.spec.net",
        "Neuron": "neurons.module",
        "OverTime": "neurons.over_time",
        "Relu": "neurons.relu",
        "Results": "report.results",
        "Softmax": "heads.softmax",
        "SpikingNet": "nets.module.net",
        "Stochmax": "heads.stochmax",
        "load_data": "data",
        "parse": "nets.spec.grammar",
        "results": "report.results",
    },
)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
