"""Nets on compiled kernels are nets on the reference: forward to the bit, gradients closely."""

import importlib.util
from contextlib import contextmanager
from dataclasses import replace

import netkit as kit
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom.base.errors import ConfigError
from spikeloom.kernels.runs import OPTIONS
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import PLAIN, Ops
from spikeloom.neurons import trains

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="no compiler is installed"
)

IMAGE = (2, 8, 8)
EDGE = '{{feedback = [{{source = 1, target = 0, layers = "c4{more}"}}]}} '
NETS = {
    "plain": "c4 c6 f8 f3",
    "pools": "c4 P c6 P f8 f3",
    "a pool in a block": "[c4 P c6] P f8 f3",
    "a pool of three": "c4k3p0 P3 f8 f3",
    "overlapping pools": "c4 P3s2 c4 P2s1 f8 f3",
    "a pool with more to do": "c4 P{gain = 2.0} c4 P{psp = {decay = 0.5}} f8 f3",
    "a pool of pools": "c4 P P f8 f3",
    "a max pool": "c4 M c6 G f8 f3",
    "back": '[c4 c6]x3{fit = "drop"} P f8 f3',
    "back by choice": 'c4 [c6]x2{fit = "topk"} P f8 f3',
    "joins": 'c4 [c4 c4]{join = "add"} P [c4]x2{join = "and"} [c4]{join = "iand"} f8 f3',
    "before the unit": 'c4 [c4 c4]{join = "before_unit"} P f8 f3',
    "a path beside": 'c4 [c6 c6]{join = "add", shortcut = "c6k1"} P f8 f3',
    "a pool inside a join": 'c4 [c6 P]{join = "add", shortcut = "c6k1s2"} P f8 f3',
    "a path with a pool": 'c4 [c6s2]{join = "add", shortcut = "c6k1 P"} P f8 f3',
    "a tap": 'c4 [c4 c4]{join = "add", tap = "first_unit"} P f8 f3',
    "gains": "{default = {gain = 1.25}} c4 P c6 P f8 f3",
    "threshold": '{default = {amplitude = "v_th"}} c4 P c6 P f8 f3',
    "low-pass": "{default = {psp = {decay = 0.5}}, input_psp = {decay = 0.25}} c4 P c6 f8 f3",
    "dropout": "{default = {dropout = 0.3}} c4 P c6 P f8 f3",
    "fresh dropout": "{default = {dropout = 0.3, dropout_held = false}} c4 P c6 P f8 f3",
    "norms": '{default = {norm = "weight"}} c4 P c6 P f8 f3',
    "feedback": EDGE.format(more="") + "c4 c4 P f8 f3",
    "feedback past a pool": EDGE.format(more="").replace("source = 1", "source = 0")
    + "c4 P c6 f8 f3",
    "a tail": 'c4 P c4{unit = "relu"} P f6{unit = "relu"} f3',
    "a front": 'c4{unit = "relu"} P c4 P f8 f3',
    "a tail behind a pool": 'c4 [P]{reads = "step"} c4{unit = "relu"} f3',
}


