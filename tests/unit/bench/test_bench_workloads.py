"""Every contender trains the same net: shapes, weights, rates, and the loss of the first steps."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from spikeloom.bench.contender import CONTENDERS, Task, folded
from spikeloom.bench.workloads import QUICK, RATE, SMALL_CONV, UNIT, WORKLOADS, Fire, Workload

TINY = Workload("tiny", "conv", "c4 P c6 P f8 f10", (3, 8, 8), steps=3, batch=4)
TINY_WS = Workload("tiny", "ws", "c4 c6 P c6 G f10", (3, 8, 8), steps=3, batch=4, standardised=True)
TINY_FLAT = Workload("tiny", "flat", "f8 f10", (12,), steps=3, batch=4)
TINIES = {"conv": TINY, "standardised": TINY_WS, "flat": TINY_FLAT}

EQUAL = ("bptt", "spikingjelly-m", "spikingjelly-s", "norse", "sinabs")
"""Contenders of the very same forward pass."""


class Recorder:
    def __init__(self):
        self.rates = {}

    def see(self, site, x, current, out):
        if site.neuron is not None:
            self.rates[site.name] = out.mean().item()


def reference_loss(work):
    """The loss by the equation, layer by layer."""
    xs, y = work.data()
    h = xs
    with torch.no_grad():
        for layer in work.layers():
            if isinstance(layer, Fire):
                v, out = torch.zeros_like(h[0]), []
                for current in h:
                    u = 0.5 * v + current
                    out.append((u >= 1).float())
                    v = u - out[-1]
                h = torch.stack(out)
            else:
                h = layer(h.flatten(0, 1)).unflatten(0, (work.steps, work.batch))
        return nn.functional.cross_entropy(h.mean(0), y).item()


@pytest.mark.parametrize("work", [*WORKLOADS.values(), SMALL_CONV], ids=lambda work: work.name)
def test_every_layer_is_lively(work):
    work = work.sized(batch=2, steps=min(work.steps, 8))
    net, _ = work.spiking()
    recorder = Recorder()
    with torch.no_grad(), net.observe(recorder):
        net(work.data()[0])
    assert all(0.03 < rate < 0.4 for rate in recorder.rates.values()), recorder.rates


def test_input_is_drawn_anew_at_every_step_and_the_same_at_every_call():
    xs, y = TINY.data()
    assert xs.shape == (3, 4, 3, 8, 8) and y.shape == (4,)
    assert not torch.equal(xs[0], xs[1]) and torch.equal(xs, TINY.data()[0])
    assert abs(WORKLOADS["mlp"].data()[0].mean() - RATE) < 0.01


def test_a_workload_survives_the_way_through_json():
    assert Workload.from_dict(TINY_WS.to_dict() | {"shape": [3, 8, 8]}) == TINY_WS
    assert TINY.sized(steps=9).steps == 9 and TINY.sized(batch=5) == TINY.sized(steps=3, batch=5)


def test_the_unit_is_what_the_page_says():
    assert (UNIT.alpha, UNIT.v_th, UNIT.reset, UNIT.detach_reset) == (0.5, 1.0, "soft", True)


@pytest.mark.parametrize("work", TINIES.values(), ids=TINIES)
@pytest.mark.parametrize("name", EQUAL)
def test_the_first_loss_is_that_of_the_equation(work, name):
    contender = CONTENDERS.find(name)
    if contender.package and find_spec(contender.package) is None:
        pytest.skip(f"{contender.package} is not installed")
    for layout in contender.layouts:
        loss = contender.build(Task(work, "fp32", layout)).call()
        assert loss.item() == pytest.approx(reference_loss(work), rel=1e-5)


def test_bf16_is_near():
    exact, low = (
        CONTENDERS.find("bptt").build(Task(TINY, precision)).call()
        for precision in ("fp32", "bf16")
    )
    assert exact != low and abs(exact - low) < 0.2


@pytest.mark.parametrize("name", CONTENDERS.names())
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_contender_steps(name, precision):
    contender = CONTENDERS.find(name)
    if contender.package and find_spec(contender.package) is None:
        pytest.skip(f"{contender.package} is not installed")
    for work in TINIES.values():
        for layout in contender.layouts:
            step = contender.build(Task(work, precision, layout))
            losses = [step.call() for _ in range(2)]
            assert all(torch.isfinite(loss) and not loss.requires_grad for loss in losses)
            assert step.backend()


@pytest.mark.parametrize("way", ["fold", "loop"])
@pytest.mark.parametrize("work", [TINY, TINY_WS], ids=["conv", "standardised"])
def test_the_floors_agree(way, work):
    losses = [
        CONTENDERS.find(f"ann-{way}{suffix}").build(Task(work)).call() for suffix in ("", "-cl")
    ]
    other = CONTENDERS.find("ann-fold").build(Task(work)).call()
    torch.testing.assert_close(losses, [other, other])


def test_layouts_are_laid_out():
    task = Task(TINY, "fp32", "channels-last")
    x = folded(task, TINY.data()[0])
    assert x.is_contiguous(memory_format=torch.channels_last) and x.shape == (12, 3, 8, 8)
    first = next(task.module(nn.ReLU).parameters())
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_quick_sizes_keep_the_nets():
    assert QUICK.keys() == WORKLOADS.keys()
    for name, work in QUICK.items():
        assert work.text == WORKLOADS[name].text and work.steps * work.batch <= 800
