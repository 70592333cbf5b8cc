"""Saving memory changes what is stored, and no gradient."""

import netkit as kit
import pytest
import torch

from spikeloom.base.errors import ConfigError
from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.kernels.source import jit
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.walk.saving import cheap_sites
from spikeloom.neurons.leaky import LIF
from spikeloom.rules.bptt import Bptt

TEXTS = [
    "c8 c16 P c16 P f32 f10",
    "c8 P [c8]x2 f32 f10",
    'c8{norm = "batch_all"} c16{norm = "batch_step"} P f32 f10',
    'c8{norm = "weight", gain = 2.74} c16{dropout = 0.25} M f32 f10',
    'c8 [c8 c8]{join = "add"} f32{psp = {decay = 0.5}} f10',
]
SHAPE, STEPS, BATCH = (2, 16, 16), 4, 6


def gradients(text, execution, *, constant=False, low=False):
    spec = parse(text, unit=LIF(alpha=0.5, detach_reset=True))
    net = SpikingNet(spec, SHAPE, execution=execution)
    head = Softmax.of(net)
    generator = kit.generator()
    size = (BATCH, *SHAPE) if constant else (STEPS, BATCH, *SHAPE)
    xs = (torch.rand(size, generator=generator) < 0.4).float()
    xs = xs.expand(STEPS, *xs.shape) if constant else xs
    batch = Batch.of(xs, torch.arange(BATCH) % 10)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        report = Bptt().learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
    return report.loss, [one.grad for one in (*net.parameters(), *head.parameters())]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("constant", [False, True], ids=["train", "constant"])
@pytest.mark.parametrize("low", [False, True], ids=["fp32", "bf16"])
def test_every_gradient_is_the_same(text, constant, low):
    plain, grads = gradients(text, Execution(), constant=constant, low=low)
    less, saved = gradients(text, Execution(memory="saving"), constant=constant, low=low)
    assert torch.equal(plain, less)
    for one, other in zip(grads, saved, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


@pytest.mark.skipif(jit.numba() is None, reason="no compiler")
def test_it_saves():
    spec = parse("c16 c32 c32 c32 P f64 f10", unit=LIF(alpha=0.5))
    peaks = {}
    for memory in ("plain", "saving"):
        net = SpikingNet(spec, (3, 32, 32), execution=Execution(memory=memory))
        xs = (torch.rand(8, 8, 3, 32, 32, generator=kit.generator()) < 0.2).float()
        peaks[memory] = kit.step_peak(net, xs)
    assert peaks["saving"] < 0.85 * peaks["plain"]


def test_cheap_are_layers_of_few_products_without_batch_norm():
    net = SpikingNet("c16 c64 c64 f16 f10", (1, 16, 16))
    assert cheap_sites(net.sites) == {"0.0.0", "3.0.0"}
    normed = SpikingNet('c16{norm = "batch_all"} c64 c64 f10', (1, 16, 16))
    assert cheap_sites(normed.sites) == set()


def test_an_unknown_way_is_refused():
    with pytest.raises(ConfigError, match="execution.worth: expected 0 or more, got -1"):
        Execution(worth=-1)
    with pytest.raises(ConfigError, match="execution.memory: expected plain or saving"):
        Execution(memory="none")  # pyright: ignore[reportArgumentType]


@pytest.mark.skipif(jit.numba() is None, reason="no compiler")
def test_weights_cast_for_recomputed_currents_are_let_go():
    """In bfloat16 and with few samples, a copy of this linear layer's weights is what counts."""
    peaks = {}
    for memory in ("plain", "saving"):
        execution = Execution(kernels="compiled", memory=memory)
        net = SpikingNet("c64 c128 P c256 P f256 f10", (3, 32, 32), execution=execution)
        xs = (torch.rand(2, 2, 3, 32, 32, generator=kit.generator()) < 0.2).float()
        peaks[memory] = kit.step_peak(net, xs, low=True)
    assert "5.0.0" in cheap_sites(net.sites)
    assert peaks["saving"] <= peaks["plain"]
