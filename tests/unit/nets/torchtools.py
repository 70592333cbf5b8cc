"""What torch can do to a module, each as a function of the module and an input: tensors out."""

import copy
import io

import torch
import torch.autograd.forward_ad as forward
from torch import func, nn
from torch.autograd import functional, grad
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, parametrize
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

TOOLS = {}
"""All of them by name."""


def tool(call):
    TOOLS[call.__name__] = call
    return call


def loss(module, x):
    return module(x).square().sum()


def trained(module):
    return {name: one.detach() for name, one in module.named_parameters()}


def loss_of(module, values, x):
    return func.functional_call(module, values, (x,)).square().sum()


def leaf(x):
    return x.clone().requires_grad_()


# derivatives by autograd


@tool
def first(module, x):
    return grad(loss(module, x), [*module.parameters()])


@tool
def double_backward(module, x):
    """Of a linear loss too, whose gradients are not of the output's value."""
    x = leaf(x)
    leaves = [x, *module.parameters()]
    found = []
    for value in (module(x).sum(), loss(module, x)):
        grads = grad(value, leaves, create_graph=True)
        found += grads
        found += grad(sum(one.square().sum() for one in grads), leaves, allow_unused=True)
    return found


@tool
def third_derivative(module, x):
    x = leaf(x)
    (one,) = grad(loss(module, x), x, create_graph=True)
    (two,) = grad(one.square().sum(), x, create_graph=True)
    return grad(two.square().sum(), x)


@tool
def a_pass_without_a_graph_and_one_with(module, x):
    x = leaf(x)
    value = loss(module, x)
    plain = grad(value, x, retain_graph=True)
    (one,) = grad(value, x, create_graph=True)
    return [*plain, one, *grad(one.square().sum(), x)]


@tool
def two_backward_passes(module, x):
    value, leaves = loss(module, x), [*module.parameters()]
    return [*grad(value, leaves, retain_graph=True), *grad(value, leaves)]


@tool
def jacobian(module, x):
    return functional.jacobian(lambda x: module(x).sum((0, 1)), x)


@tool
def jacobian_in_batches(module, x):
    return functional.jacobian(lambda x: module(x).sum((0, 1)), x, vectorize=True)


@tool
def hessian_in_batches(module, x):
    return functional.hessian(lambda x: loss(module, x), x[:, :1], vectorize=True)


@tool
def gradients_in_batches(module, x):
    x = leaf(x)
    out = module(x)
    up = torch.eye(out.numel(), dtype=out.dtype)[:3].view(3, *out.shape)
    return grad(out, [x, *module.parameters()], up, is_grads_batched=True)


@tool
def tangents(module, x):
    with forward.dual_level():
        return tuple(forward.unpack_dual(module(forward.make_dual(x, torch.ones_like(x)))))


@tool
def tangents_without_gradients(module, x):
    with torch.no_grad():
        return tangents(module, x)


@tool
def anomaly_mode(module, x):
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        return double_backward(module, x)


@tool
def saved_tensors_looked_at(module, x):
    """What a hook keeps stays as it was."""
    kept = []

    def keep(saved):
        kept.append(saved)
        return saved

    with saved_tensors_hooks(keep, lambda saved: saved):
        value = loss(module, x)
    before = [saved.clone() for saved in kept]
    found = grad(value, [*module.parameters()])
    assert kept and all(map(torch.equal, kept, before))
    return found


@tool
def checkpoints(module, x):
    found = []
    for reentrant in (True, False):
        start = leaf(x)
        checkpoint(module, start, use_reentrant=reentrant).square().sum().backward()
        found.append(start.grad)
    return found


@tool
def double_backward_of_a_checkpoint(module, x):
    x = leaf(x)
    (one,) = grad(checkpoint(module, x, use_reentrant=False).square().sum(), x, create_graph=True)
    return grad(one.square().sum(), x)


# torch.func


@tool
def func_grad(module, x):
    return func.grad(lambda values: loss_of(module, values, x))(trained(module))


@tool
def func_jacrev(module, x):
    return func.jacrev(lambda x: module(x).sum((0, 1)))(x)


@tool
def func_jacfwd(module, x):
    return func.jacfwd(lambda x: module(x).sum((0, 1)))(x)


@tool
def func_jvp(module, x):
    return func.jvp(module, (x,), (torch.ones_like(x),))


@tool
def func_vjp(module, x):
    out, back = func.vjp(module, x)
    return out, back(torch.ones_like(out))


@tool
def func_hessian(module, x):
    """Forward over reverse."""
    return func.hessian(lambda x: loss(module, x))(x[:, :1])


