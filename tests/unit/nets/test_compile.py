"""Compiled, in low precision, copied and saved nets are the same nets."""

import copy

import netkit as kit
import pytest
import torch
from safetensors.torch import load_model, save_model

from spikeloom.nets.module.net import SpikingNet
from spikeloom.nets.spec.grammar import parse
from spikeloom.neurons.base import map_state
from spikeloom.neurons.leaky import LIF
from spikeloom.neurons.surrogate import Sigmoid

TEXT = (
    'c4{unit = "relu"} P [c4{psp = {decay = 0.5}}]x2{join = "add"} '
    'f8{unit = {name = "lif", beta = 0.5, refractory = 1, learn = ["alpha", "v_th"]}} f3'
)


def trained_step(run, net, xs):
    """Return the output and all gradients of one pass."""
    net.zero_grad()
    out = run(xs)
    out.square().sum().backward()
    return out, [value.grad.clone() for value in net.parameters()]


def compare(net, xs, **options):
    torch._dynamo.reset()
    expected = trained_step(net, net, xs)
    got = trained_step(torch.compile(net, fullgraph=True, **options), net, xs)
    torch.testing.assert_close(got[0], expected[0])
    for ours, plain in zip(got[1], expected[1], strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert any(grad.abs().sum() > 0 for grad in expected[1])


class TestCompile:
    def test_inductor(self):
        """The real compiler on a net small enough for a test."""
        net = SpikingNet(parse("c2 P f3", unit=LIF(surrogate=Sigmoid(1.0))), (1, 4, 4))
        compare(net, 2 * torch.rand(2, 2, 1, 4, 4, generator=kit.generator()))

    @pytest.mark.parametrize(
        "text",
        [
            "c4 P [c4]x2 f8 f3",
            TEXT,
            '{feedback = [{source = 1, target = 0, layers = "U c4", delay = 2}]} c4 P f3',
        ],
    )
    def test_whole_graph_is_captured(self, text):
        """No graph breaks, in layer order and in time order; compiled by torch's own operators."""
        net = SpikingNet(parse(text, unit=LIF(surrogate=Sigmoid(1.0))), (2, 8, 8))
        compare(net, torch.rand(3, 2, 2, 8, 8, generator=kit.generator()), backend="aot_eager")


def tensors_of(state):
    """Return all tensors of a NetState by field."""
    units: list[torch.Tensor] = []
    for one in state.units.values():
        map_state(one, lambda value: units.append(value) or value)
    return units, [*state.psp.values()]


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("run", ["run_by_time", "run_by_layer"])
    def test_type_is_kept(self, dtype, run):
        net = SpikingNet(TEXT, (2, 8, 8)).to(dtype)
        out = getattr(net, run)(torch.rand(3, 2, 2, 8, 8, dtype=dtype))
        assert out.dtype == dtype
        _, state = net.step(torch.rand(2, 2, 8, 8, dtype=dtype), None)
        assert {value.dtype for part in tensors_of(state) for value in part} == {dtype}
        out.sum().backward()
        assert {v.grad.dtype for v in net.parameters() if v.grad is not None} == {dtype}

    def test_state_stays_float32_under_autocast(self):
        net = SpikingNet(TEXT, (2, 8, 8))
        state = None
        with torch.autocast("cpu", torch.bfloat16):
            for x in torch.rand(3, 2, 2, 8, 8):
                out, state = net.step(x, state)
                assert {value.dtype for value in tensors_of(state)[0]} == {torch.float32}
            assert net.sites[0].synapse(x).dtype == torch.bfloat16  # the products are low
            assert out.isfinite().all()
            layered = net(torch.rand(3, 2, 2, 8, 8))
        assert layered.isfinite().all()
        layered.sum().backward()
        grads = [value.grad for value in net.parameters() if value.grad is not None]
        assert grads and all(g.dtype == torch.float32 and g.isfinite().all() for g in grads)

    def test_state_stays_float32_in_a_low_precision_net(self):
        net = SpikingNet("c4 P f8 f3", (2, 8, 8)).bfloat16()
        out, state = net.step(torch.rand(2, 2, 8, 8, dtype=torch.bfloat16), None)
        units, _ = tensors_of(state)
        assert {value.dtype for value in units} == {torch.float32} and out.isfinite().all()
        out.sum().backward()
        assert {value.grad.dtype for value in net.parameters()} == {torch.bfloat16}

    @pytest.mark.parametrize("spec", ["c4", "t4", "f4"])
    def test_credit_in_low_precision(self, spec):
        synapse = SpikingNet(f"{spec} f3", (2, 8, 8)).bfloat16().sites[0].synapse
        x, trace = torch.rand(2, 3, 2, 8, 8).unbind(0)
        synapse.credited(x, trace).sum().backward()
        assert synapse.weight.grad.dtype == torch.bfloat16 and synapse.weight.grad.isfinite().all()

    def test_both_orders_agree_under_autocast(self):
        net = kit.exact_net("c4 P c4 f8 f3", (2, 8, 8)).float()
        xs = kit.dyadic((3, 2, 2, 8, 8)).float()
        with torch.autocast("cpu", torch.bfloat16):
            by_time, by_layer = net.run_by_time(xs), net.run_by_layer(xs)
        assert by_time.dtype == by_layer.dtype
        assert (by_time != by_layer).float().mean() < 0.05  # a spike may flip on rounding


FULL = (
    '{feedback = [{source = 1, target = 0, layers = "U c6", restrict = 0.5, mask = '
    '{density = 0.5}}]} c6{norm = "batch_step"} P [c8]x2{fit = "drop"} c4{norm = "weight"} f3'
)


class TestCopies:
    def net(self, seed=0):
        net = SpikingNet(FULL, (2, 8, 8), seed=seed)
        for _ in range(2):  # move the running statistics and power iterations
            net(torch.rand(2, 2, 2, 8, 8, generator=kit.generator(seed)))
        return net.eval()

    xs = torch.rand(3, 2, 2, 8, 8, generator=kit.generator(9))

    def test_deepcopy_is_equal_and_apart(self):
        net = self.net()
        twin = copy.deepcopy(net)
        assert torch.equal(net(self.xs), twin(self.xs))
        assert twin.sites == twin.plan.sites
        ours, theirs = ({id(value) for value in one.parameters()} for one in (net, twin))
        assert not ours & theirs
        known = {id(module) for module in twin.modules()}
        assert all(id(site.synapse) in known for site in twin.sites)
        with torch.no_grad():
            next(twin.parameters()).add_(1.0)
        assert not torch.equal(net(self.xs), twin(self.xs))

    def test_state_dict_round_trip(self):
        first, second = self.net(1), self.net(2)
        assert not torch.equal(first(self.xs), second(self.xs))
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(self.xs), second(self.xs))

    def test_safetensors_round_trip(self, tmp_path):
        first, second = self.net(1), self.net(2)
        save_model(first, tmp_path / "net.safetensors")
        load_model(second, tmp_path / "net.safetensors")
        assert torch.equal(first(self.xs), second(self.xs))

    def test_shared_weights_are_stored_once(self):
        names = SpikingNet("[c2 c2]x5 f3", (2, 8, 8)).state_dict()
        assert sum(name.endswith("weight") for name in names) == 2

    def test_moves_as_one(self):
        net = self.net().double()
        assert net(self.xs.double()).dtype == torch.float64
        assert all(value.dtype == torch.float64 for value in net.parameters())
