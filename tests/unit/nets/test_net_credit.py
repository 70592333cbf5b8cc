"""Weights of a batch: made once, credited step by step, sent back once."""

import netkit as kit
import pytest
import torch

from spikeloom.base.types import Batch
from spikeloom.heads.softmax import Softmax
from spikeloom.meters.products import count_operations
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Credited, Visit
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.leaky import LIF
from spikeloom.rules.ottt import Ottt
from spikeloom.rules.sltt import Sltt

NETS = ["c4 f8 f3", 'c4{norm = "weight"} P f8 f3', "{default = {bias = false}} c4 f8 f3"]
SHAPE = (2, 6, 6)


def problem(text, execution=None, dtype=torch.float64):
    net = SpikingNet(parse(text, unit=LIF(alpha=0.5)), SHAPE, execution=execution).to(dtype)
    head = Softmax.of(net).to(dtype)
    xs = torch.rand(5, 4, *SHAPE, generator=kit.generator(), dtype=dtype)
    return net, head, Batch.of(xs, torch.arange(4) % 3)


def learned(net, head, batch, rule):
    rule.learn(net, batch, head.bind(batch.target, batch.rng), lambda: None)
    return [one.grad for one in (*net.parameters(), *head.parameters())]


class TestSums:
    @pytest.mark.parametrize("text", NETS)
    def test_equal_autograds_own(self, text):
        net, head, batch = problem(text)
        site, credit = net.sites[0], Credited()
        total = 0.0
        for x in batch.xs:
            y = credit(Visit(site), x)
            y.square().sum().backward()
            total = total + site.synapse(x).square().sum()
        credit.flush()
        found = [one.grad.clone() for one in site.synapse.parameters()]
        net.zero_grad()
        total.backward()
        for one, other in zip(found, site.synapse.parameters(), strict=True):
            torch.testing.assert_close(one, other.grad)

    def test_a_second_batch_adds(self):
        net, head, batch = problem(NETS[0])
        once = [one.clone() for one in learned(net, head, batch, Sltt())]
        twice = learned(net, head, batch, Sltt())
        for one, other in zip(once, twice, strict=True):
            torch.testing.assert_close(2 * one, other)

    def test_frozen_weights_get_none(self):
        net, head, batch = problem(NETS[0])
        frozen = net.sites[1].synapse.weight.requires_grad_(False)
        learned(net, head, batch, Ottt())
        assert frozen.grad is None and net.sites[0].synapse.weight.grad is not None

    def test_products_are_still_counted(self):
        net, head, batch = problem(NETS[0])
        forward, backward = (
            getattr(count_operations(lambda: learned(net, head, batch, Sltt())), part)
            for part in ("forward", "backward")
        )
        conv, hidden, readout = 4 * 2 * 9 * 36, 4 * 36 * 8, 8 * 3
        assert forward == 5 * 4 * (conv + hidden + readout)
        assert backward == 5 * 4 * (conv + 2 * hidden + 2 * readout)


class TestCompiledSteps:
    """Steps that keep one value in the state's place learn what the reference learns."""

    @pytest.mark.parametrize("rule", [Sltt(), Sltt(k_steps=2), Ottt(), Ottt(update="online")])
    @pytest.mark.parametrize(
        "unit",
        [
            LIF(alpha=0.5),
            LIF(alpha=0.5, reset="hard", v_reset=0.25),
            LIF(alpha=0.5, order="next_step", detach_reset=True),
            LIF(alpha=0.5, learn=("v_th",)),
            LIF(alpha=0.5, refractory=1),
        ],
        ids=["soft", "hard", "next", "v_th", "refractory"],
    )
    def test_gradients(self, rule, unit):
        found = []
        for kernels in ("compiled", "reference"):
            spec = parse("c4 P c4 f8 f3", unit=unit)
            net = SpikingNet(spec, SHAPE, execution=Execution(kernels=kernels)).double()
            head = Softmax.of(net).double()
            xs = torch.rand(5, 4, *SHAPE, generator=kit.generator(), dtype=torch.float64)
            found.append(learned(net, head, Batch.of(xs, torch.arange(4) % 3), rule))
        for one, other in zip(*found, strict=True):
            assert one is not None and other is not None
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
