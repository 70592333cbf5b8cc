"""One spiking neural network, every way to train it, one honest table."""

from spikeloom.base.types import Batch
from spikeloom.data import load_data
from spikeloom.heads.softmax import Softmax
from spikeloom.heads.stochmax import Stochmax
from spikeloom.nets.grammar import parse
from spikeloom.nets.net import SpikingNet
from spikeloom.nets.spec import BlockSpec, FeedbackSpec, LayerSpec, NetSpec
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.relu import Relu

__version__ = "0.1.0"

__all__ = [
    "IF",
    "LIF",
    "Batch",
    "BlockSpec",
    "FeedbackSpec",
    "LayerSpec",
    "NetSpec",
    "Neuron",
    "Relu",
    "Softmax",
    "SpikingNet",
    "Stochmax",
    "load_data",
    "parse",
]
