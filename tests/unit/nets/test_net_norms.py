"""Norms that units apply in their own kernels are torch's batch norm before the unit."""

import importlib.util
from dataclasses import dataclass, replace

import netkit as kit
import pytest
import torch
from torch import nn

from spikeloom.base.errors import ShapeError
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.nets.spec.grammar import parse
from spikeloom.nets.walk import trains as train_walk
from spikeloom.neurons import trains
from spikeloom.neurons.leaky import LIF

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="no compiler is installed"
)

IMAGE, STEPS, BATCH = (2, 8, 8), 5, 6
LATE = {
    "plain": "c4 c6 f8 f3",
    "pools": "c4 P c6 P f8 f3",
    "without weights": 'c4 [I c4k3 I c4k3]{join = "add"} I P f3',
    "a path beside": 'c4 [c6 c6]{join = "add", shortcut = "c6k1"} P f8 f3',
    "back": "c4 [c4 c4]x2 P f8 f3",
}
"""Nets all of whose norms can be left to their units."""
OTHERS = {
    "before the unit": 'c4{norm = "none"} [c4{norm = "none"} c4]{join = "before_unit"} P f3',
    "step by step": '{default = {norm = "batch_step"}} c4 P f8 f3',
    "a max pool of stateless": '{default = {unit = "relu"}} c4 M c6 P f8 f3',
}
CONSTANT = pytest.mark.parametrize("constant", [False, True], ids=["changing", "constant"])


def make(text, dtype=torch.float64, *, learn=(), layout="auto"):
    unit = LIF(alpha=0.75, detach_reset=True, learn=learn)
    spec = parse(text, **({"unit": unit} | ({} if "norm" in text[:30] else {"norm": "batch_all"})))
    net = SpikingNet(spec, IMAGE, execution=Execution(layout=layout)).to(dtype)
    draw = kit.generator()
    with torch.no_grad():
        for norm in net.plan.norms.values():
            norm.weight.add_(0.5 * torch.rand(norm.weight.shape, generator=draw))
            norm.bias.add_(0.3 + 0.2 * torch.rand(norm.weight.shape, generator=draw))
    return net


def inputs(dtype=torch.float64, *, constant=False):
    draw = kit.generator()
    xs = torch.rand(1 if constant else STEPS, BATCH, *IMAGE, generator=draw, dtype=torch.float64)
    return xs.to(dtype).expand(STEPS, *xs.shape[1:]) if constant else xs.to(dtype)


def ran(net, xs, kernels, *, ops=PLAIN, passes=1):
    """Return features, gradients and running statistics; what was learned is put back."""
    net.execution = replace(net.execution, kernels=kernels)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.zero_grad()
    leaf = xs.clone().requires_grad_() if passes == 1 else xs
    out = net.run_by_layer(leaf, ops)
    up = torch.rand(out.shape, generator=torch.Generator().manual_seed(5)).to(out.dtype)
    for _ in range(passes):
        (out * up).sum().backward(retain_graph=passes > 1)
    grads = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    if passes == 1:
        grads["input"] = leaf.grad
    after = {name: value.clone() for name, value in net.named_buffers()}
    net.load_state_dict(before)
    return out.detach(), grads, after


def close(mine, theirs, rounding):
    assert mine.keys() == theirs.keys()
    scale = max(value.abs().max().item() for value in theirs.values())
    for name, value in theirs.items():
        assert (mine[name] - value).abs().max() <= rounding * scale, name


@pytest.fixture
def asked(monkeypatch):
    """Count the norms that are left to their units; the reference loop is not to run."""
    calls = []
    real = train_walk.norm_theta
    monkeypatch.setattr(
        train_walk, "norm_theta", lambda norm, *args: calls.append(norm) or real(norm, *args)
    )
    return calls


@CONSTANT
@pytest.mark.parametrize("layout", ["rows", "channels_last"])
@pytest.mark.parametrize("name", LATE)
def test_outputs_gradients_and_statistics_are_those_of_torch(name, layout, constant, asked):
    net, xs = make(LATE[name], layout=layout).train(), inputs(constant=constant)
    expected, theirs, kept = ran(net, xs, "reference")
    assert not asked
    got, mine, moved = ran(net, xs, "compiled")
    assert len(asked) == len(net.plan.norms)
    assert torch.equal(got, expected) and expected.any()
    close(mine, theirs, 1e-13)
    for buffer, value in kept.items():
        assert torch.allclose(moved[buffer], value, rtol=1e-13, atol=1e-15), buffer
    assert any("running" in buffer for buffer in kept)


