"""Under every tool of torch a module is the same above the size from which kernels run as below."""

import importlib.util
import warnings

import pytest
import torch
import torchtools
from torch import nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves
from torchtools import Scaled, leaf

from spikeloom import SpikingNet
from spikeloom.base.errors import ConfigError, UnsupportedNet
from spikeloom.nets.execution import Execution
from spikeloom.nets.ops import Credited, Ops, cut
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons import trains
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.module import Neuron
from spikeloom.neurons.surrogate import Periodic, Sigmoid

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="no compiler is installed"
)

LEARNED = LIF(surrogate=Sigmoid(2.0), learn=("v_th", "alpha"))
MANY = LIF(
    v_th=0.5, max_spikes=None, v_min=-0.25, surrogate=Periodic(Sigmoid(2.0)), learn=("alpha",)
)
SMOOTH = LIF(surrogate=Sigmoid(2.0))
TEXT = 'c2{norm = "batch_all"} P [c2]x2 f4 f3'
IMAGES = (1, 4, 4)


def louder(module, times):
    """Make currents large enough to fire at every depth."""
    with torch.no_grad():
        for one in module.parameters():
            one.mul_(times)
    return module.double()


def own_module(unit=LEARNED):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), Neuron(unit), nn.Linear(4, 3)).double()


def from_text(kernels):
    net = SpikingNet(parse(TEXT, unit=SMOOTH), IMAGES, execution=Execution(kernels=kernels))
    return louder(net, 2)


def from_torch(kernels):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3, padding=1), Neuron(SMOOTH), nn.AvgPool2d(2), nn.Flatten()]
    net = SpikingNet.from_torch(nn.Sequential(*layers, nn.Linear(8, 3), Neuron(SMOOTH)), IMAGES)
    net.execution = Execution(kernels=kernels)
    return louder(net, 4)


def drawn(*shape):
    return 2 * torch.rand(3, 2, *shape, generator=torch.Generator().manual_seed(1)).double()


def made(kind, kernels, patch):
    """Return a module that runs on kernels, or on the reference, and an input."""
    if kind in ("own module", "several spikes"):  # they have no setting; size decides
        patch.setattr(trains, "WORTH", 0 if kernels == "compiled" else 1 << 40)
        return own_module(LEARNED if kind == "own module" else MANY), drawn(5)
    net = from_torch(kernels) if kind == "from_torch" else from_text(kernels)
    return net.train(kind != "from text, evaluation"), drawn(*IMAGES)


