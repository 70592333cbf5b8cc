"""Where a name of torch's is gone, or answers otherwise, results are the same: only slower."""

import threading
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from spikeloom.base import autograd
from spikeloom.base import torch_private as door
from spikeloom.base.errors import UnsupportedNet
from spikeloom.base.tracing import ordinary
from spikeloom.kernels.runs import TrainOptions
from spikeloom.meters.products import TrainingOperations, count_operations
from spikeloom.nets.execution import Execution
from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.ops import Credited, Ops, cut
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.trains import run_train


class Without:
    """A module of torch's without a name, which may lie in a module inside."""

    def __init__(self, module, path, otherwise=None):
        self.module, self.otherwise = module, otherwise
        self.first, _, self.rest = path.partition(".")

    def __getattr__(self, name):
        found = getattr(self.module, name)
        if name != self.first:
            return found
        if self.rest:
            return Without(found, self.rest, self.otherwise)
        if self.otherwise is None:
            raise AttributeError(name)
        return self.otherwise


def gone(self):
    raise AttributeError("gone")


def fails(*_):
    raise TypeError("takes other arguments")


IN_C = [
    "_autograd._get_current_graph_task_keep_graph",
    "_autograd._top_saved_tensors_default_hooks",
    "_functorch.peek_interpreter_stack",
    "_functorch.get_interpreter_stack",
    "_functorch.is_legacy_batchedtensor",
    "_len_torch_dispatch_stack",
    "_len_torch_function_stack",
    "_storage_Use_Count",
    "_get_tracing_state",
    "_current_autograd_node",
]
OF_TENSORS = ["_version", "_base", "_use_count", "_backward_hooks"]
OTHERS = ["level", "modes", "hook count", "global hooks", "release", "make_fx", "counts that stay"]
NAMES = [*IN_C, *(f"{name}, changed" for name in IN_C), *OF_TENSORS, *OTHERS]


@contextmanager
def without(name):
    """Take a name away inside the block, or let it fail ("changed")."""
    autograd._standard.cache_clear()
    plain, _, changed = name.partition(", ")
    with pytest.MonkeyPatch.context() as patch:
        if plain in IN_C:
            patch.setattr(door, "_C", Without(torch._C, plain, fails if changed else None))
        elif name in OF_TENSORS:
            patch.setattr(Tensor, name, property(gone), raising=False)
        elif name == "level":
            patch.setattr(door, "forward_ad", object())
        elif name == "modes":
            patch.setattr("torch.utils._python_dispatch._disable_current_modes", None)
            patch.delattr("torch.utils._python_dispatch._disable_current_modes")
        elif name == "hook count":
            patch.setattr(door, "RemovableHandle", object())
        elif name == "global hooks":
            patch.setattr(door, "_modules", object())
        elif name == "release":
            patch.setattr(
                "spikeloom.nets.module.credit.release_saved", lambda _: door.release_saved(0)
            )
        elif name == "make_fx":
            patch.delattr("torch.fx.experimental.proxy_tensor.make_fx")
        else:
            patch.setattr(autograd, "holders", lambda grads: (1, 1, 1))
        yield
    autograd._standard.cache_clear()


XS = torch.randint(0, 2, (5, 6, 2, 8, 8), generator=torch.Generator().manual_seed(0)).double()
OPS = {
    "bptt": (lambda: Ops(), "run_by_layer"),
    "cut": (lambda: Ops(carry=cut), "run_by_time"),
    "credit": (lambda: Ops(carry=cut, synapse=Credited()), "run_by_time"),
}


def gradients(rule):
    """Return outputs, gradients and buffers of a small net under one rule."""
    make, order = OPS[rule]
    ops = make()
    net = SpikingNet("c4 P f6 f3", (2, 8, 8), seed=1, execution=Execution(kernels="compiled"))
    net = net.double().train()
    out = getattr(net, order)(XS, ops)
    out.square().sum().backward()
    if isinstance(ops.synapse, Credited):
        ops.synapse.flush()
    return [out.detach(), *(one.grad for one in net.parameters()), *net.buffers()]


@pytest.fixture(scope="module")
def expected():
    return {rule: gradients(rule) for rule in OPS}


@pytest.mark.parametrize("rule", OPS)
@pytest.mark.parametrize("name", NAMES)
def test_results_are_the_same(name, rule, expected):
    with without(name):
        found = gradients(rule)
    assert expected[rule][0].any()
    for mine, theirs in zip(found, expected[rule], strict=True):
        assert mine is not None and theirs is not None
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-14)


SAFE = {
    "_autograd._get_current_graph_task_keep_graph": door.graph_is_kept,
    "_autograd._top_saved_tensors_default_hooks": door.kept_by_user,
    "_functorch.peek_interpreter_stack": door.transformed,
    "_functorch.get_interpreter_stack": door.functionalized,
    "_functorch.is_legacy_batchedtensor": lambda: door.in_batches(XS),
    "_len_torch_dispatch_stack": lambda: door.intercepted(object),
    "_len_torch_function_stack": lambda: door.intercepted(object),
    "_backward_hooks": lambda: door.waits(torch.ones(1, requires_grad=True)),
    "level": door.dual,
    "global hooks": lambda: door.hooked(nn.Linear(1, 1)),
}