@pytest.mark.parametrize("name", OTHERS)
def test_norms_that_cannot_wait_come_before_the_unit(name, asked):
    net, xs = make(OTHERS[name]).train(), inputs()
    expected, theirs, _ = ran(net, xs, "reference")
    got, mine, _ = ran(net, xs, "compiled")
    assert not asked and torch.equal(got, expected)
    close(mine, theirs, 1e-13)


@CONSTANT
@pytest.mark.parametrize("name", ["pools", "without weights"])
def test_in_evaluation_running_statistics_count(name, constant, asked):
    net, xs = make(LATE[name]), inputs(constant=constant)
    net.train()(xs)
    net.eval()
    expected, theirs, kept = ran(net, xs, "reference")
    asked.clear()
    got, mine, moved = ran(net, xs, "compiled")
    assert len(asked) == len(net.plan.norms) and torch.equal(got, expected)
    close(mine, theirs, 1e-13)
    assert all(torch.equal(moved[buffer], value) for buffer, value in kept.items())
    with torch.no_grad():  # norms of convolutions are in the weights, the others in the kernels
        asked.clear()
        assert torch.equal(net(xs), expected)
        bare = sum(site.norm is not None and not site.folds for site in net.sites)
        assert len(asked) == bare


def test_trained_thresholds_beside_norms(asked):
    net, xs = make(LATE["pools"], learn=("v_th", "alpha")).train(), inputs()
    expected, theirs, _ = ran(net, xs, "reference")
    got, mine, _ = ran(net, xs, "compiled")
    assert asked and torch.equal(got, expected)
    assert any("v_th" in name for name in theirs)
    close(mine, theirs, 1e-13)


def test_a_graph_that_is_kept_gives_its_gradients_twice(asked):
    net, xs = make(LATE["pools"]).train(), inputs()
    _, theirs, _ = ran(net, xs, "reference", passes=2)
    _, mine, _ = ran(net, xs, "compiled", passes=2)
    assert asked
    close(mine, theirs, 1e-13)


@pytest.mark.parametrize("momentum", [None, 0.3])
def test_running_statistics_move_as_torch_moves_them(momentum, asked):
    found = []
    for kernels in ("reference", "compiled"):
        net = make(LATE["pools"]).train()
        net.execution = replace(net.execution, kernels=kernels)
        for norm in net.plan.norms.values():
            norm.momentum = momentum
        for scale in (1.0, 0.5, 2.0):
            net(scale * inputs())
        found.append(dict(net.named_buffers()))
    for name, value in found[0].items():
        assert torch.allclose(found[1][name], value, rtol=1e-13), name
    assert asked


def test_single_precision_and_bfloat16_are_near(asked):
    exact = ran(make(LATE["pools"]).train(), inputs(), "compiled")[1]
    net, xs = make(LATE["pools"], torch.float32).train(), inputs(torch.float32)
    single = ran(net, xs, "compiled")[1]
    close({name: grad.double() for name, grad in single.items()}, exact, 1e-5)
    distances = []
    for kernels in ("reference", "compiled"):
        with torch.autocast("cpu", torch.bfloat16):
            _, low, _ = ran(net, xs, kernels)
        apart = [(low[name].double() - grad).square().sum() for name, grad in exact.items()]
        distances.append(torch.stack(apart).sum().sqrt().item())
    assert len(asked) == 3 * len(net.plan.norms)
    assert distances[1] < 1.1 * distances[0]  # products in bfloat16 put some spikes elsewhere


@pytest.mark.parametrize(
    "ops",
    [
        Ops(carry=lambda visit, state: trains.map_state(state, torch.Tensor.detach)),
        Ops(emit=lambda visit, out: 2 * out),
        Ops(synapse=lambda visit, x: 0.5 * visit.synapse(x)),
    ],
    ids=["carry", "emit", "synapse"],
)
def test_seams_of_rules_act_as_before(ops):
    net, xs = make(LATE["pools"]).train(), inputs()
    expected, theirs, _ = ran(net, xs, "reference", ops=ops)
    got, mine, _ = ran(net, xs, "compiled", ops=ops)
    assert torch.equal(got, expected)
    close(mine, theirs, 1e-13)


def test_observers_see_normalised_currents():
    net, xs = make(LATE["pools"]).eval(), inputs()
    seen = []
    for kernels in ("reference", "compiled"):
        net.execution = replace(net.execution, kernels=kernels)
        watcher = kit.Recorder()
        with net.observe(watcher):
            net(xs)
        seen.append(watcher.seen)
    for one, other in zip(*seen, strict=True):
        assert one[0] == other[0]
        assert all(
            a is b is None or torch.equal(a, b) for a, b in zip(one[1:], other[1:], strict=True)
        )


