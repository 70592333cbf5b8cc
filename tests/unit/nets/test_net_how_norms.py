"""Whether a norm goes inside a kernel is decided in nets/how.py alone, with a reason where not."""

import importlib.util
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from spikeloom.nets.execution import Execution
from spikeloom.nets.how import FEW, Setting, decide, why_not_inside
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import PLAIN
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.walk import trains as train_walk
from spikeloom.neurons.leaky import LIF
from spikeloom.report.planned import plan_reasons, plan_rows

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="no compiler is installed"
)


@dataclass(frozen=True)
class Starts(LIF):
    """Starts from what arrives first."""

    def init(self, current):
        return super().init(current)._replace(v=current.detach() / 2)


def net_of(*, layout="auto", kernels="compiled", unit=None, text="c8 f6 f3"):
    spec = parse(text, unit=unit or LIF(), norm="batch_all")
    execution = Execution(layout=layout, kernels=kernels)
    return SpikingNet(spec, (2, 17, 17), seed=1, execution=execution)


def setting(net, **changes):
    given = {"order": "layer", "training": True, "watched": False, "rows": 64}
    return Setting(ops=PLAIN, execution=net.execution, **given | changes)


def reason(net, **changes):
    return why_not_inside(net.sites[0], setting(net, **changes))


def test_reasons():
    net = net_of()
    assert reason(net) == ""
    assert reason(net, order="time") == "steps are computed one by one"
    assert reason(net, followed=True) == "torch follows the computation"
    assert reason(net, products=torch.bfloat16) == ""
    assert reason(net, products=torch.float16) == "there are no kernels in float16"
    assert reason(net_of(kernels="reference")) == "no kernels are wanted"
    small, large = (net_of(kernels="auto") for _ in range(2))
    assert reason(small, rows=7) == "the train is too small for a kernel"  # 8 x 17 x 17 each
    assert reason(large, rows=8) == ""
    assert reason(net_of(unit=Starts())) == "the unit does not start at 0"
    assert reason(net_of().bfloat16()) == "the norm has another type than states"
    assert reason(net_of().double(), products=torch.float16) == ""
    assert reason(net_of().to("meta")) == "kernels run on a CPU"


def test_a_unit_without_a_kernel_has_none_for_its_norm(monkeypatch):
    monkeypatch.setattr("spikeloom.nets.how.kernel_of", lambda unit: None)
    assert reason(net_of()) == "the unit has no kernel"


def test_in_rows_large_maps_wait_for_some_steps():
    rows, last = net_of(layout="rows"), net_of()
    hows = [[decide(site, setting(net)) for site in net.sites] for net in (rows, last)]
    # 8 x 17 x 17 quantities do not repeat within a block of work; 8 or 6 do
    assert [how.inside_from for how in hows[0]] == [FEW, 1]
    assert [how.inside_from for how in hows[1]] == [1, 1]
    assert [hows[0][0].inside(steps) for steps in (1, 3, 4)] == [False, False, True]
    said = [row[3] for row in plan_rows(rows.plan, setting(rows))[1:]]
    assert said == ["inside, T >= 4", "inside"]
    assert not any("norm" in line for line in plan_reasons(rows.plan, setting(rows)))


@pytest.mark.parametrize("layout", ["rows", "channels_last"])
@pytest.mark.parametrize("steps", [3, 4])
def test_what_runs_is_what_was_decided(layout, steps, monkeypatch):
    asked, real = [], train_walk.norm_theta
    monkeypatch.setattr(
        train_walk, "norm_theta", lambda norm, *args: asked.append(norm) or real(norm, *args)
    )
    xs = torch.rand(steps, 2, 2, 17, 17, generator=torch.Generator().manual_seed(0)).double()
    net, plain = net_of(layout=layout).double(), net_of(kernels="reference").double()
    with net.settings() as settings:
        out = net(xs)
    hows = [decide(site, settings[0]) for site in net.sites]
    assert (
        len(asked)
        == sum(how.inside(steps) for how in hows)
        == 2 - (layout == "rows" and steps == 3)
    )
    assert torch.equal(out, plain(xs)) and out.any()
    for mine, theirs in zip(net.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12)


class Sub(torch.Tensor):
    """Plain memory under another name, which torch's operators keep."""


def test_inputs_of_another_class_are_computed_by_torch():
    """No decision sees the class of an input: what reads memory looks for itself."""
    xs = torch.rand(4, 2, 2, 17, 17, generator=torch.Generator().manual_seed(0)).double()
    nets = [net_of().double() for _ in range(2)]
    out, expected = nets[0](xs.as_subclass(Sub)), nets[1](xs)
    assert isinstance(out, Sub) and torch.equal(out.as_subclass(torch.Tensor), expected)
    for mine, theirs in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert torch.allclose(mine.as_subclass(torch.Tensor), theirs, rtol=1e-12)
    assert all(isinstance(norm, nn.Module) for norm in nets[0].plan.norms.values())