@pytest.mark.parametrize("name", SAFE)
def test_the_safe_answer_is_yes(name):
    ask = SAFE[name]
    if name != "_autograd._get_current_graph_task_keep_graph":  # asked in backward passes only
        assert ask() is False
    with without(name):
        assert ask() is True
        if name in ("level", *(one for one in IN_C if "stack" in one and "get_inter" not in one)):
            assert not ordinary(XS)


@pytest.mark.parametrize("name", ["modes", "_storage_Use_Count", "_base", "counts that stay"])
def test_a_gradient_is_nobodys_only_where_counts_tell(name):
    assert autograd._standard()
    with without(name):
        assert autograd._standard() == ()


def test_a_version_that_is_not_counted_is_always_another():
    x = torch.zeros(2)
    before = door.version(x)
    assert door.version(x) == before
    x += 1
    assert door.version(x) != before
    with torch.inference_mode():
        frozen = torch.zeros(2)
    assert door.version(frozen) == door.version(frozen)
    with without("_version"):
        assert door.version(x) != door.version(x)


def test_hooks_made_is_always_another_without_a_count():
    assert door.hooks_made() == door.hooks_made()
    with without("hook count"):
        assert door.hooks_made() != door.hooks_made()


def test_a_transform_shows_in_what_it_makes():
    seen = []

    def look(x):
        seen.append(door.transformed(2 * x))
        return x.sum()

    for _ in range(2):
        torch.func.grad(look)(torch.ones(2))
    with without("_functorch.peek_interpreter_stack"):
        torch.func.grad(look)(torch.ones(2))
        torch.func.vmap(look)(torch.ones(2, 2))
        assert not door.transformed(torch.ones(2))
    assert seen == [True] * 4


def work(x):
    y = x @ torch.ones(4, 2)
    y.sum().backward()


def test_operations_are_counted_in_the_right_pass_without_the_running_node():
    x = torch.ones(3, 4, requires_grad=True)
    right = TrainingOperations(forward=24, backward=24)
    assert count_operations(lambda: work(x)) == right
    with without("_current_autograd_node"):
        assert count_operations(lambda: work(x)) == right
        assert count_operations(lambda: torch.autograd.grad((x @ torch.ones(4, 2)).sum(), x)) == (
            right
        )
        found = []
        thread = threading.Thread(target=lambda: found.append(door.in_backward()), name="Dummy-9")
        thread.start()
        thread.join()
    assert found == [True]


def test_modes_that_are_gone_are_refused_by_name():
    assert door._named("torch.nowhere", "Mode", door.NoModes) is door.NoModes
    assert door._named("torch", "NoMode", 3) == 3
    with pytest.raises(UnsupportedNet, match="expected a torch that shows its operators"):
        door.NoModes()


class Tables:
    """A module that keeps nothing where torch does now."""


def test_modules_that_keep_their_parts_elsewhere_are_refused():
    with pytest.raises(UnsupportedNet, match="Tables: expected a torch whose modules show"):
        door.hooks_of(Tables())
    with pytest.raises(UnsupportedNet, match="Tables: expected a torch whose modules keep"):
        door.share_tables(nn.Linear(1, 1), Tables())


class Elsewhere:
    """A module whose children are found by a walk alone."""

    def __init__(self, module):
        self.named_modules = module.named_modules


def test_children_twice_over_are_found_without_their_table():
    layer = nn.Sequential(nn.Linear(2, 2))
    module = nn.Sequential(layer, nn.ReLU(), layer)
    expected = door.children_of(module)
    assert [name for name, _ in expected] == ["0", "1", "2"]
    assert door.children_of(Elsewhere(module)) == expected


def test_a_pruned_tensor_is_told_by_its_mask():
    layer = prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5)
    (hook,) = door.hooks_of(layer)
    answers = [door.prunes(hook, layer, name) for name in ("weight", "bias")]
    del hook._tensor_name
    assert answers == [door.prunes(hook, layer, name) for name in ("weight", "bias")]
    assert answers == [True, False]


def test_what_torch_compile_made_is_known_by_either_name():
    class OptimizedModule(nn.Module):
        pass

    compiled = OptimizedModule()
    assert door.made_by_compile(compiled) and not door.made_by_compile(nn.Linear(1, 1))
    plain = nn.Linear(1, 1)
    plain._orig_mod = None
    assert door.made_by_compile(plain)


def test_a_kept_graph_is_copied_where_torch_does_not_say(monkeypatch):
    """The currents of a spent train are not overwritten then, with equal gradients."""

    def run():
        leaf = (2 * XS).requires_grad_()
        currents = leaf * 1
        kept = currents.detach().clone()
        options = TrainOptions(spent=True, final=False)
        out, _ = run_train(LIF(), currents, {}, kernels="compiled", options=options)
        out.square().sum().backward()
        return leaf.grad, torch.equal(currents.detach(), kept)

    grad, left = run()
    assert not left  # overwritten
    with without("_autograd._get_current_graph_task_keep_graph"):
        other, left = run()
    assert left and torch.equal(grad, other)
