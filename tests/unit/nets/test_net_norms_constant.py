"""A constant train is normalised once, and as torch's batch norm normalises all of its steps."""

import copy

import netkit as kit
import pytest
import torch
from torch import nn

from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.module.norms import over_copies, step_after_step
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.leaky import LIF
from spikeloom.program.joint_norm import JointNorm

SHAPES = {"linear": (3, 5), "one sample": (1, 5), "maps": (2, 5, 3, 3), "one map": (1, 5, 2, 2)}
MOMENTA = pytest.mark.parametrize("momentum", [0.1, 0.3, None])
SHAPED = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
T = 7


def norm_for(shape, momentum):
    norm = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(5, momentum=momentum).double()
    draw = kit.generator()
    with torch.no_grad():
        for one in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            one.add_(torch.rand(5, generator=draw))
    return norm


def apart(mine, theirs):
    return max((one - other).abs().max().item() for one, other in zip(mine, theirs, strict=True))


def moved(norm, apply, shape):
    """Apply a norm twice; return results, gradients and buffers."""
    found = []
    for seed in (1, 2):
        draw = torch.Generator().manual_seed(seed)
        x = torch.rand(shape, generator=draw, dtype=torch.float64).requires_grad_()
        up = torch.rand(T, *shape, generator=draw, dtype=torch.float64)
        norm.zero_grad()
        out = apply(norm, x)
        (out * up).sum().backward()
        found += [out.detach(), x.grad, norm.weight.grad.clone(), norm.bias.grad.clone()]
    return found, [one.double() for one in norm.buffers()]


def expanded(norm, x):
    """Torch's own norm on all steps at once."""
    return norm(x.expand(T, *x.shape).flatten(0, 1)).unflatten(0, (T, -1))


@SHAPED
@MOMENTA
def test_all_steps_at_once(shape, momentum):
    mine = norm_for(shape, momentum)
    theirs = copy.deepcopy(mine)

    def once(norm, x):
        return over_copies(norm, x, T).expand(T, *x.shape)

    found, buffers = moved(mine, once, shape)
    expected, kept = moved(theirs, expanded, shape)
    assert apart(found, expected) < 1e-11 and apart(buffers, kept) < 1e-14
    assert mine.momentum == momentum and mine.num_batches_tracked == 2


@pytest.mark.parametrize("name", ["linear", "maps", "one map"])
@MOMENTA
def test_step_after_step(name, momentum):
    shape = SHAPES[name]
    mine = norm_for(shape, momentum)
    theirs = copy.deepcopy(mine)
    once = lambda norm, x: step_after_step(norm, x, T).expand(T, *x.shape)  # noqa: E731
    found, buffers = moved(mine, once, shape)
    each = lambda norm, x: torch.stack([norm(x) for _ in range(T)])  # noqa: E731
    expected, kept = moved(theirs, each, shape)
    assert apart(found, expected) < 1e-11 and apart(buffers, kept) < 1e-14
    assert mine.momentum == momentum and mine.num_batches_tracked == 2 * T


@SHAPED
@MOMENTA
def test_a_norm_over_several_processes(shape, momentum):
    """Here for one process; `tests/unit/program/test_program_processes.py` has two."""
    plain = norm_for(shape, momentum)
    joint = JointNorm(copy.deepcopy(plain))  # pyright: ignore[reportArgumentType]
    joint.joint = False
    found, buffers = moved(
        joint, lambda norm, x: over_copies(norm, x, T).expand(T, *x.shape), shape
    )
    expected, kept = moved(plain, expanded, shape)
    assert apart(found, expected) < 1e-11 and apart(buffers, kept) < 1e-14


def test_statistics_that_are_not_tracked_or_do_not_move_stay():
    untracked = norm_for((2, 5), 0.1)
    untracked.track_running_stats = False
    still = norm_for((2, 5), 0.0)
    for norm in (untracked, still):
        before = norm.running_mean.clone(), norm.running_var.clone()
        for apply in (over_copies, step_after_step):
            apply(norm, torch.rand(2, 5, dtype=torch.float64), T)
        assert torch.equal(norm.running_mean, before[0])
        assert torch.equal(norm.running_var, before[1])
    assert untracked.num_batches_tracked == 0
    bare = nn.BatchNorm1d(5, track_running_stats=False)
    assert over_copies(bare, torch.rand(2, 5), T).shape == (2, 5)
    assert step_after_step(bare, torch.rand(2, 5), T).shape == (2, 5)


def test_a_backward_pass_may_come_after_the_next_update():
    norm = norm_for((2, 5), 0.1)
    x = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    first, second = norm(x), over_copies(norm, x, T)
    (first.sum() + second.square().sum()).backward()


def test_an_error_inside_leaves_the_norm_as_it_was():
    norm = norm_for((2, 5), 0.1)
    kept = norm.running_var
    for apply in (over_copies, step_after_step):
        with pytest.raises(RuntimeError):
            apply(norm, torch.rand(2, 4, dtype=torch.float64), T)
        assert norm.running_var is kept and norm.momentum == 0.1


@pytest.mark.parametrize("kernels", ["reference", "compiled"])
@pytest.mark.parametrize(("norm", "batch"), [("batch_all", 1), ("batch_all", 2), ("batch_step", 2)])
@pytest.mark.parametrize("text", ["f6 f5 f3", "c4 P c3 f3", "c4k4p0 f3"])
def test_nets_take_a_view_and_a_copy_alike(norm, batch, text, kernels):
    """The copy is normalised by torch, all steps together or one after the other."""
    spec = parse(text, unit=LIF(alpha=0.5), norm=norm)
    net = SpikingNet(spec, (2, 4, 4), execution=Execution(kernels="reference")).double()
    for one in net.plan.norms.values():
        nn.init.uniform_(one.bias, 0.6, 0.9, generator=kit.generator())  # near the threshold, 1
    twin = copy.deepcopy(net)
    net.execution = Execution(kernels=kernels)  # pyright: ignore[reportArgumentType]
    x = torch.rand(batch, 2, 4, 4, generator=kit.generator(), dtype=torch.float64)
    train = x.expand(10, *x.shape)
    for one, xs in ((net, train), (twin, train.clone())):
        out = one.run_by_layer(xs)
        (out * torch.linspace(0, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    theirs = dict(twin.named_parameters())
    for name, one in net.named_parameters():
        torch.testing.assert_close(one.grad, theirs[name].grad, rtol=1e-11, atol=1e-11)
    kept = dict(twin.named_buffers())
    for name, value in net.named_buffers():
        torch.testing.assert_close(value, kept[name], rtol=1e-13, atol=1e-14)