@tool
def func_grad_of_grad(module, x):
    inner = func.grad(lambda x: loss(module, x))
    return func.grad(lambda x: inner(x).square().sum())(x)


@tool
def vmap(module, x):
    return func.vmap(module)(torch.stack([x, 0.5 * x]))


@tool
def vmap_in_vmap(module, x):
    return func.vmap(func.vmap(module))(torch.stack([x, 0.5 * x]).unsqueeze(0))


@tool
def gradients_per_sample(module, x):
    def of_one(values, x):
        return loss_of(module, values, x.unsqueeze(1))

    return func.vmap(func.grad(of_one), in_dims=(None, 1))(trained(module), x)


@tool
def an_ensemble(module, x):
    members = [copy.deepcopy(module) for _ in range(2)]
    with torch.no_grad():
        for one in members[1].parameters():
            one.mul_(1.25)
    values, buffers = func.stack_module_state(members)

    def of_one(values, buffers):
        return func.functional_call(module, (values, buffers), (x,)).square().sum()

    call = func.vmap(func.grad_and_value(of_one))
    return call({name: one.detach() for name, one in values.items()}, buffers)


@tool
def functional_call(module, x):
    return func.functional_call(module, {n: 1.1 * one for n, one in trained(module).items()}, (x,))


@tool
def functionalize(module, x):
    return func.functionalize(lambda x: module(x))(x)


# graphs


@tool
def jit_trace(module, x):
    """The recording is checked by torch, saved, loaded, and differentiated."""
    recorded, file = torch.jit.trace(module, (x,)), io.BytesIO()
    torch.jit.save(recorded, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for one in (recorded, loaded):
        torch.testing.assert_close(one(0.9 * x), module(0.9 * x))
    return double_backward(loaded, 0.9 * x)


@tool
def proxies(module, x):
    def recorded(**how):
        return make_fx(lambda x: module(x), _allow_non_fake_inputs=True, **how)(x)

    ways = ({}, {"pre_dispatch": True}, {"tracing_mode": "fake"})
    return [recorded(**how)(0.9 * x) for how in ways]


@tool
def proxies_of_a_gradient(module, x):
    def gradient(x):
        x = x.detach().requires_grad_()
        return grad(loss(module, x), x)[0]

    return make_fx(gradient)(x)(0.9 * x)


@tool
def meta_device(module, x):
    out = copy.deepcopy(module).to("meta")(x.to("meta"))
    return torch.tensor(out.shape).double()


@tool
def export(module, x):
    return torch.export.export(copy.deepcopy(module).eval(), (x,)).module()(0.9 * x)


@tool
def compiled(module, x):
    torch._dynamo.reset()
    call = torch.compile(module, fullgraph=True, backend="aot_eager")
    return grad(loss(call, x), [*module.parameters()])


# what may stand in a tensor's or a module's place


class Scaled(nn.Module):
    """A parametrization that can be set."""

    def forward(self, value):
        return 1.1 * value

    def right_inverse(self, value):
        return value / 1.1


def owners(module):
    """Return the modules that own the parameters: a net made by from_torch reads its user's."""
    link = getattr(module, "link", None)
    return [*(module if link is None else link.module).modules()]


@tool
def parametrized(module, x):
    module = copy.deepcopy(module)
    for part in owners(module):
        for name, _ in [*part.named_parameters(recurse=False)]:
            parametrize.register_parametrization(part, name, Scaled())
    return [module(x), *first(module, x)]


@tool
def weight_norm(module, x):
    module = copy.deepcopy(module)
    for part in owners(module):
        if isinstance(getattr(part, "weight", None), nn.Parameter) and part.weight.dim() > 1:
            parametrizations.weight_norm(part)
    return [module(x), *first(module, x)]


class Marked(torch.Tensor):
    """A subclass whose results are of its kind."""


@tool
def a_subclass(module, x):
    out = module(x.as_subclass(Marked))
    assert type(out) is Marked
    return out.as_subclass(torch.Tensor)


class Noting(TorchDispatchMode):
    """Sees operators."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class NotingFunctions(TorchFunctionMode):
    """Sees torch's functions."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


@tool
def modes(module, x):
    """They see every spike at every size."""
    found = []
    for kind in (Noting, NotingFunctions):
        with kind() as mode:
            found.append(module(x))
        fired = [one for one in mode.seen if getattr(one, "__name__", "").startswith("ge")]
        found.append(torch.tensor(float(len(fired))))
    return found


@tool
def a_default_device(module, x):
    with torch.device("cpu"):
        return first(module, x)