def test_a_norm_of_ones_own_is_called(asked):
    class Halved(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) / 2

    net, xs = make(LATE["pools"]).train(), inputs()
    site = net.sites[0]
    site.norm = Halved(4).double()
    expected, theirs, _ = ran(net, xs, "reference")
    got, mine, _ = ran(net, xs, "compiled")
    assert len(asked) == len(net.plan.norms) - 1 and torch.equal(got, expected)
    close(mine, theirs, 1e-13)


def test_hooks_and_statistics_that_are_not_tracked_are_heeded(asked):
    net, xs, seen = make(LATE["pools"]).train(), inputs(), []
    first, second, *_ = net.plan.norms.values()
    first.register_forward_hook(lambda *args: seen.append(1))
    second.track_running_stats = False
    ran(net, xs, "compiled")
    assert seen and len(asked) == len(net.plan.norms) - 2
    assert not second.running_mean.any() and second.num_batches_tracked == 0


def test_a_hook_on_a_synapse_may_keep_what_it_sees():
    net, xs, kept = make(LATE["pools"]).train(), inputs(), []
    net.execution = replace(net.execution, kernels="compiled")
    net.sites[0].synapse.register_forward_hook(lambda *args: kept.append(args[-1]))
    out = net(xs)
    before = kept[0].detach().clone()
    out.square().sum().backward()
    assert torch.equal(kept[0], before)


def test_a_unit_that_starts_from_its_current_gets_the_normalised_one(asked):
    @dataclass(frozen=True)
    class Started(LIF):
        def init(self, current):
            state = super().init(current)
            return state._replace(v=0.5 * current)

    spec = parse("c4 c6 f8 f3", unit=Started(alpha=0.75, detach_reset=True), norm="batch_all")
    net, xs = SpikingNet(spec, IMAGE).double().train(), inputs()
    expected, theirs, _ = ran(net, xs, "reference")
    got, mine, _ = ran(net, xs, "compiled")
    assert not asked and torch.equal(got, expected) and expected.any()
    close(mine, theirs, 1e-13)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nets_of_low_precision_run_as_they_did(dtype, asked):
    net, xs = make(LATE["pools"], dtype).train(), inputs(dtype)
    outs = [ran(net, xs, kernels)[0] for kernels in ("reference", "compiled")]
    assert not asked and torch.equal(*outs)
    net.eval()
    outs = [ran(net, xs, kernels)[0] for kernels in ("reference", "compiled")]
    assert not asked and torch.equal(*outs)


def test_a_single_step_in_rows_is_left_to_torch(asked):
    net, xs = make("c64 P f8 f3", layout="rows").train(), inputs()[:1]
    expected, theirs, _ = ran(net, xs, "reference")
    got, mine, _ = ran(net, xs, "compiled")
    assert len(asked) == 1  # the linear layer's repeats along memory
    assert torch.equal(got, expected)
    close(mine, theirs, 1e-13)


@CONSTANT
def test_a_single_step_costs_what_it_did(constant):
    """No copy of the currents comes of picking them out of their train."""
    peaks = {}
    for norm in ("none", "batch_all"):
        spec = parse("c16 c32 c32 f10", unit=LIF(alpha=0.5, detach_reset=True), norm=norm)
        net = SpikingNet(spec, (3, 32, 32)).train()
        xs = torch.rand(1, 16, 3, 32, 32, generator=kit.generator())
        peaks[norm] = kit.step_peak(net, xs.expand(4, *xs.shape[1:]) if constant else xs)
    assert peaks["batch_all"] < 1.05 * peaks["none"]


def test_one_value_per_channel_is_refused():
    net = SpikingNet('f8{norm = "batch_all"} f3', (4,), execution=Execution(kernels="compiled"))
    with pytest.raises(ShapeError, match="expected more than one value per channel"):
        net.train()(torch.rand(1, 1, 4))


def test_a_step_needs_no_memory_for_its_norms():
    peaks = {}
    for norm in ("none", "batch_all"):
        spec = parse("c16 c32 P c32 f64 f10", unit=LIF(alpha=0.5, detach_reset=True), norm=norm)
        net = SpikingNet(spec, (3, 32, 32)).train()
        xs = (torch.rand(8, 8, 3, 32, 32, generator=kit.generator()) < 0.2).float()
        peaks[norm] = kit.step_peak(net, xs)
    assert peaks["batch_all"] < 1.03 * peaks["none"]