KINDS = ["own module", "several spikes", "from text", "from text, evaluation", "from_torch"]
CASES = [
    (name, kind)
    for name in torchtools.TOOLS
    for kind in KINDS
    if name != "compiled" or kind == "own module"  # nets: test_compile.py
]
IN_TRAINING = "from text"
STATISTICS = {
    *("func_grad", "func_jacrev", "func_jacfwd", "func_jvp", "func_vjp", "func_hessian"),
    *("func_grad_of_grad", "vmap", "vmap_in_vmap", "gradients_per_sample"),
}
"""What torch's batch norm refuses in training: its running statistics are written in place, and no
transform knows of them where they are not passed to `functional_call`."""


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_size_changes_nothing(name, kind, monkeypatch):
    if kind == IN_TRAINING and name == "third_derivative":
        pytest.skip("torch's batch norm takes its statistics for constants there; see below")
    results = []
    for kernels in ("reference", "compiled"):
        module, x = made(kind, kernels, monkeypatch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracers, about sizes that become constants
            if kind == IN_TRAINING and name in STATISTICS:
                with pytest.raises(RuntimeError, match="captured Tensor|running_mean"):
                    torchtools.TOOLS[name](module, x)
                continue
            found = torchtools.TOOLS[name](module, x)
        results.append([one.detach() for one in tree_leaves(found) if one is not None])
    if not results:
        return
    expected, got = results
    assert len(got) == len(expected) and any(bool(one.any()) for one in got)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


class Norm(nn.Module):
    """A batch norm in training, written out."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x):
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        scale, shift = (one.view(1, -1, 1, 1) for one in (self.weight, self.bias))
        return (x - mean) * torch.rsqrt(var + self.eps) * scale + shift


@pytest.mark.parametrize("name", ["double_backward", "third_derivative"])
def test_derivatives_through_statistics_in_a_kernel(name):
    net, x = from_text("compiled").train(), drawn(*IMAGES)
    got = torchtools.TOOLS[name](net, x)
    site = net.sites[0]
    site.norm = Norm(site.norm)
    net.execution = Execution(kernels="reference")
    leaves = {id(one) for one in net.parameters()}
    assert id(site.norm.weight) in leaves
    for mine, theirs in zip(got, torchtools.TOOLS[name](net, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


class TestRulesRefuseSecondDerivatives:
    """Their gradients are made by hand; a constant in their place would be silent."""

    def step(self, ops, kernels):
        net = from_text(kernels).eval()
        return net, net.stepper(ops)(drawn(*IMAGES)[0]).sum()

    @pytest.mark.parametrize("kernels", ["reference", "compiled"])
    def test_a_sum_of_weight_gradients(self, kernels):
        net, value = self.step(Ops(synapse=Credited()), kernels)
        with pytest.raises(
            UnsupportedNet, match=r"^nets.credit: expected first derivatives, got a"
        ):
            torch.autograd.grad(value, net.sites[0].synapse.bias, create_graph=True)

    @pytest.mark.parametrize("how", [{"create_graph": True}, {"is_grads_batched": True}])
    def test_a_step_that_keeps_one_value(self, how):
        net, value = self.step(Ops(carry=cut), "compiled")
        up = torch.ones(2, dtype=value.dtype) if "is_grads_batched" in how else None
        with pytest.raises(UnsupportedNet, match=r"^net.stepper: expected .*use net.step"):
            torch.autograd.grad(value, net.sites[0].synapse.bias, up, **how)

    def test_a_step_that_goes_on_elsewhere(self):
        net = from_text("compiled").eval()
        stepper = net.stepper(Ops(carry=cut))
        stepper(drawn(*IMAGES)[0])
        net.execution = Execution(kernels="reference")
        with pytest.raises(UnsupportedNet, match=r"^neurons.LIF: expected the next step on"):
            stepper(drawn(*IMAGES)[1])

    def test_a_bare_scan(self):
        scan = trains.compiled(SMOOTH, torch.ones(1)).scan
        x = leaf(drawn(4))
        out, _ = scan.run(x, [], [None], steps=len(x))
        with pytest.raises(UnsupportedNet, match=r"^kernels.scan: expected a first derivative"):
            torch.autograd.grad(out.sum(), x, create_graph=True)

    def test_a_credited_synapse_by_itself_has_them(self):
        synapse = from_text("reference").sites[0].synapse
        x, weight = leaf(drawn(*IMAGES)[0]), synapse.weight
        values = []
        for call in (synapse, lambda x: synapse.credited(x, x)):
            out = call(x)
            (of_x,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
            values.append(torch.autograd.grad(of_x.square().sum(), weight)[0])
        assert values[0].any()
        torch.testing.assert_close(*values)


def test_a_threshold_under_a_parametrization_keeps_its_bound():
    neuron = Neuron(LIF(learn=("v_th",), v_th_min=0.5))
    parametrize.register_parametrization(neuron, "raw_v_th", Scaled())
    with torch.no_grad():
        neuron.raw_v_th = torch.tensor(0.25)
    neuron.project()
    assert neuron.theta()["v_th"].item() == pytest.approx(0.5)


class Fixed(nn.Module):
    """A parametrization that cannot be set."""

    def forward(self, value):
        return 0.25 * value


def test_a_threshold_that_cannot_be_set_is_an_error():
    neuron = Neuron(LIF(learn=("v_th",), v_th_min=0.5))
    parametrize.register_parametrization(neuron, "raw_v_th", Fixed())
    with pytest.raises(ConfigError, match=r"^neurons.Neuron: expected v_th in \[0.5, inf\]"):
        neuron.project()
