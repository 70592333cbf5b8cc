"""The units of the oracles have kernels, so that the compiled half of the tests compares these."""

import pytest
import test_oracle_dsr
import test_oracle_ottt
import test_oracle_spide
import torch

from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.integrate_fire import IF
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Triangle
from spikeloom.neurons.trains import compiled

UNITS = [
    *(unit for unit, _ in test_oracle_dsr.UNITS.values()),
    test_oracle_ottt.UNIT,
    test_oracle_spide.UNIT,
    IF(v_th=2.0),
    LIF(alpha=0.5, surrogate=Triangle(1.0, 1.0)),
]


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_units_have_kernels(unit, kernels):
    assert compiled(unit, torch.zeros(1, 2, 3, dtype=torch.float64)) is not None
    net = SpikingNet(parse("f3 f2", unit=unit), (4,))
    assert net.execution.kernels == kernels