@contextmanager
def noted():
    """Note what every train of a unit was given: its pool, and whether the reference ran."""
    calls, references = [], []
    train, reference = trains.run_train, trains._reference

    def run(*args, **options):
        calls.append(options.get("options", OPTIONS).pool)
        return train(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spikeloom.nets.walk.walk.run_train", run)
        patch.setattr("spikeloom.nets.walk.trains.run_train", run)
        patch.setattr(trains, "_reference", lambda *a: references.append(1) or reference(*a))
        yield calls, references


def weights_of(net):
    """Make currents large enough to fire at every depth."""
    with torch.no_grad():
        for site in net.sites:
            weight = getattr(site.synapse, "weight", None)
            if isinstance(weight, torch.Tensor):
                weight.mul_(3.0)
    return net


def inputs(constant=False, steps=5):
    draw = torch.Generator().manual_seed(4)
    if constant:
        return torch.rand(1, 3, *IMAGE, generator=draw).expand(steps, -1, -1, -1, -1) * 1.5
    return torch.rand(steps, 3, *IMAGE, generator=draw) * 1.5


def ran(net, xs, kernels, order, ops=PLAIN):
    """Return features and gradients, each run with the same draws."""
    net.execution = replace(net.execution, kernels=kernels)
    net.zero_grad()
    out = getattr(net, f"run_by_{order}")(xs, ops, rng=kit.rng_for(xs.shape[1]))
    up = torch.rand(out.shape, generator=torch.Generator().manual_seed(5))
    if out.requires_grad:
        (out * up).sum().backward()
    grads = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return out.detach(), grads


def close(mine, theirs, rounding=2e-5):
    assert mine.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert (mine[name] - grad).abs().max() <= rounding * max(grad.abs().max().item(), 1e-3), (
            name
        )


def orders(net):
    return ["time"] if net.spec.feedback else ["layer", "time"]


@pytest.mark.parametrize("constant", [False, True], ids=["changing", "constant"])
@pytest.mark.parametrize("name", NETS)
def test_a_net_on_kernels_is_the_net(name, constant):
    net, xs = weights_of(SpikingNet(NETS[name], IMAGE)).train(), inputs(constant)
    for order in orders(net):
        expected, theirs = ran(net, xs, "reference", order)
        with noted() as (calls, references):
            got, mine = ran(net, xs, "compiled", order)
        assert calls and not references
        assert torch.equal(got, expected)
        close(mine, theirs)
    assert expected.any() and any(grad.any() for grad in theirs.values())


@pytest.mark.parametrize("order", ["layer", "time"])
@pytest.mark.parametrize("name", ["pools", "a pool in a block", "a pool of three", "gains"])
@pytest.mark.parametrize("kernels", ["reference", "compiled"])
def test_a_pool_computed_with_the_unit_is_the_pool_behind_it(kernels, name, order):
    net, xs = weights_of(SpikingNet(NETS[name], IMAGE)), inputs()
    with noted() as (calls, _):
        together = ran(net, xs, kernels, order)
    assert max(calls) > 1
    apart_ops = Ops(synapse=lambda visit, x: visit.synapse(x))
    with noted() as (calls, _):
        apart = ran(net, xs, kernels, order, apart_ops)
    assert max(calls) == 1
    assert torch.equal(together[0], apart[0])
    close(together[1], apart[1])


def test_which_pools_are_computed_with_their_unit():
    found = {}
    for name, text in NETS.items():
        net = SpikingNet(text, IMAGE).train()
        with noted() as (calls, _):
            ran(net, inputs(), "reference", orders(net)[0])
        found[name] = sum(pool > 1 for pool in calls) // (5 if net.spec.feedback else 1)
    some = {"pools": 2, "a pool in a block": 2, "a pool of three": 1, "a pool of pools": 1}
    some |= {"gains": 2, "threshold": 2, "norms": 2, "joins": 0, "back": 1, "feedback": 0}
    some |= {"dropout": 0, "fresh dropout": 0, "low-pass": 0, "overlapping pools": 0}
    some |= {"feedback past a pool": 0, "a pool with more to do": 0, "a pool inside a join": 0}
    assert {name: found[name] for name in some} == some


@pytest.mark.parametrize("order", ["layer", "time"])
@pytest.mark.parametrize("name", ["pools", "joins", "back", "a tail", "dropout"])
def test_observers_see_the_same(name, order):
    net, xs = weights_of(SpikingNet(NETS[name], IMAGE)), inputs(constant=True)
    seen = {}
    for kernels in ("reference", "compiled"):
        watcher = kit.Recorder()
        with net.observe(watcher):
            out, _ = ran(net, xs, kernels, order)
        seen[kernels] = watcher.seen
        assert torch.equal(out, ran(net, xs, kernels, order)[0])  # looking changes nothing
    names = [one[0] for one in seen["reference"]]
    assert names == [one[0] for one in seen["compiled"]] and set(names) == {
        site.name for site in net.sites
    }
    for mine, theirs in zip(seen["compiled"], seen["reference"], strict=True):
        for one, other in zip(mine[1:], theirs[1:], strict=True):
            assert one is other is None or torch.equal(one, other)


@pytest.mark.parametrize("order", ["layer", "time"])
@pytest.mark.parametrize("name", ["pools", "joins", "a path beside"])
def test_bfloat16_products_around_float32_states(name, order):
    net, xs = weights_of(SpikingNet(NETS[name], IMAGE)), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        expected, theirs = ran(net, xs, "reference", order)
        with noted() as (calls, references):
            got, mine = ran(net, xs, "compiled", order)
    assert calls and not references
    assert torch.equal(got, expected)
    close(mine, theirs, 0.03)


@pytest.mark.parametrize("order", ["layer", "time"])
def test_in_evaluation(order):
    net, xs = weights_of(SpikingNet(NETS["dropout"], IMAGE)).eval(), inputs()
    with torch.no_grad():
        expected, _ = ran(net, xs, "reference", order)
        got, _ = ran(net, xs, "compiled", order)
    assert torch.equal(got, expected)


def test_states_cut_between_steps_are_cut():
    """The rule's `carry` acts between compiled steps as between others."""
    cut = Ops(carry=lambda visit, state: trains.map_state(state, torch.Tensor.detach))
    net, xs = weights_of(SpikingNet(NETS["pools"], IMAGE)), inputs()
    for order in ("layer", "time"):
        expected, theirs = ran(net, xs, "reference", order, cut)
        got, mine = ran(net, xs, "compiled", order, cut)
        assert torch.equal(got, expected)
        close(mine, theirs)
    _, whole = ran(net, xs, "compiled", "layer")
    assert any(not torch.allclose(whole[name], theirs[name]) for name in whole)


@pytest.mark.parametrize("layout", ["rows", "channels_last"])
@pytest.mark.parametrize("memory", ["plain", "saving"])
def test_kernels_in_every_other_choice(layout, memory):
    for name in ("pools", "joins", "back", "low-pass", "norms"):
        net, xs = weights_of(SpikingNet(NETS[name], IMAGE)).train(), inputs()
        net.execution = Execution(layout=layout, memory=memory)
        expected, theirs = ran(net, xs, "reference", "layer")
        with noted() as (calls, references):
            got, mine = ran(net, xs, "compiled", "layer")
        assert calls and not references and torch.equal(got, expected)
        close(mine, theirs)


def test_state_dicts_and_choices_do_not_meet():
    net = SpikingNet(NETS["plain"], IMAGE, execution=Execution(kernels="compiled"))
    assert net.state_dict().keys() == SpikingNet(NETS["plain"], IMAGE).state_dict().keys()
    with pytest.raises(ConfigError, match=r"^execution.kernels: expected one of .*got 'fast'"):
        Execution(kernels="fast")  # pyright: ignore


@pytest.mark.slow
@settings(max_examples=150)
@given(
    kit.exact_specs(), st.sampled_from([1, 2, 4]), st.booleans(), st.booleans(), st.integers(0, 99)
)
def test_any_net_on_kernels_is_the_net(spec, steps, training, constant, seed):
    net = kit.exact_net(spec, kit.EXACT_SHAPE, training=training, seed=seed)
    if any(site.norm is not None for site in net.sites):  # exact nets divide by exact powers
        net.eval()
    xs = kit.dyadic((1 if constant else steps, 3, *kit.EXACT_SHAPE), seed)
    xs = xs.expand(steps, *xs.shape[1:]) if constant else xs
    for order in ("layer", "time"):
        expected, theirs = ran(net, xs, "reference", order)
        got, mine = ran(net, xs, "compiled", order)
        assert torch.equal(got, expected)
        close(mine, theirs, 1e-9)
